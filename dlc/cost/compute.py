"""Seconds of one kernel on one device: a roofline for each phase of the kernel, plus the price of its calls.

A phase takes max(flops / rate, bytes / bandwidth) + calls · overhead, by the rates of `dlc.cost.rates`. What the phases
are depends on the kind of the device: those of NumPy's kernels on a CPU (`dlc.cost.phases`), those of libraries such as
cuDNN elsewhere (`dlc.cost.gpu`). A NumPy call costs 1 µs before it does anything, a kernel of another device its
`launch`. Where a profile of the device has tables, they take the place of the formulas, and where it has samples of a
kernel, these say by how much longer it takes than its phases.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, NamedTuple

from dlc.cluster.topology import Device
from dlc.cost.c_kernels import c_phases, vector_bytes
from dlc.cost.factors import LANES, Factors, Place, fitted, place
from dlc.cost.gpu import gpu_phases
from dlc.cost.phases import Phase, conversion, phases
from dlc.cost.profile import COLD_BYTES, Profile, Sample
from dlc.cost.rates import arithmetic_rate, memory_rate
from dlc.ir.plan import ANALYTIC_SPREAD, Figure
from dlc.ir.tensor import TensorType
from dlc.ops import operator as operator_of
from dlc.ops.extents import chosen, larger, nothing, smaller
from dlc.ops.operator import Operator, Shapes

Source = Literal["measured", "interpolated", "analytic"]
Bound = Literal["compute", "memory", "launch"]

CONVERT = "convert"
"""How samples of copies from one layout to another are called."""

NUMPY_CALL = 1e-6
"""Seconds of a NumPy call on small arrays: finding the loop, checking shapes and strides."""


class Sums(NamedTuple):
    """What phases come to, in seconds: `compute` and `memory` where one of the two takes longer, and `launch`.

    `arithmetic` and `traffic` are all that is computed and moved, whichever takes longer.
    """

    compute: float
    memory: float
    launch: float
    arithmetic: float
    traffic: float

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.compute + self.memory + self.launch

    def place(self, inner: int = LANES) -> Place:
        """Where a kernel with these phases and this innermost extent stands among those that were measured."""
        return place(self.seconds, self.arithmetic, self.traffic, inner)


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
        measured = profile.kernel(operator.name, stage, algorithm, layout, shapes, device)
        if measured is not None:
            if profile.crowding(device.cores) == 1.0:
                return measured
            parts = kernel(operator, stage, shapes, algorithm, layout, device, profile)
            return replace(measured, seconds=measured.seconds * crowded(parts, element_type(shapes), device, profile))
    parts = kernel(operator, stage, shapes, algorithm, layout, device, profile)
    found = summed(parts, element_type(shapes), device, profile)
    known = factors(operator.name, stage, algorithm, layout, device, profile)
    alone = figure(found, profile, known, inner_extent(shapes, layout))
    return replace(alone, seconds=alone.seconds * crowded(parts, element_type(shapes), device, profile))


def crowded(parts: tuple[Phase, ...], dtype: str, device: Device, profile: Profile | None) -> float:
    """How many times longer these phases take beside the machine's other ranks than alone, which is how kernels are
    measured: memory is shared, arithmetic is not.
    """
    crowding = 1.0 if profile is None or device.kind != "cpu" else profile.crowding(device.cores)
    if crowding == 1.0:
        return 1.0
    alone = summed(parts, dtype, device, profile).seconds
    return larger(1.0, summed(parts, dtype, device, profile, crowding).seconds / larger(alone, 1e-30))


def kernel(
    operator: Operator,
    stage: str,
    shapes: Shapes,
    algorithm: str,
    layout: str,
    device: Device,
    profile: Profile | None = None,
) -> tuple[Phase, ...]:
    """The phases of one pass of an op as the device's kernels compute it; ValueError where there is no such kernel.

    Kernels in C have vectors of the device's `isa`, or of the machine that the profile was measured on.
    """
    if device.kind == "cpu" and device.kernels == "c":
        known = device.isa or ("" if profile is None else dict(profile.fingerprint).get("instructions", ""))
        return c_phases(operator, stage, shapes, algorithm, layout, vector_bytes(known))
    of = gpu_phases if device.kind != "cpu" else phases
    return of(operator, stage, shapes, algorithm, layout)


def conversion_seconds(type_: TensorType, device: Device, profile: Profile | None = None) -> float:
    """The time to copy a value from one layout to another."""
    parts = (conversion(type_),)
    found = summed(parts, type_.dtype, device, profile)
    alone = figure(found, profile, factors(CONVERT, "forward", "", "", device, profile)).seconds
    return alone * crowded(parts, type_.dtype, device, profile)


def priced(parts: tuple[Phase, ...], dtype: str, device: Device, profile: Profile | None = None) -> Figure:
    """The sum over phases; the bound is what most of the time goes to."""
    alone = figure(summed(parts, dtype, device, profile), profile)
    return replace(alone, seconds=alone.seconds * crowded(parts, dtype, device, profile))


def figure(found: Sums, profile: Profile | None = None, known: Factors | None = None, inner: int = LANES) -> Figure:
    """The time of a kernel with these sums: times the factor of those that were measured, where there are any."""
    factor = 1.0 if known is None else known.at(found.place(inner))
    spread = ANALYTIC_SPREAD if profile is None else profile.spread if known is None else known.spread
    source: Source = "interpolated" if known or (profile is not None and profile.interpolates) else "analytic"
    bound: Bound = "memory" if found.memory > found.compute else "compute"
    if found.launch >= max(found.compute, found.memory):
        bound = "launch"
    return Figure(found.seconds * factor, source, bound, spread)


def summed(
    parts: tuple[Phase, ...], dtype: str, device: Device, profile: Profile | None = None, crowding: float = 1.0
) -> Sums:
    """The phases' sums, where memory takes `crowding` times as long; extents that are arrays give arrays."""
    compute = memory = launch = arithmetic = traffic = 0.0
    for part in parts:
        computed, moved, called = spans(part, dtype, device, profile)
        moved = moved * crowding
        # of the two that go on at the same time the longer one counts
        compute += chosen(moved > computed, 0.0, computed)
        memory += chosen(moved > computed, moved, 0.0)
        launch, arithmetic, traffic = launch + called, arithmetic + computed, traffic + moved
    return Sums(compute, memory, launch, arithmetic, traffic)


