"""`--tune`: the kernels that matter to one network, measured on this machine and kept for the next time.

A plan is made, then all that might have been chosen in its place is timed as its program would call it: for each pass
of an op on what a rank has of it, every legal algorithm in every layout. Identical kernels are timed once. With these
figures the plan is made again, which may ask for others, until it asks for no more. Kernels are timed where they can
change the choice: those that by their intervals may be the fastest way to compute something, the longest passes first.

Calls of several threads of which others hold the cores are tried again later, and then left out: what they took says
nothing of the kernel.

Figures are kept in the cache's folder, in a file for this machine, family of kernels and number of threads. With all of
them there nothing is timed, and the plan is always the same.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import dlc
from backends.numpy_mpi.kernels.native import cache_folder, find_compiler, processor
from backends.numpy_mpi.timing import Case, NoKernelError, Timing, time_kernels
from dlc.cost.compute import CONVERT
from dlc.cost.compute import seconds as priced
from dlc.cost.price import Call, Prices, default_price
from dlc.cost.profile import KernelKey, Profile, Sample
from dlc.cost.profile_json import profile_document, read_profile
from dlc.folders import write_text
from dlc.ir.plan import Figure
from dlc.ir.program import TRAIN_STEP, Compute
from dlc.ir.ranks import schedule
from dlc.ops import operator
from dlc.ops.operator import LAYOUTS, Shapes
from passes.options import candidates, operations, rules_of

if TYPE_CHECKING:
    from dlc.cluster.topology import Device
    from dlc.driver import Compiled
    from dlc.ir.program import Role

Measured = tuple[Sample, ...]
"""Kernels that were timed, as a profile holds them."""

SHARE = 0.95
"""Kernels without a choice are timed that together take so much of what all of them take."""

ROUNDS = 4
"""How often the plan is made again; it seldom asks for others more than once."""

TRIES = 2
"""How often kernels are timed whose cores others hold."""

AT_ONCE, SECONDS = 24, 1.0
"""So many kernels take turns in a process, which lasts about so long."""

DTYPES = ("f32", "f64")

TURNED = (("NCHW", "NHWC"), ("NHWC", "NCHW"), ("NCHW", "CHWN"), ("CHWN", "NCHW"))
"""Conversions that are timed."""


@dataclass(slots=True)
class Ask:
    """All ways to compute one pass of an op on the same operands, by prediction; the plan spends `seconds` a step."""

    cases: tuple[Case, ...]
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Tuned:
    """What tuning came to: kernels with their seconds; how many kinds of calls were timed now, and how many were left
    out because the time was over, and because others held the cores."""

    kernels: Measured
    timed: int
    left_out: int
    held: int = 0


def tune(
    plan: Callable[[Measured], Compiled],
    device: Device,
    budget: float,
    report: Callable[[int, int], None] = lambda done, all_: None,
    *,
    exhaustive: bool = False,
) -> Tuned:
    """Measure what a plan for a device asks for; `plan` makes it with kernels that are measured.

    `budget` bounds the seconds that are spent on timing; `report` is told how many kernels of how many were timed. With
    `exhaustive` every legal way is measured, whatever is predicted of it.
    Errors: those of `plan`; E0702 where the figures cannot be kept; OSError or RuntimeError where the process that
    times kernels fails.
    """
    kept = Kept(device)
    known, spent, timed, tried = kept.read(), 0.0, 0, Counter[KernelKey]()
    made, left = plan(tuple(known.values())), list[Case]()
    for _ in range(ROUNDS):
        wanted = {key_of(case): case for ask in asks(made, exhaustive=exhaustive) for case in ask.cases}
        left = [case for key, case in wanted.items() if key not in known and tried[key] < TRIES]
        if not left:
            break
        while left and spent < budget:
            report(timed, timed + len(left))
            begin = time.perf_counter()
            group, left = left[:AT_ONCE], left[AT_ONCE:]
            found = list(time_kernels(group, device.cores, seconds=SECONDS))
            for timing in found:
                tried[key_of(timing.case)] += timing.held
                if not timing.held:
                    known |= {sample.key: sample for sample in _samples(timing, device.cores)}
            left += [each.case for each in found if each.held and tried[key_of(each.case)] < TRIES]
            timed, spent = timed + sum(not each.held for each in found), spent + time.perf_counter() - begin
            kept.write(known)
        if left:
            break
        made = plan(tuple(known.values()))
    held = {key for key, times in tried.items() if times and key not in known}
    return Tuned(tuple(known.values()), timed, sum(key_of(case) not in held for case in left), len(held))


# --- what a plan asks for ------------------------------------------------------------------------------------------


def asks(made: Compiled, *, exhaustive: bool = False) -> tuple[Ask, ...]:
    """What to measure for a plan, what takes longest first: every pass with a choice, and the longest of the others.

    Conversions are last: of three sizes, which tell what others take.
    """
    context, program = made.context, made.program
    prices = default_price(program, context.cluster, context.profile)
    ways, found = _ways(made), dict[KernelKey, Ask]()
    for role in program.roles:
        device = context.cluster.device(prices.devices[role.ranks[0]])
        for compute, call in _calls(role, prices):
            case = _case(call, compute.kernel[2], compute.layout, device)
            if case is None:
                continue
            key = key_of(case)
            if key not in found:
                legal = ways.get((compute.address.partition(".chunk")[0], call.stage), ())
                found[key] = Ask(
                    _near_best(call, ((compute.kernel[2], compute.layout), *legal), device, context.profile, exhaustive)
                )
            found[key].seconds += call.times * _predicted(case, call, device, context.profile).seconds
    chosen = [ask for ask in found.values() if len(ask.cases) > 1]
    rest = found.values() if exhaustive else _longest(found.values())
    several = dict.fromkeys(id(ask) for ask in chosen)
    rest = [ask for ask in rest if id(ask) not in several]
    return (*sorted((*chosen, *rest), key=lambda ask: -ask.seconds), *_conversions(made, found.values()))


def _conversions(made: Compiled, found: Iterable[Ask]) -> Iterator[Ask]:
    """Copies of images between layouts, where some op has a choice: of the smallest, a middling and the largest."""
    device = made.context.cluster.device_of(0)
    images = {
        case.shapes.inputs[0]: case.shapes.inputs[0].bytes
        for ask in found
        for case in ask.cases
        if case.op == "conv" and case.stage == "forward" and len({each.layout for each in ask.cases}) > 1
    }
    ordered = sorted(images, key=lambda type_: (images[type_], str(type_)))
    for at in dict.fromkeys((0, len(ordered) // 2, len(ordered) - 1)) if ordered else ():
        shapes = [
            Shapes((ordered[at],), (ordered[at],), {"source": source, "target": target}) for source, target in TURNED
        ]
        yield Ask(
            tuple(Case(CONVERT, "forward", each, "", str(each.attrs["target"]), device.kernels) for each in shapes)
        )


def _calls(role: Role, prices: Prices) -> Iterator[tuple[Compute, Call]]:
    """The kernels of a training step of a role, as often as they are called; of fused ones those that they are of."""
    segments = {segment.name: segment for segment in role.segments}
    for row in schedule(role, TRAIN_STEP):
        for instruction in segments[row.segment].instructions:
            if isinstance(instruction, Compute):
                for made in instruction.members or (instruction,):
                    yield from ((made, call) for call in prices.kernels(made, role))


def _ways(made: Compiled) -> dict[tuple[str, str], tuple[tuple[str, str], ...]]:
    """(address of an op, pass) -> every legal (algorithm, layout)."""
    graph, rules = made.graph, rules_of(made.context.request, made.context.exact)
    found: dict[tuple[str, str], tuple[tuple[str, str], ...]] = {}
    for operation in operations(graph):
        legal = [c for c in candidates(graph, operation, rules, graph.batch) if c.excluded is None]
        for candidate in legal:
            for address in (operation.address, candidate.node.address):
                key = (address, candidate.node.stage)
                found[key] = (*found.get(key, ()), (candidate.algorithm, candidate.layout))
    return found


def _near_best(
    call: Call, ways: Iterable[tuple[str, str]], device: Device, profile: Profile | None, exhaustive: bool
) -> tuple[Case, ...]:
    """The first way, and of the others those whose interval begins before that of the fastest one ends, by time; all of
    them where the search is to be exhaustive."""
    known = {key_of(case): case for way in ways if (case := _case(call, *way, device)) is not None}
    first, *_ = known
    if call.operator.elementwise:
        return (known[first],)
    figures = {key: _predicted(case, call, device, profile) for key, case in known.items()}
    limit = min(figure.interval[1] for figure in figures.values())
    near = [key for key, figure in figures.items() if exhaustive or key == first or figure.interval[0] <= limit]
    return tuple(known[key] for key in sorted(near, key=lambda key: figures[key].seconds))


def _longest(found: Iterable[Ask]) -> list[Ask]:
    """Of those without a choice the longest, until they make up most of what all take."""
    alone = sorted((ask for ask in found if len(ask.cases) == 1), key=lambda ask: -ask.seconds)
    total, taken, kept = sum(ask.seconds for ask in alone), 0.0, list[Ask]()
    for ask in alone:
        if taken >= SHARE * total:
            break
        kept.append(ask)
        taken += ask.seconds
    return kept


def _case(call: Call, algorithm: str, layout: str, device: Device) -> Case | None:
    """What is timed of a call; None for views, other element types, and what has no kernel."""
    case = Case(call.operator.name, call.stage, call.shapes, algorithm, layout, device.kernels)
    floats = {t.dtype for t in (*call.shapes.inputs, *call.shapes.outputs) if t.dtype.startswith(("f", "bf", "tf"))}
    if call.operator.view or not floats <= set(DTYPES):
        return None
    try:
        case.kernel  # noqa: B018  it is looked for here
    except NoKernelError:
        return None
    return case


def _predicted(case: Case, call: Call, device: Device, profile: Profile | None) -> Figure:
    return priced(call.operator, case.stage, case.shapes, case.algorithm, case.layout, device, profile)


def key_of(case: Case) -> KernelKey:
    """What a profile knows a case by."""
    return Sample(case.op, case.stage, case.algorithm, case.layout, case.shapes, 0.0).key


def _samples(timing: Timing, threads: int) -> Iterator[Sample]:
    """All that a timing tells of: kernels that go over elements in the order of memory are alike in every layout.

    Four digits are kept, as in the file, so that those that were timed now give the plan that they give later.
    """
    case, op = timing.case, operator(timing.case.op)
    seconds, spread, cold = (float(f"{each:.4g}") for each in (timing.seconds, timing.spread, timing.cold))
    cold = cold if threads == 1 and cold > seconds else 0.0
    for layout in LAYOUTS if case.layout and op is not None and op.elementwise else (case.layout,):
        yield Sample(
            case.op, case.stage, case.algorithm, layout, case.shapes, seconds, spread, case.kernels, threads, cold
        )


# --- what is kept --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kept:
    """The file of what was measured on this machine, with a device's family of kernels and number of threads."""

    device: Device
    folder: Path = field(default_factory=cache_folder)

    @property
    def path(self) -> Path:
        """In the cache's folder, or one of this run's own where that cannot be written."""
        kernels = self.device.kernels
        return self.folder / f"tuned-{fingerprint(kernels)}-{kernels}-{self.device.cores}.json"

    def read(self) -> dict[KernelKey, Sample]:
        """What it holds; nothing where there is no such file, or one that is damaged."""
        try:
            profile = read_profile(json.loads(self.path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}
        return {sample.key: sample for sample in profile.samples}

    def write(self, samples: dict[KernelKey, Sample]) -> None:
        """Keep these besides what others have added meanwhile; E0702 where that cannot be written."""
        every = {**samples, **self.read()}
        kept = Profile("this machine", samples=tuple(every[key] for key in sorted(every, key=str)))
        document = {name: value for name, value in profile_document(kept).items() if value}
        write_text(str(self.path), json.dumps(document))


def fingerprint(kernels: str) -> str:
    """A digest of what times depend on besides shapes: processor, cores, compiler, the versions of dlc and NumPy."""
    import numpy as np

    compiler = " ".join(find_compiler()) if kernels == "c" else ""
    parts = (_model(), processor(), str(os.cpu_count()), dlc.__version__, np.__version__, compiler)
    return sha256("\0".join(parts).encode()).hexdigest()[:16]


def _model() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
