"""Measures a machine part by part. What is there when it is interrupted, is a profile too."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from math import log2

from backends.numpy_mpi.kernels.native import find_compiler
from backends.numpy_mpi.timing import Case, Timing, time_kernels
from backends.numpy_mpi.timing.messages import Message, time_messages
from dlc.calibration import points
from dlc.calibration.own_work import OwnWork
from dlc.calibration.turns import Part, Watch, passes
from dlc.cluster.detect import BANDWIDTH, SPEED, usable_cores
from dlc.cluster.fingerprint import fingerprint
from dlc.cluster.topology import Device
from dlc.cost.compute import factors
from dlc.cost.profile import GemmTable, Messages, Own, Profile, Rates, Sample, Usual
from dlc.ir.plan import ANALYTIC_SPREAD
from dlc.launch import find_mpiexec, mpi_flags

PARTS = ("calls", "step", "bandwidth", "gemm", "c", "numpy", "mpi")
"""What can be measured, in this order; `--only` names some of them."""

UNSTEADY = 0.5
"""A spread from which on a figure says more of what else the machine did: it is left out."""

SLOWER = 1.25
"""Nothing takes so many times longer with several threads than with one, unless others hold the cores: left out."""

CORE = Device("core", bandwidth=BANDWIDTH, compute=(("f32", SPEED),))
"""What stands for a core whose rates were not measured."""

LONG = 1e-4
"""Seconds from which on a kernel counts for how far predictions of others are off."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured: passes over what one thread does, `rounds` at most, `alone` seconds at most; `seconds` of
    a part of several threads at most, every `step`-th shape, messages so long.

    When `whole` seconds are over, nothing more is begun.
    """

    rounds: int = 6
    alone: float = 65.0
    seconds: float = 4.0
    step: int = 1
    messages: float = 5.0
    whole: float = 100.0


THOROUGH, QUICK = Effort(), Effort(rounds=3, alone=25.0, seconds=2.0, step=2, messages=2.0, whole=50.0)


@dataclass(slots=True)
class Findings:
    """What was measured so far; `left_out` are those that were too unsteady, `notes` what could not be measured."""

    call: Timing | None = None
    usual: Usual | None = None
    own: Own | None = None
    copies: list[Timing] = field(default_factory=list)
    products: dict[tuple[str, int], list[Timing]] = field(default_factory=dict)  # by element type and threads
    kernels: list[tuple[int, Timing]] = field(default_factory=list)  # (threads, what they took)
    messages: list[Message] = field(default_factory=list)
    left_out: int = 0
    notes: list[str] = field(default_factory=list)
    interrupted: bool = False

    def profile(self) -> Profile:
        """The profile that they make; its spread is the mean of those of all kernels."""
        one = self.products.get(("f32", 1), [])
        made = Profile(
            device=f"{fingerprint()['processor']}, {usable_cores()} cores",
            call=None if self.call is None else self.call.seconds,
            bandwidth=tuple(
                (4.0 * run, _copied(timing)) for run, timing in zip(points.RUNS, self.copies, strict=False)
            ),
            gemm=tuple(_table(dtype, threads, found) for (dtype, threads), found in self.products.items()),
            samples=tuple(_sample(threads, timing) for threads, timing in self.kernels),
            rates=tuple(self._rates()) if one and self.copies else (),
            messages=tuple(messages_of(self.messages)),
            fingerprint=tuple(fingerprint().items()),
            own=self.own,
            usual=self.usual,
        )
        return with_spread(made)

    def _rates(self) -> Iterator[Rates]:
        """What so many threads reach at most; memory as one thread does, times what large copies gain by more."""
        bandwidth = max(map(_copied, self.copies))
        for threads in sorted({threads for _, threads in self.products}):
            compute = {
                dtype: max(map(_rate, found)) for (dtype, count), found in self.products.items() if count == threads
            }
            yield Rates(threads, tuple(compute.items()), bandwidth * self._gain(threads))

    def _gain(self, threads: int) -> float:
        """How much faster so many threads add large arrays than one does, in the median; 1 where that is not known."""
        alone = {_name(timing.case): timing.seconds for count, timing in self.kernels if count == 1}
        gains = sorted(
            alone[_name(timing.case)] / timing.best
            for count, timing in self.kernels
            if count == threads and timing.case.op in points.MOVING and alone.get(_name(timing.case), 0.0) > 1e-4
        )
        return max(1.0, gains[len(gains) // 2]) if gains and threads > 1 else 1.0


def measure(parts: Sequence[str], effort: Effort, watch: Watch, known: Usual | None = None) -> Findings:
    """Measure these parts; an interrupt ends it with what there is, and nothing is begun when the time is over.

    Where it is `known` how fast the machine was when other parts were measured, these are brought to that.
    """
    found, end = Findings(), time.monotonic() + effort.whole
    try:
        _alone(parts, effort, found, watch, known)
        for part, title, step in _steps(usable_cores(), effort, found):
            if part not in parts:
                continue
            if time.monotonic() > end:
                found.notes.append(f"{title}: not measured, the time was over; `--only {part}` measures them")
                continue
            with watch(title):
                step()
    except KeyboardInterrupt:
        found.interrupted = True
    return found


def _alone(parts: Sequence[str], effort: Effort, found: Findings, watch: Watch, known: Usual | None) -> None:
    """What one thread does, in passes; between two of them steps of programs."""
    asked = [part for name, part in _of_one_thread(effort, found) if name in parts]
    with ExitStack() as opened:
        own = None
        if "step" in parts:
            own = _tried(lambda: opened.enter_context(OwnWork()), found)

        def between() -> None:
            nonlocal own
            if own is not None:
                with watch("steps of programs"):
                    own = _tried(own.turned, found)

        try:
            passes(asked, effort.rounds, effort.alone, between, watch, known, partial(setattr, found, "usual"))
            if not asked:
                for _ in range(effort.rounds):
                    between()
        finally:
            found.own = None if own is None else own.found()


def _tried(step: Callable[[], OwnWork], found: Findings) -> OwnWork | None:
    """What it gives, None with a note where it fails."""
    try:
        return step()
    except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
        found.notes.append(f"steps of programs: not measured, {error}")
        return None


def _of_one_thread(effort: Effort, found: Findings) -> Iterator[tuple[str, Part]]:
    """(part, what it measures)."""
    yield "calls", Part("calls", [points.call()], partial(_call, found), 4)
    yield "bandwidth", Part("copies", points.copies(), found.copies.extend)
    for dtype in ("f32", "f64"):
        take = partial(found.products.__setitem__, (dtype, 1))
        yield "gemm", Part(f"matrix products, {dtype}", points.products(dtype), take)
    for kernels, family in (("c", "in C"), ("numpy", "of NumPy")):
        if kernels == "c" and not find_compiler():
            found.notes.append("kernels in C: not measured, there is no C compiler")
            continue
        for name, cases in (("convolutions", points.convolutions(kernels)), ("other kernels", points.others(kernels))):
            yield kernels, Part(f"{name} {family}", cases[:: effort.step], partial(_steady, found, 1))


def _call(found: Findings, timed: list[Timing]) -> None:
    (found.call,) = timed


def _steps(cores: int, effort: Effort, found: Findings) -> Iterator[tuple[str, str, Callable[[], None]]]:
    """(part, title, what measures it), in order: messages, and what several threads do."""
    yield "mpi", "messages, 2 ranks", partial(_between_ranks, 2, effort, found)
    if cores > 1:
        yield "gemm", f"matrix products, f32, {cores} threads", partial(_products, "f32", cores, effort, found)
        for name, cases in (("convolutions", points.convolutions("c")), ("other kernels", points.others("c"))):
            yield "c", f"{name} in C, {cores} threads", partial(_kernels, cases, cores, effort, found)
    for ranks in sorted({min(4, cores), cores} - {1, 2}):
        yield "mpi", f"messages, {ranks} ranks", partial(_between_ranks, ranks, effort, found)


def _products(dtype: str, threads: int, effort: Effort, found: Findings) -> None:
    timed = list(time_kernels(points.products(dtype), threads, rounds=effort.rounds, seconds=effort.seconds))
    if any(each.held for each in timed) or _held(timed, found.products.get((dtype, 1), ())):
        found.left_out += len(timed)
        return
    found.products[dtype, threads] = timed


def _held(several: Sequence[Timing], one: Sequence[Timing]) -> bool:
    """Whether the large products took longer with several threads: others hold the cores."""
    pairs = list(zip(several, one, strict=False))[-8:]
    return any(many.best > SLOWER * alone.seconds for many, alone in pairs)


def _kernels(cases: Sequence[Case], threads: int, effort: Effort, found: Findings) -> None:
    if find_compiler():
        timed = time_kernels(cases[:: effort.step], threads, rounds=effort.rounds, seconds=effort.seconds)
        _steady(found, threads, list(timed))


def _steady(found: Findings, threads: int, timed: Sequence[Timing]) -> None:
    """Keep those whose rounds lie together; with several threads those that take no longer than with one."""
    known = {_name(timing.case): timing.seconds for count, timing in found.kernels if count == 1}
    for timing in timed:
        steady = timing.spread <= UNSTEADY or timing.seconds < 2e-5
        if threads > 1:
            steady = not timing.held and timing.best <= SLOWER * known.get(_name(timing.case), timing.best)
        if steady:
            found.kernels.append((threads, timing))
        else:
            found.left_out += 1


def _between_ranks(ranks: int, effort: Effort, found: Findings) -> None:
    mpiexec = find_mpiexec()
    if mpiexec is None:
        found.notes.append("messages: not measured, there is no mpiexec")
        return
    flags, variables = mpi_flags(mpiexec)
    command = ["env", *(f"{name}={value}" for name, value in variables.items()), mpiexec, *flags]
    try:
        timed = time_messages(command, ranks, seconds=effort.messages)
    except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
        found.notes.append(f"messages, {ranks} ranks: not measured, {error}")
        return
    found.messages += timed


# --- what the profile has of it ------------------------------------------------------------------------------------


def _name(case: Case) -> tuple[object, ...]:
    """What tells a case from others."""
    attrs = tuple(sorted((name, str(value)) for name, value in case.shapes.attrs.items()))
    return case.kernels, case.op, case.stage, case.algorithm, case.layout, case.shapes.inputs, attrs


def _sample(threads: int, timing: Timing) -> Sample:
    """Of several threads the best round counts: they wait for each other, and so for all that others do."""
    case, seconds = timing.case, timing.best if threads > 1 else timing.seconds
    cold = timing.cold if threads == 1 and timing.cold > seconds else 0.0
    return Sample(
        case.op,
        case.stage,
        case.algorithm,
        case.layout,
        case.shapes,
        seconds,
        timing.spread,
        case.kernels,
        threads,
        cold,
    )


def _copied(timing: Timing) -> float:
    """Bytes per second, read and written."""
    return 2.0 * timing.case.shapes.outputs[0].bytes / timing.seconds


def _rate(timing: Timing) -> float:
    """FLOP/s of a matrix product."""
    dy, weight = timing.case.shapes.inputs
    return 2.0 * dy.elements * weight.shape[1] / timing.seconds


def _table(dtype: str, threads: int, found: Sequence[Timing]) -> GemmTable:
    count = len(points.GEMM)
    rates = iter([float(f"{_rate(timing):.4g}") for timing in found])
    grid = tuple(tuple(tuple(next(rates) for _ in range(count)) for _ in range(count)) for _ in range(count))
    return GemmTable(dtype, points.GEMM, points.GEMM, points.GEMM, grid, threads)


def messages_of(found: Sequence[Message]) -> Iterator[Messages]:
    """By collective, algorithm and ranks; those of one size that were too unsteady are left out."""
    kinds = dict.fromkeys((each.kind, each.algorithm, each.ranks) for each in found)
    for kind, algorithm, ranks in kinds:
        rows = [each for each in found if (each.kind, each.algorithm, each.ranks) == (kind, algorithm, ranks)]
        spread = sorted(each.spread for each in rows)[len(rows) // 2]
        yield Messages(kind, algorithm, ranks, tuple((float(each.bytes), each.seconds) for each in rows), spread)


def with_spread(made: Profile) -> Profile:
    """The profile with what leaving one out shows of kernels that take long, in the mean: steps are made of them."""
    device = CORE if made.kind == "cpu" else _gpu(made)
    keys = dict.fromkeys((s.op, s.stage, s.algorithm, s.layout, s.kernels) for s in made.samples)
    errors: list[float] = []
    for op, stage, algorithm, layout, kernels in keys:
        known = factors(op, stage, algorithm, layout, replace(device, kernels=kernels or device.kernels), made)
        if known is not None:
            pairs = zip(known.places, known.errors, strict=False)
            errors += [error for where, error in pairs if where.seconds > log2(LONG)]
    return replace(made, spread=2.0 ** (sum(errors) / len(errors)) - 1.0 if errors else ANALYTIC_SPREAD)


def _gpu(made: Profile) -> Device:
    """What stands for a GPU as a profile has it."""
    known = made.rates[0] if made.rates else Rates(1, (), 1e12)
    compute = {"f32": max(1.0, known.bandwidth), **dict(known.compute)}
    return Device("gpu", "gpu", 0, known.bandwidth, tuple(compute.items()), made.call or 0.0, known.threads)


def _threads(count: int) -> str:
    return f"{count} thread{'s' * (count > 1)}"
