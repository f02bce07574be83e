"""Measured figures of a machine, and what lies between them. Times in seconds, rates per second, sizes in bytes.

`dlc calibrate` writes a profile, a JSON file (`dlc.cost.profile_json` reads it), and `profile = "profile.json"` in a
device uses it. It has

* `rates`: what so many threads reach at most, which takes the place of the device's own peak and bandwidth;
* `usual`: how fast the machine was in the median, to which all of it was brought;
* `call`: what a call costs besides its work; `own`: what a step does besides all kernels; `bandwidth` by the run, the
  bytes that lie together; `gemm`: rates of matrix products over a grid of extents;
* `kernels`: how long kernels took on certain shapes;
* `messages`: how long collectives took among processes of this machine.

That of a GPU (`dlc calibrate --gpu`) is of `kind` gpu: `call` is what a kernel costs in a CUDA graph besides its work,
`launch` what it costs when it is launched by itself, `copies` are those between the device and pinned memory of its
host, messages begin and end on devices, and `rates` tell of all multiprocessors, in the place of threads.

A kernel measured on these very shapes and attributes counts as `measured`. Another is priced by its phases, with
`rate` of a matrix product linearly between neighbours in the logarithms of m, n and k, `rate` of memory in that of the
run; above a table its edge's rate, below it its edge's time: a weight is read whole for one sample as for six. What
comes out is multiplied by how much longer than that the samples of the same kernel took that are most like it
(`dlc.cost.factors`). A table that is missing leaves the analytic formula in place.

A `spread` says how far what was measured lay from what the others of its kind say of it: a prediction of t seconds
stands for t/(1 + spread) to t·(1 + spread). The interval of a sum is the sum of the intervals, the worst case: the same
formulas and tables price every kernel of a network, so their errors are no independent draws that would cancel out.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

from dlc.cluster.topology import Device
from dlc.cost.factors import Factors
from dlc.ir.graph import Attr
from dlc.ir.plan import ANALYTIC_SPREAD, Figure
from dlc.ops.blocks import BLOCKED
from dlc.ops.extents import entry, following, larger, log2, smaller
from dlc.ops.operator import Shapes

KernelKey = tuple[str, str, str, str, tuple[str, ...], tuple[tuple[str, Attr], ...]]
"""op, pass, algorithm, layout, input types as printed, attributes sorted by name."""


@dataclass(frozen=True, slots=True)
class Rates:
    """What so many threads reach at most: FLOP/s by element type, bytes per second read and written."""

    threads: int
    compute: tuple[tuple[str, float], ...]
    bandwidth: float


@dataclass(frozen=True, slots=True)
class GemmTable:
    """Measured FLOP/s of matrix products over a grid: `rate[i][j][l]` belongs to m[i], n[j], k[l]."""

    dtype: str
    m: tuple[int, ...]
    n: tuple[int, ...]
    k: tuple[int, ...]
    rate: tuple[tuple[tuple[float, ...], ...], ...]
    threads: int = 1
    _flat: array[float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_flat", array("d", (r for plane in self.rate for row in plane for r in row)))

    def at(self, m: int, n: int, k: int) -> float:
        """The rate between the eight neighbours of (m, n, k); below the least extents the time there."""
        along = [_neighbours(points, at) for points, at in ((self.m, m), (self.n, n), (self.k, k))]
        found = 0.0
        for (i, a), (j, b), (l, c) in product(*along):
            found += a * b * c * entry(self._flat, (i * len(self.n) + j) * len(self.k) + l)
        for points, extent in ((self.m, m), (self.n, n), (self.k, k)):
            found *= smaller(1.0, extent / points[0])
        return found


@dataclass(frozen=True, slots=True)
class Sample:
    """A kernel that was measured: of which family ("" for any), by how many threads, on what, and its time.

    `cold` is its time where steps drive what it needs out of the caches, 0 where that is no other.
    """

    op: str
    stage: str
    algorithm: str
    layout: str
    shapes: Shapes
    seconds: float
    spread: float = 0.0
    kernels: str = ""
    threads: int = 1
    cold: float = 0.0

    @property
    def key(self) -> KernelKey:
        """What tells it from other kernels, its family and threads apart."""
        return _key(self.op, self.stage, self.algorithm, self.layout, self.shapes)


@dataclass(frozen=True, slots=True)
class Messages:
    """Seconds of a collective among so many processes of this machine by the bytes of its operand, rising.

    `algorithm` is "" where the collective has no choice; `spread` that of its measurements.
    """

    kind: str
    algorithm: str
    ranks: int
    seconds: tuple[tuple[float, float], ...]  # (bytes, seconds)
    spread: float = 0.0


@dataclass(frozen=True, slots=True)
class Copied:
    """Seconds of copies `to` a device from pinned memory, or back `from` it, by their bytes, rising."""

    way: str
    seconds: tuple[tuple[float, float], ...]  # (bytes, seconds)


@dataclass(frozen=True, slots=True)
class Own:
    """What an emitted program does besides its kernels, in seconds of one thread.

    `step` of a whole step; `call` of each call, whose arguments Python looks up, and `cold` more where the operands
    drive Python's own memory out of the caches; `load` of each input or field that samples are read into, `decode`
    more where they are stored as bytes, and `cast` of each value that is; `gather` of each value where samples lie
    innermost, which is taken by itself.
    """

    step: float
    call: float = 0.0
    cold: float = 0.0
    load: float = 0.0
    spread: float = 0.0
    cast: float = 0.0
    decode: float = 0.0
    gather: float = 0.0


@dataclass(frozen=True, slots=True)
class Usual:
    """How fast the machine was in the median over its calibration: seconds of a small matrix product, of a copy and of
    a call, which were read beside everything that was timed; `spread` is that of the products."""

    products: float
    copies: float
    calls: float
    spread: float = 0.0


COLD_BYTES, LAST_BYTES = 2**21, 2**25
"""What drives everything else out of a core's own caches, and out of that which it shares with others."""

