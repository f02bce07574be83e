"""Seconds of one kernel on one device: a roofline for each phase of the kernel, plus the price of its calls.

A phase takes max(flops / rate, bytes / bandwidth) + calls · overhead, by the rates of `dlc.cost.rates`. What the phases
are depends on the kind of the device: those of NumPy's kernels on a CPU (`dlc.cost.phases`), those of libraries such as
cuDNN elsewhere (`dlc.cost.gpu`). A NumPy call costs 1 µs before it does anything, a kernel of another device its
`launch`. Where a profile of the device has points, they take the place of the formulas.
"""

from __future__ import annotations

from typing import Literal

from dlc.cluster.topology import Device
from dlc.cost.c_kernels import c_phases
from dlc.cost.gpu import gpu_phases
from dlc.cost.phases import Phase, conversion, phases
from dlc.cost.profile import Profile
from dlc.cost.rates import arithmetic_rate, memory_rate
from dlc.ir.plan import Figure
from dlc.ir.tensor import TensorType
from dlc.ops.extents import nothing
from dlc.ops.operator import Operator, Shapes

Source = Literal["measured", "interpolated", "analytic"]

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
    return priced(kernel(operator, stage, shapes, algorithm, layout, device), element_type(shapes), device, profile)


def kernel(
    operator: Operator, stage: str, shapes: Shapes, algorithm: str, layout: str, device: Device
) -> tuple[Phase, ...]:
    """The phases of one pass of an op as the device's kernels compute it; ValueError where there is no such kernel."""
    of = gpu_phases if device.kind != "cpu" else c_phases if device.kernels == "c" else phases
    return of(operator, stage, shapes, algorithm, layout)


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


def _rate(part: Phase, dtype: str, device: Device, profile: Profile | None) -> float:
    """FLOP/s of a phase."""
    if profile is not None and part.unit == "matrix" and part.extents is not None:
        measured = profile.gemm_rate(dtype, *part.extents)
        if measured is not None:
            return measured * part.share
    return arithmetic_rate(part, dtype, device)


def _bandwidth(run: float, device: Device, profile: Profile | None) -> float:
    """Bytes per second of a phase that finds `run` bytes together."""
    measured = profile.bandwidth_of(run) if profile is not None else None
    return memory_rate(run, device) if measured is None else measured


def element_type(shapes: Shapes) -> str:
    """The element type that a kernel computes in: that of its first floating-point operand."""
    types = (*shapes.inputs, *shapes.outputs)
    return next((t.dtype for t in types if t.dtype.startswith(("f", "tf", "bf"))), "f32")