def factors(
    op: str, stage: str, algorithm: str, layout: str, device: Device, profile: Profile | None
) -> Factors | None:
    """What the profile's samples of a kernel say of it at other shapes; None where there are none."""
    if profile is None:
        return None
    key = (op, stage, algorithm, layout, device)
    if key not in profile.factors:
        samples = profile.alike(op, stage, algorithm, layout, device)
        fits = [fit for fit in (_fit(sample, device, profile) for sample in samples) if fit is not None]
        profile.factors[key] = fitted([where for where, _ in fits], [factor for _, factor in fits]) if fits else None
    return profile.factors[key]


def inner_extent(shapes: Shapes, layout: str) -> int:
    """How many values of an op's smallest image lie together along the innermost axis; that of a vector without one."""
    axis = {"NCHW": 3, "NHWC": 1, "CHWN": 0}.get(layout)
    if axis is None:
        return LANES
    images = [t.axes[axis].extent for t in (*shapes.inputs, *shapes.outputs) if len(t.axes) == 4 and t.batched]
    found = LANES
    for extent in images:
        found = smaller(found, extent)
    return found


def _fit(sample: Sample, device: Device, profile: Profile) -> tuple[Place, float] | None:
    """Where a sample stands, and how much longer it took than its phases in so many threads; None without phases.

    A kernel in C that stands in for one of NumPy took so much longer than the phases of C, not those of NumPy.
    """
    rated = profile.rated(device, sample.threads)
    if sample.kernels == "c" and device.kernels != "c":
        rated = replace(rated, kernels="c")
    if sample.op == CONVERT:
        parts: tuple[Phase, ...] = (conversion(sample.shapes.inputs[0]),)
    else:
        op = operator_of(sample.op)
        if op is None:
            return None
        parts = kernel(op, sample.stage, sample.shapes, sample.algorithm, sample.layout, rated, profile)
    rated = replace(rated, cores=sample.threads) if device.kind == "cpu" else rated
    found = summed(parts, element_type(sample.shapes), rated, profile)
    return found.place(inner_extent(sample.shapes, sample.layout)), sample.seconds / found.seconds