LAST_SHARE = 0.25
"""What a kernel in C finds in the cache that cores share takes about so much of the time that it takes from memory;
of NumPy's kernels Python's own code and objects are what is cold, as of calls."""

OWN_BYTES = 2**19
"""Operands of a kernel that a core's own cache has room for; larger ones are found in the shared one at best."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One machine's measurements; empty tables say nothing."""

    device: str
    call: float | None = None
    bandwidth: tuple[tuple[float, float], ...] = ()  # (run, rate), by rising run
    gemm: tuple[GemmTable, ...] = ()
    samples: tuple[Sample, ...] = ()
    spread: float = ANALYTIC_SPREAD
    rates: tuple[Rates, ...] = ()
    messages: tuple[Messages, ...] = ()
    fingerprint: tuple[tuple[str, str], ...] = ()
    own: Own | None = None
    kind: str = "cpu"
    launch: float | None = None
    copies: tuple[Copied, ...] = ()
    usual: Usual | None = None
    beside: int = 1  # ranks that compute at once in the machine's memory
    _kernels: dict[KernelKey, list[Sample]] = field(init=False, repr=False, compare=False)
    _by_pass: dict[tuple[str, str], list[Sample]] = field(init=False, repr=False, compare=False)
    _rated: dict[tuple[Device, int], Device] = field(init=False, repr=False, compare=False)
    factors: dict[tuple[str, str, str, str, Device], Factors | None] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        known, by_pass = dict[KernelKey, list[Sample]](), dict[tuple[str, str], list[Sample]]()
        for sample in self.samples:
            known.setdefault(sample.key, []).append(sample)
            by_pass.setdefault((sample.op, sample.stage), []).append(sample)
        for name, value in (("_kernels", known), ("_by_pass", by_pass), ("_rated", {}), ("factors", {})):
            object.__setattr__(self, name, value)

    def in_steps(self, moved: float, stored: float = 0.0, values: float = 0.0) -> Profile:
        """The profile for a network whose steps go over so many bytes: what its kernels and Python find in the caches
        is what a step leaves there. Of the arrays that samples are read into the share `stored` is stored as bytes,
        and in the mean over all so many `values`.
        """
        share, shared = min(1.0, moved / COLD_BYTES), min(1.0, moved / LAST_BYTES)

        def found(each: Sample) -> Sample:
            if not each.cold:
                return each
            bytes_ = sum(type_.bytes for type_ in (*each.shapes.inputs, *each.shapes.outputs))
            inner = share if each.kernels != "c" else LAST_SHARE * share + (1.0 - LAST_SHARE) * shared
            evicted = inner if bytes_ <= OWN_BYTES else shared
            more = evicted * (each.cold - each.seconds)
            return replace(each, seconds=each.seconds + more, cold=0.0)

        samples = tuple(map(found, self.samples))
        own = self.own and replace(
            self.own,
            call=self.own.call + share * self.own.cold,
            cold=0.0,
            load=self.own.load + stored * self.own.decode + values * self.own.cast,
            cast=0.0,
            decode=0.0,
        )
        return replace(self, samples=samples, own=own)

    @property
    def interpolates(self) -> bool:
        """Whether it has a table to interpolate in."""
        return bool(self.bandwidth or self.gemm or self.rates)

    def kernel(self, op: str, stage: str, algorithm: str, layout: str, shapes: Shapes, device: Device) -> Figure | None:
        """The time measured for exactly this kernel, these shapes and attributes, with the device's threads."""
        for found in self._kernels.get(_key(op, stage, algorithm, layout, shapes), ()):
            threads = device.cores if device.kind == "cpu" else found.threads
            if found.kernels in ("", device.kernels) and found.threads == threads:
                return Figure(found.seconds, "measured", "compute", found.spread)
        return None

    def measures(self, op: str, stage: str, algorithm: str, layout: str) -> bool:
        """Whether this kernel was measured on any shapes."""
        return any(s.algorithm == algorithm and s.layout == layout for s in self._by_pass.get((op, stage), ()))

    def alike(self, op: str, stage: str, algorithm: str, layout: str, device: Device) -> list[Sample]:
        """The samples that say most of a kernel.

        They are of its algorithm, and of its layout and the device's family if there are such; of so many threads as
        the device has or else the next number below. Nothing is measured in blocks of channels: those in NHWC stand for
        it, whose innermost loops are the same.
        """
        layout = "NHWC" if layout in BLOCKED else layout
        found = [each for each in self._by_pass.get((op, stage), ()) if each.algorithm == algorithm]
        own = ("", device.kernels)
        ways = ((own, (layout,)), (None, (layout,)), (own, None), (None, None))
        for families, layouts in ways:
            kept = [
                each for each in found
                if (families is None or each.kernels in families) and (layouts is None or each.layout in layouts)
            ]  # fmt: skip
            threads = max((each.threads for each in kept if each.threads <= max(1, device.cores)), default=0)
            if threads:
                return [each for each in kept if each.threads == threads]
        return []

    def rated(self, device: Device, threads: int) -> Device:
        """The device with what so many of its threads were measured to reach, or the next number of them below.

        Of a GPU the number of multiprocessors, where the cluster does not say.
        """
        known = self._rated.get((device, threads))
        if known is None:
            rates = max((r for r in self.rates if r.threads <= max(1, threads)), key=lambda r: r.threads, default=None)
            known = device
            if rates is not None and device.kind == "cpu":
                compute = tuple({**dict(device.compute), **dict(rates.compute)}.items())
                known = replace(device, cores=rates.threads, compute=compute, bandwidth=rates.bandwidth)
            elif device.kind == self.kind == "gpu" and device.cores == 1 and self.rates:
                known = replace(device, cores=self.rates[0].threads)
            self._rated[device, threads] = known
        return known

    def crowding(self, threads: int) -> float:
        """How many times longer memory takes a rank of so many threads, with the others beside it, than alone: that
        many ranks' bytes at the rate that all their threads reach together, or what was measured of the most below.
        """
        known = {each.threads: each.bandwidth for each in self.rates}
        alone, together = (max((n for n in known if n <= threads * ranks), default=0) for ranks in (1, self.beside))
        return max(1.0, together / alone * known[alone] / known[together]) if alone else 1.0

    def interval(self, seconds: float) -> tuple[float, float]:
        """From when to when a prediction of so many seconds may come true."""
        return interval(seconds, self)

    def gemm_rate(self, dtype: str, m: int, n: int, k: int, threads: int = 1) -> float | None:
        """FLOP/s of a matrix product by so many threads, or the next number below; None where no table has the type."""
        tables = [table for table in self.gemm if table.dtype == dtype and table.threads <= max(1, threads)]
        return max(tables, key=lambda table: table.threads).at(m, n, k) if tables else None

    def bandwidth_of(self, run: float, threads: int = 1) -> float | None:
        """Bytes per second where `run` bytes lie together; several threads reach more by what they do in one piece."""
        if not self.bandwidth:
            return None
        runs, rates = ([row[column] for row in self.bandwidth] for column in (0, 1))
        one = sum(share * entry(rates, index) for index, share in _neighbours(runs, run)) * smaller(1.0, run / runs[0])
        known = {each.threads: each.bandwidth for each in self.rates}
        most = max((count for count in known if count <= threads), default=1)
        return one * known[most] / known[1] if most > 1 and 1 in known else one


