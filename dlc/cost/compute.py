"""Seconds of one kernel on one device: a roofline for each phase of the kernel, plus the price of its calls.

A phase takes max(flops / (peak · efficiency), bytes / (bandwidth · share)) + calls · overhead:

* a matrix product of extents m ≤ n and k comes to the share m/(m + 2) · n/(n + 8) · k/(k + 24) of the peak; other
  arithmetic to a fifth of it, fast Fourier transforms to a twentieth;
* memory is moved at run/(run + 32 bytes) of the bandwidth where an inner loop goes over `run` bytes;
* a NumPy call costs 1 µs before it does anything (kind `cpu`), a kernel of another device its `launch`.

The constants were fitted to OpenBLAS and NumPy 2.4 on one AVX-512 core (`benchmarks/choice.py` prints the fit). Where a
profile of the device has points, they take the place of the formulas.
"""

from __future__ import annotations

from typing import Literal

from dlc.cluster.topology import Device
from dlc.cost.phases import Phase, conversion, phases
from dlc.cost.profile import Profile
from dlc.ir.plan import Figure
from dlc.ir.tensor import TensorType
from dlc.ops.extents import larger, nothing, smaller
from dlc.ops.operator import Operator, Shapes

Source = Literal["measured", "interpolated", "analytic"]

HALF_PEAK = (2.0, 8.0, 24.0)
"""Extents m, n, k of a matrix product at which each one alone halves the rate."""

VECTOR_SHARE, TRANSFORM_SHARE = 0.2, 0.05
"""Shares of the peak that element-wise arithmetic and Fourier transforms reach."""

HALF_BANDWIDTH_RUN = 32.0
"""Bytes of an inner loop at which half of the bandwidth is reached."""

NUMPY_CALL = 1e-6
"""Seconds of a NumPy call on small arrays: finding the loop, checking shapes and strides."""


def seconds(
    operator: Operator,
    stage: str,
    shapes: Shapes,
    algorithm: str,
    layout: str,
    device: Device,
    profile: Profile | None = None,
) -> Figure:
    """The time of one pass (`forward`, `dx`, `dw`, `sum`, `update`, …) of an op on operands of these shapes.

    `algorithm` is "" where the op has no choice, `layout` "" where it has no image. The element type is that of the
    shapes. ValueError where the algorithm has no model.
    """
    if profile is not None:
        measured = profile.kernel(operator.name, stage, algorithm, layout, shapes)
        if measured is not None:
            return measured
    return priced(phases(operator, stage, shapes, algorithm, layout), element_type(shapes), device, profile)


def conversion_seconds(type_: TensorType, device: Device, profile: Profile | None = None) -> float:
    """The time to copy a value from one layout to another."""
    return priced((conversion(type_),), type_.dtype, device, profile).seconds


def priced(parts: tuple[Phase, ...], dtype: str, device: Device, profile: Profile | None = None) -> Figure:
    """The sum over phases; the bound is what most of the time goes to."""
    spent = {"compute": 0.0, "memory": 0.0, "launch": 0.0}
    for part in parts:
        arithmetic, traffic, launch = spans(part, dtype, device, profile)
        spent["memory" if traffic > arithmetic else "compute"] += max(arithmetic, traffic)
        spent["launch"] += launch
    total = spent["compute"] + spent["memory"] + spent["launch"]
    source: Source = "interpolated" if profile is not None and profile.interpolates else "analytic"
    if spent["launch"] >= max(spent["compute"], spent["memory"]):
        return Figure(total, source, "launch")
    return Figure(total, source, "memory" if spent["memory"] > spent["compute"] else "compute")


def spans(part: Phase, dtype: str, device: Device, profile: Profile | None = None) -> tuple[float, float, float]:
    """Seconds of a phase's arithmetic, of its memory traffic, which goes on at the same time, and of its calls."""
    return (
        0.0 if nothing(part.flops) else part.flops / _rate(part, dtype, device, profile),
        0.0 if nothing(part.bytes) else part.bytes / _bandwidth(part.run, device, profile),
        part.calls * overhead(device, profile),
    )


def overhead(device: Device, profile: Profile | None = None) -> float:
    """Seconds of one call besides its work."""
    if profile is not None and profile.call is not None:
        return profile.call
    return device.launch + (NUMPY_CALL if device.kind == "cpu" else 0.0)


def gemm_efficiency(m: int, n: int, k: int) -> float:
    """The share of the peak that a product of an m x k by a k x n matrix reaches; symmetric in m and n."""
    m, n = smaller(m, n), larger(m, n)
    return m / (m + HALF_PEAK[0]) * n / (n + HALF_PEAK[1]) * k / (k + HALF_PEAK[2])


def _rate(part: Phase, dtype: str, device: Device, profile: Profile | None) -> float:
    """FLOP/s of a phase."""
    peak = device.peak(dtype)
    if part.unit == "vector":
        return peak * VECTOR_SHARE
    if part.unit == "transform":
        return peak * TRANSFORM_SHARE
    if part.extents is None:
        raise ValueError("a matrix phase has extents")
    measured = profile.gemm_rate(dtype, *part.extents) if profile is not None else None
    return measured if measured is not None else peak * gemm_efficiency(*part.extents)


def _bandwidth(run: float, device: Device, profile: Profile | None) -> float:
    """Bytes per second of a phase that finds `run` bytes together."""
    measured = profile.bandwidth_of(run) if profile is not None else None
    if measured is not None:
        return measured
    return device.bandwidth / (1.0 + HALF_BANDWIDTH_RUN / run)


def element_type(shapes: Shapes) -> str:
    """The element type that a kernel computes in: that of its first floating-point operand."""
    types = (*shapes.inputs, *shapes.outputs)
    return next((t.dtype for t in types if t.dtype.startswith(("f", "tf", "bf"))), "f32")
