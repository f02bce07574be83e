"""Rates that kernels come to: FLOP/s of a phase's arithmetic, bytes per second of its memory traffic.

On a CPU the kernels are those of NumPy. A matrix product of extents m ≤ n and k comes to the share m/(m + 2) ·
n/(n + 8) · k/(k + 24) of the peak, other arithmetic to a fifth of it, fast Fourier transforms to a twentieth; memory is
moved at run/(run + 32 bytes) of the bandwidth where an inner loop goes over `run` bytes. The constants were fitted to
OpenBLAS and NumPy 2.4 on one AVX-512 core (docs/decisions/0002).

On a GPU a matrix product is computed in tiles of its result, one a multiprocessor at a time, and the library chooses
their extents. Its share of the peak is the product of four: r·c/(r·c + (r + c)·h) for the operands that a tile of r x c
reads, the part of the tiles that holds results, the part of the last wave of tiles in which multiprocessors work
(NVIDIA, *Matrix multiplication background user's guide*: tile and wave quantisation), and k/(k + 32) for filling and
emptying. Products with few tiles and a large k are cut along k. How many multiprocessors there are is the `cores` of
the device; where that is not known, a smooth formula stands in. Everything else reaches a share of the peak or of the
bandwidth.
"""

from __future__ import annotations

from typing import cast

from dlc.cluster.topology import Device
from dlc.cost.phases import Phase
from dlc.ops.extents import larger, single, smaller

HALF_PEAK = (2.0, 8.0, 24.0)
"""Extents m, n, k of a matrix product at which each one alone halves the rate of NumPy."""

VECTOR_SHARE, TRANSFORM_SHARE = 0.2, 0.05
"""Shares of a CPU's peak that element-wise arithmetic and Fourier transforms reach."""

HALF_BANDWIDTH_RUN = 32.0
"""Bytes of an inner loop at which half of a CPU's bandwidth is reached."""

GPU = {"vector": 0.3, "transform": 0.15, "memory": 0.8}
"""Shares that a GPU's kernels reach on large operands: of the peak in f32 for element-wise arithmetic and for Fourier
transforms, of the bandwidth for memory. Set by hand: for memory after what copies in the STREAM benchmark commonly come
to, for transforms with AlexNet in convnet-benchmarks in view (`tests/published/test_convnet_benchmarks.py`)."""

HALF_INTENSITY = {"plain": 16, "tensor": 27}
"""r·c/(r + c) of a tile, multiply-adds for each value that it reads, at which half of the peak is reached: a tile of
128 x 128 comes to 0.8 of the peak in ordinary arithmetic and to 0.7 with tensor cores, as is commonly reported of large
products by cuBLAS."""

TENSOR_TYPES = ("f16", "bf16", "tf32")
"""Element types that tensor cores multiply, where a device has a peak of its own for them."""

TILES = ((128, 128), (64, 128), (64, 64), (32, 64), (16, 128), (8, 128))
"""Rows and columns of the tiles that a library may choose, for a result that has no more rows than columns."""

SPLIT_K, HALF_K = 512, 32
"""Least k of a part where a product is cut along k, and the k at which filling and emptying take half of the time."""

HALF_TILES = 32.0
"""Where the number of multiprocessors is not known: the tiles of 64 x 64 that keep half of the device busy."""


def arithmetic_rate(part: Phase, dtype: str, device: Device) -> float:
    """FLOP/s of a phase; ValueError for a matrix product without extents."""
    if part.unit == "register":
        return device.peak(dtype) * part.share
    if part.unit == "alone":
        return device.peak(dtype) / max(1, device.cores) * part.share
    if part.unit not in ("matrix", "plain"):
        if device.kind == "cpu":
            return device.peak(dtype) * (VECTOR_SHARE if part.unit == "vector" else TRANSFORM_SHARE)
        return ordinary_peak(dtype, device) * GPU[part.unit]
    if part.extents is None:
        raise ValueError("a matrix phase has extents")
    if device.kind == "cpu":
        return device.peak(dtype) * gemm_efficiency(*part.extents)
    peak, half = ordinary_peak(dtype, device), HALF_INTENSITY["plain"]
    if part.unit == "matrix" and dtype in TENSOR_TYPES and device.peak(dtype) > peak:
        peak, half = device.peak(dtype), HALF_INTENSITY["tensor"]
    return peak * part.share * gpu_efficiency(*part.extents, part.products, device.cores, half)


def memory_rate(run: float, device: Device) -> float:
    """Bytes per second of a phase that finds `run` bytes together."""
    if device.kind == "cpu":
        return device.bandwidth / (1.0 + HALF_BANDWIDTH_RUN / run)
    return device.bandwidth * GPU["memory"]


def gemm_efficiency(m: int, n: int, k: int) -> float:
    """The share of a CPU's peak that a product of an m x k by a k x n matrix reaches; symmetric in m and n."""
    m, n = smaller(m, n), larger(m, n)
    return m / (m + HALF_PEAK[0]) * n / (n + HALF_PEAK[1]) * k / (k + HALF_PEAK[2])


def gpu_efficiency(
    m: int, n: int, k: int, products: int = 1, multiprocessors: int = 1, half: float = HALF_INTENSITY["plain"]
) -> float:
    """The same of a GPU, for so many products of these extents by one kernel.

    1 multiprocessor stands for an unknown number of them; `half` is the intensity that halves the rate.
    """
    m, n = smaller(m, n), larger(m, n)
    if multiprocessors == 1:
        return _smooth(m, n, k, products, half)
    if single(m, n, k, products):
        return max(_tiled(m, n, k, products, multiprocessors, half, rows, columns) for rows, columns in TILES)
    import numpy as np

    every = _tiled(m, n, k, products, multiprocessors, half, *np.array(TILES).T[:, :, None])
    return cast("float", np.max(every, axis=0))


def _tiled(m: int, n: int, k: int, products: int, multiprocessors: int, half: float, rows: int, columns: int) -> float:
    """The share with tiles of `rows` x `columns`."""
    tiles = -(-m // rows) * -(-n // columns) * products
    parts = larger(1, smaller(multiprocessors // tiles, k // SPLIT_K))
    waves = -(-tiles * parts // multiprocessors)
    useful = products * m * n * parts / (waves * multiprocessors * rows * columns)
    return useful / (1 + half * (rows + columns) / (rows * columns)) / (1 + HALF_K * parts / k)


def _smooth(m: int, n: int, k: int, products: int, half: float) -> float:
    """The share with tiles as large as the result, up to 128 x 128, and a hundred multiprocessors or so."""
    rows, columns = smaller(m, 128), smaller(n, 128)
    tiles = products * larger(1.0, m / 64) * larger(1.0, n / 64) * larger(1.0, k / SPLIT_K)
    return tiles / (tiles + HALF_TILES) / (1 + half * (rows + columns) / (rows * columns)) / (1 + HALF_K / k)


def ordinary_peak(dtype: str, device: Device) -> float:
    """FLOP/s without tensor cores: half precision is computed in f32."""
    return device.peak("f64" if dtype == "f64" else "f32")
