"""Rates that kernels come to: FLOP/s of a phase's arithmetic, bytes per second of its memory traffic.

On a CPU the kernels are those of NumPy. A matrix product of extents m ≤ n and k comes to the share m/(m + 2) ·
n/(n + 8) · k/(k + 24) of the peak, other arithmetic to a fifth of it, fast Fourier transforms to a twentieth; memory is
moved at run/(run + 32 bytes) of the bandwidth where an inner loop goes over `run` bytes. The constants were fitted to
OpenBLAS and NumPy 2.4 on one AVX-512 core (`benchmarks/choice.py` prints the fit).

On a GPU a matrix product is computed in tiles, one a multiprocessor at a time. Its share of the peak is that of the
tile, times the part of the tiles that holds results, times the part of the last wave of tiles in which multiprocessors
work (NVIDIA, *Matrix multiplication background user's guide*: tile and wave quantisation), times k/(k + 32) for filling
and emptying; products with few tiles and a large k are cut along k. The library is taken to choose the best tile. How
many multiprocessors there are is the `cores` of the device; where that is not known, a smooth formula stands for it.
Everything else reaches a share of the peak or bandwidth: see `GPU`.
"""

from __future__ import annotations

from dlc.cluster.topology import Device
from dlc.cost.phases import Phase
from dlc.ops.extents import larger, smaller

HALF_PEAK = (2.0, 8.0, 24.0)
"""Extents m, n, k of a matrix product at which each one alone halves the rate of NumPy."""

VECTOR_SHARE, TRANSFORM_SHARE = 0.2, 0.05
"""Shares of a CPU's peak that element-wise arithmetic and Fourier transforms reach."""

HALF_BANDWIDTH_RUN = 32.0
"""Bytes of an inner loop at which half of a CPU's bandwidth is reached."""

GPU = {
    "matrix": 0.8,
    "tensor": 0.7,
    "vector": 0.3,
    "transform": 0.15,
    "memory": 0.8,
}
"""Shares of a GPU's peaks that its libraries reach on large operands.

`matrix` products by ordinary arithmetic and `tensor` by tensor cores: of the peak for the element type; `vector`
element-wise arithmetic and `transform` Fourier transforms: of the peak in f32; `memory`: of the bandwidth. They were
set by hand from what users of cuBLAS and of the STREAM benchmark commonly report, and `transform` by the AlexNet rows
of convnet-benchmarks (`tests/published/test_convnet_benchmarks.py`)."""

TENSOR_TYPES = ("f16", "bf16", "tf32")
"""Element types that tensor cores multiply, where a device has a peak of its own for them."""

TILES = ((128, 128, 1.0), (64, 128, 0.85), (64, 64, 0.7), (32, 32, 0.4))
"""Rows and columns of a tile of a matrix product, and the share of the rate that a multiprocessor reaches with it: a
smaller tile reads more of its operands for each product."""

SPLIT_K, HALF_K = 256, 32
"""Least k of a part where a product is cut along k, and the k at which filling and emptying take half of the time."""

HALF_GPU = (16.0, 32.0, 32.0, 32.0)
"""Where the number of multiprocessors is not known: extents m ≤ n, k and number of tiles of 64 x 64 that halve the
rate."""


def arithmetic_rate(part: Phase, dtype: str, device: Device) -> float:
    """FLOP/s of a phase; ValueError for a matrix product without extents."""
    if part.unit in ("matrix", "plain"):
        if part.extents is None:
            raise ValueError("a matrix phase has extents")
        if device.kind == "cpu":
            return device.peak(dtype) * gemm_efficiency(*part.extents)
        return _gpu_peak(part, dtype, device) * part.share * gpu_efficiency(*part.extents, part.products, device.cores)
    if device.kind == "cpu":
        return device.peak(dtype) * (VECTOR_SHARE if part.unit == "vector" else TRANSFORM_SHARE)
    return device.peak("f64" if dtype == "f64" else "f32") * GPU[part.unit]


def memory_rate(run: float, device: Device) -> float:
    """Bytes per second of a phase that finds `run` bytes together."""
    if device.kind == "cpu":
        return device.bandwidth / (1.0 + HALF_BANDWIDTH_RUN / run)
    return device.bandwidth * GPU["memory"]


def gemm_efficiency(m: int, n: int, k: int) -> float:
    """The share of a CPU's peak that a product of an m x k by a k x n matrix reaches; symmetric in m and n."""
    m, n = smaller(m, n), larger(m, n)
    return m / (m + HALF_PEAK[0]) * n / (n + HALF_PEAK[1]) * k / (k + HALF_PEAK[2])


def gpu_efficiency(m: int, n: int, k: int, products: int = 1, multiprocessors: int = 1) -> float:
    """The same of a GPU, for so many products of these extents by one kernel; 1 multiprocessor stands for unknown."""
    m, n = smaller(m, n), larger(m, n)
    if multiprocessors == 1:
        tiles = products * larger(1.0, m / 64) * larger(1.0, n / 64) * larger(1.0, k / (2 * SPLIT_K))
        return (
            (m / (m + HALF_GPU[0]))
            * (n / (n + HALF_GPU[1]))
            * (k / (k + HALF_GPU[2]))
            * (tiles / (tiles + HALF_GPU[3]))
        )
    best = 0.0
    for rows, columns, share in TILES:
        best = larger(best, share * _useful(m, n, k, products, multiprocessors, rows, columns))
    return best


def _useful(m: int, n: int, k: int, products: int, multiprocessors: int, rows: int, columns: int) -> float:
    """The part of the multiprocessors' time that goes into results, with tiles of `rows` x `columns`."""
    tiles = -(-m // rows) * -(-n // columns) * products
    parts = larger(1, smaller(multiprocessors // tiles, k // SPLIT_K))
    waves = -(-tiles * parts // multiprocessors)
    room = waves * multiprocessors * rows * columns
    return products * parts * m * n / room * k / (k + HALF_K * parts)


def _gpu_peak(part: Phase, dtype: str, device: Device) -> float:
    """Of matrix products, by tensor cores where the device has them for the type and the kernel can use them."""
    plain = device.peak("f64" if dtype == "f64" else "f32")
    if part.unit == "plain" or dtype not in TENSOR_TYPES or device.peak(dtype) <= plain:
        return plain * GPU["matrix"]
    return device.peak(dtype) * GPU["tensor"]
