"""Measures the first GPU of this machine part by part, as `measure` does its processor; the profile is of kind gpu."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from backends.cupy_mpi.timing import (
    Copies,
    GpuError,
    GpuTiming,
    Job,
    Products,
    properties,
    runtime_of_gpus,
    time_on_gpu,
)
from backends.cupy_mpi.timing.process import EMULATED
from backends.numpy_mpi.timing import Case
from backends.numpy_mpi.timing.messages import Message, time_messages
from dlc.calibration import gpu_points
from dlc.calibration.measure import UNSTEADY, messages_of, with_spread
from dlc.calibration.turns import Watch
from dlc.cost.profile import Copied, GemmTable, Profile, Rates, Sample
from dlc.launch import find_mpiexec, mpi_flags

PARTS = ("launch", "bandwidth", "gemm", "kernels", "copies", "mpi")
"""What can be measured of a GPU, in this order; `--only` names some of them."""

RANKS = (2, 4)
"""Ranks whose messages are measured: where there are fewer GPUs, several ranks share one."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured: `rounds` at most, `seconds` of a part at most, seconds of `messages`; sizes may be `tiny`.

    When `whole` seconds are over, nothing more is begun.
    """

    rounds: int = 9
    seconds: float = 8.0
    messages: float = 4.0
    whole: float = 100.0
    tiny: bool = False
    emulate: str = ""


THOROUGH = Effort()
QUICK = Effort(rounds=5, seconds=3.0, messages=2.0, whole=50.0)
EMULATED_EFFORT = Effort(rounds=3, seconds=0.1, messages=0.2, tiny=True, emulate="numpy")


@dataclass(slots=True)
class GpuFindings:
    """What was measured so far; `notes` say what could not be."""

    properties: dict[str, str]
    launches: list[GpuTiming] = field(default_factory=list)  # one by one, and in a graph
    copies: list[GpuTiming] = field(default_factory=list)
    products: dict[str, list[GpuTiming]] = field(default_factory=dict)
    kernels: list[GpuTiming] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    tiny: bool = False
    left_out: int = 0
    notes: list[str] = field(default_factory=list)
    interrupted: bool = False

    def profile(self) -> Profile:
        """The profile that they make."""
        inside = self.copied("inside")
        bandwidth = max((2.0 * size / seconds for size, seconds in inside), default=0.0)
        tables = tuple(_table(dtype, found, self.tiny) for dtype, found in self.products.items())
        peaks = tuple((each.dtype, max(r for plane in each.rate for row in plane for r in row)) for each in tables)
        samples = tuple(_sample(found) for found in self.kernels)
        one, in_graph = (found.seconds for found in self.launches) if self.launches else (None, None)
        made = Profile(
            device=self.properties["gpu"],
            kind="gpu",
            call=in_graph,
            launch=one,
            bandwidth=((4.0, bandwidth),) if inside else (),
            gemm=tables,
            samples=samples,
            rates=(Rates(max(1, int(self.properties["multiprocessors"])), peaks, bandwidth),) if inside else (),
            copies=tuple(Copied(way, rows) for way in ("to", "from") if (rows := self.copied(way))),
            messages=tuple(messages_of(self.messages)),
            fingerprint=tuple(self.properties.items()),
        )
        return with_spread(made)

    def copied(self, way: str) -> tuple[tuple[float, float], ...]:
        """(bytes, seconds) of copies in a way."""
        made = ((each.job, each.seconds) for each in self.copies)
        return tuple((float(job.bytes), took) for job, took in made if isinstance(job, Copies) and job.way == way)


def measure_gpu(parts: Sequence[str], effort: Effort, watch: Watch) -> GpuFindings:
    """Measure these parts; an interrupt ends it with what there is. GpuError where there is no GPU."""
    found = GpuFindings(properties(emulate=effort.emulate), tiny=effort.tiny)
    end = time.monotonic() + effort.whole
    try:
        for part, title, step in (each for each in _steps(effort, found) if each[0] in parts):
            if time.monotonic() > end:
                found.notes.append(f"{title}: not measured, the time was over; `--only {part}` measures them")
                continue
            with watch(title):
                try:
                    step()
                except GpuError as error:
                    found.notes.append(f"{title}: not measured, {error}")
    except KeyboardInterrupt:
        found.interrupted = True
    return found


def _steps(effort: Effort, found: GpuFindings) -> Iterator[tuple[str, str, Callable[[], None]]]:
    """(part, title, what measures it), in order."""
    tiny = effort.tiny
    yield "launch", "launches", partial(_launches, effort, found)
    yield "bandwidth", "copies on the device", partial(_copies, ("inside",), effort, found)
    for dtype in gpu_points.TYPES:
        yield "gemm", f"matrix products, {dtype}", partial(_products, dtype, effort, found)
    yield "kernels", "convolutions", partial(_kernels, gpu_points.convolutions(tiny), effort, found)
    yield "kernels", "other kernels", partial(_kernels, gpu_points.others(tiny), effort, found)
    yield "copies", "copies to the device and from it", partial(_copies, ("to", "from"), effort, found)
    for ranks in RANKS[:1] if tiny else RANKS:
        yield "mpi", f"messages, {ranks} ranks", partial(_between_ranks, ranks, effort, found)


def _timed(jobs: Sequence[Job], effort: Effort, found: GpuFindings) -> list[GpuTiming]:
    """The jobs that could be timed; notes say of the others why not."""
    timed = list(time_on_gpu(jobs, rounds=effort.rounds, seconds=effort.seconds, emulate=effort.emulate))
    wrong = [each.wrong for each in timed if each.wrong]
    if wrong:
        found.notes.append(f"{len(wrong)} of {len(timed)} could not be called, the first is {wrong[0]}")
    return [each for each in timed if not each.wrong]


def _launches(effort: Effort, found: GpuFindings) -> None:
    timed = _timed(gpu_points.launches(), effort, found)
    found.launches = timed if len(timed) == 2 else []


def _copies(ways: Sequence[str], effort: Effort, found: GpuFindings) -> None:
    found.copies += _timed(gpu_points.copies(ways, effort.tiny), effort, found)


def _products(dtype: str, effort: Effort, found: GpuFindings) -> None:
    jobs = gpu_points.products(dtype, effort.tiny)
    timed = _timed(jobs, effort, found)
    if len(timed) == len(jobs):  # a grid has all its points
        found.products[dtype] = timed


def _kernels(cases: Sequence[Case], effort: Effort, found: GpuFindings) -> None:
    for timing in _timed(cases, effort, found):
        if timing.spread <= UNSTEADY or effort.tiny:
            found.kernels.append(timing)
        else:
            found.left_out += 1


def _between_ranks(ranks: int, effort: Effort, found: GpuFindings) -> None:
    mpiexec = find_mpiexec()
    if mpiexec is None:
        found.notes.append("messages: not measured, there is no mpiexec")
        return
    flags, variables = mpi_flags(mpiexec)
    variables = {**variables, **({EMULATED: effort.emulate} if effort.emulate else {})}
    command = ["env", *(f"{name}={value}" for name, value in variables.items()), mpiexec, *flags]
    try:
        found.messages += time_messages(command, ranks, seconds=effort.messages, files=runtime_of_gpus())
    except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
        found.notes.append(f"messages, {ranks} ranks: not measured, {error}")


# --- what the profile has of it ------------------------------------------------------------------------------------


def _sample(timing: GpuTiming) -> Sample:
    """Of any family of kernels: GPUs have one."""
    case = timing.job
    assert isinstance(case, Case)
    return Sample(case.op, case.stage, case.algorithm, case.layout, case.shapes, timing.seconds, timing.spread)


def _flops(job: Job) -> float:
    """Of a product."""
    assert isinstance(job, Products)
    return 2.0 * job.m * job.n * job.k


def _table(dtype: str, found: Sequence[GpuTiming], tiny: bool) -> GemmTable:
    extents = gpu_points.gemm(tiny)
    rates = iter([float(f"{_flops(each.job) / each.seconds:.4g}") for each in found])
    grid = tuple(tuple(tuple(next(rates) for _ in extents) for _ in extents) for _ in extents)
    return GemmTable(dtype, extents, extents, extents, grid)