def with_samples(profile: Profile | None, samples: tuple[Sample, ...], device: str) -> Profile | None:
    """A device's profile, if it has one, with these kernels before its own."""
    if not samples:
        return profile
    known = profile or Profile(device)
    return replace(known, samples=(*samples, *known.samples))


def interval(seconds: float, profile: Profile | None = None) -> tuple[float, float]:
    """From when to when a prediction of so many seconds may come true, by a profile or without one: as far as kernels
    of other shapes are off, on a machine whose speed is as far from the usual as it was while it was calibrated."""
    spread = ANALYTIC_SPREAD if profile is None else profile.spread
    speed = 0.0 if profile is None or profile.usual is None else profile.usual.spread
    times = (1.0 + spread) * (1.0 + speed)
    return seconds / times, seconds * times


def _key(op: str, stage: str, algorithm: str, layout: str, shapes: Shapes) -> KernelKey:
    attrs: Mapping[str, Attr] = shapes.attrs
    inputs = tuple(map(str, shapes.inputs))
    return (op, stage, algorithm, layout, inputs, tuple(sorted(attrs.items(), key=lambda item: item[0])))


def _neighbours(points: Sequence[float], at: float) -> tuple[tuple[int, float], ...]:
    """The indices of the points around one, each with its share: linear in the logarithm, the edge's alone outside."""
    if len(points) == 1:
        return ((0, 1.0),)
    at = smaller(larger(at, points[0]), points[-1])
    right = larger(1, following(points, at))
    low, high = entry(points, right - 1), entry(points, right)
    share = log2(at / low) / log2(high / low)
    return ((right - 1, 1.0 - share), (right, share))