def spans(part: Phase, dtype: str, device: Device, profile: Profile | None = None) -> tuple[float, float, float]:
    """Seconds of a phase's arithmetic, of its memory traffic, which goes on at the same time, and of its calls."""
    rated = device if profile is None else profile.rated(device, device.cores)
    return (
        0.0 if nothing(part.flops) else part.flops / _rate(part, dtype, rated, profile),
        0.0 if nothing(part.bytes) else part.bytes / _bandwidth(part.run, rated, profile),
        part.calls * overhead(device, profile),
    )


def overhead(device: Device, profile: Profile | None = None) -> float:
    """Seconds of one call besides its work."""
    if profile is not None and profile.call is not None:
        return profile.call
    return device.launch + (NUMPY_CALL if device.kind == "cpu" else 0.0)


def looked_at(device: Device, profile: Profile | None = None) -> float:
    """Seconds for which a call that updates several weights looks at the arrays of one more: as NumPy does for a call.
    GPUs are given a table of them."""
    return overhead(device, profile) if device.kind == "cpu" else 0.0


def step_work(device: Device, profile: Profile | None = None) -> Figure:
    """The time of a step that no instruction takes; 0 where that was not measured, and of devices other than
    processors, whose hosts do it while kernels run."""
    if device.kind != "cpu" or profile is None or profile.own is None:
        return Figure(0.0, bound="launch")
    return Figure(profile.own.step, "measured", "launch", profile.own.spread)


def call_work(moved: float, profile: Profile | None = None) -> float:
    """Seconds for which Python looks up what a call on so many bytes is given; 0 where that was not measured.

    An array of them gives one for each.
    """
    if profile is None or profile.own is None:
        return 0.0
    return profile.own.call + profile.own.cold * smaller(1.0, moved / COLD_BYTES)


def load_work(profile: Profile | None = None) -> float:
    """Seconds of reading samples into one array besides those of moving their bytes."""
    return 0.0 if profile is None or profile.own is None else profile.own.load


def _rate(part: Phase, dtype: str, device: Device, profile: Profile | None) -> float:
    """FLOP/s of a phase. BLAS works in one thread beside kernels in C, which have theirs."""
    alone = device.kind == "cpu" and device.kernels == "c" and device.cores > 1 and part.unit == "matrix"
    threads = 1 if alone else device.cores
    if profile is not None and part.unit == "matrix" and part.extents is not None:
        m, n, k = part.extents
        if device.kind != "cpu":  # products that one kernel makes fill the device together
            m, n = smaller(m, n) * part.products, larger(m, n)
        measured = profile.gemm_rate(dtype, m, n, k, threads=threads)
        if measured is not None:
            return measured * part.share
    return arithmetic_rate(part, dtype, device) / (device.cores if alone else 1)


def _bandwidth(run: float, device: Device, profile: Profile | None) -> float:
    """Bytes per second of a phase that finds `run` bytes together."""
    measured = profile.bandwidth_of(run, device.cores) if profile is not None else None
    return memory_rate(run, device) if measured is None else measured


def element_type(shapes: Shapes) -> str:
    """The element type that a kernel computes in: that of its first floating-point operand."""
    types = (*shapes.inputs, *shapes.outputs)
    return next((t.dtype for t in types if t.dtype.startswith(("f", "tf", "bf"))), "f32")
