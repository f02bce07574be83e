"""From the choice of options to a whole step: stages, schedule, recomputation, what overlap hides, and memory.

J of cost-models.md §7: without a pipeline the seconds of all ops and moves, plus the sums of gradients that are left
exposed; with one the makespan of its schedule over its stages, plus the slowest stage's updates and exposed sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING

from passes.planning.cuts import Cuts, Unit, Within, cut
from passes.planning.evaluate import Line
from passes.planning.pipeline_line import line
from passes.planning.runs import Flow, cheapest_runs
from passes.planning.segments import Segments, checkpointed, spared, without
from passes.planning.space import Solved, Space
from passes.planning.strategies import PIPELINE, Strategy
from passes.planning.traffic import sent
from passes.planning.unlike import stage_lines

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Parts:
    """J in seconds a step and what it is made of, each on the stage where it takes longest.

    `moves` are redistributions and conversions, `sums` those of gradients that computing does not hide.
    """

    objective: float
    compute: float
    moves: float
    sums: float
    update: float
    bubble: float = 0.0
    recomputed: float = 0.0


@dataclass(frozen=True, slots=True)
class Finished:
    """A whole step. Stage i has the ops bounds[i] to bounds[i + 1] - 1; `peaks` are the bytes of each device, `again`
    the stretches of ops that are computed again.

    No plan under the same outer choice, cuts included, has a J below `bound`.
    """

    solved: Solved
    strategy: Strategy
    parts: Parts
    bounds: tuple[int, ...]
    peaks: tuple[int, ...]
    sends: tuple[float, ...] = ()  # behind each stage, for one microbatch
    again: Segments = ()
    bound: float = 0.0
    own: tuple[Line, ...] = ()  # the line as each stage takes it, where devices are unlike
    idle: float = 0.0  # share of the pipeline's time in which its devices wait: what `limit bubble` bounds

    @property
    def objective(self) -> float:
        """J in seconds."""
        return self.parts.objective

    @property
    def recomputed(self) -> frozenset[int]:
        """The ops that are computed again."""
        return frozenset(op for first, end in self.again for op in range(first, end))

    @property
    def peak(self) -> int:
        """Bytes of the device with most."""
        return max(self.peaks)


def finish(found: Space, solved: Solved, limit: float, below: float = inf) -> Finished | None:
    """The step of a solved strategy on devices of `limit` bytes; None where it does not fit, or sends too much.

    One that takes `below` or more need not be the best; with `below` at minus infinity 1F1B is all that is tried of a
    pipeline without a written schedule, and segments are all that is tried of what may be computed again.
    """
    costs: Line = solved.line
    segments: Segments = ()
    if solved.strategy.recompute == "all" or found.orders.again:
        costs, segments = checkpointed(costs, found.orders.repeated(solved.strategy))
    if solved.strategy.stages == 1:
        if segments and below > -inf and not found.orders.again and found.context.request.recompute == "auto":
            costs, segments = _again(found, solved, (costs, segments), limit)
        made = _alone(found, solved, costs, segments, limit)
    else:
        made = _pipelined(found, solved, costs, segments, limit, below)
    most = found.bound_of("communication")
    return made if made is None or most == inf or sent(found, made) <= most * (1 + ROUNDING) + 1 else None


ROUNDING = 1e-9


def _alone(found: Space, solved: Solved, costs: Line, again: Segments, limit: float) -> Finished | None:
    """Without a pipeline: the microbatches of all batches behind an update, one after another."""
    count = solved.strategy.microbatches * found.batches
    peak = _peak(costs, _most(solved.strategy))
    if peak > limit or found.orders.windows(1) is None or not found.orders.keeps((0, len(costs.forward))):
        return None
    moves = count * float(costs.moves.sum())
    work = count * float((costs.forward + costs.backward + costs.weights).sum()) - moves
    sums = _exposed(costs, slice(None))
    update = float(costs.update.sum())
    extra = count * float((costs.backward - solved.line.backward).sum())
    parts = Parts(work + moves + sums + update, work - extra, moves, sums, update, 0.0, extra)
    return Finished(
        solved, solved.strategy, parts, (0, len(costs.forward)), (peak,), (), again, min(solved.bound, parts.objective)
    )


def _most(strategy: Strategy) -> float:
    """How many times the samples that all ranks are priced for the one with most of them has."""
    return max(shares) * len(shares) / strategy.effective if (shares := strategy.shares) else 1.0


def _again(found: Space, solved: Solved, every: tuple[Line, Segments], limit: float) -> tuple[Line, Segments]:
    """What is computed again: the runs that take least, or segments of `every` op, of which some may be kept."""
    costs, strategy = solved.line, solved.strategy
    if not strategy.shares:
        if _peak(costs, 1.0) <= limit:
            return costs, ()
        if found.flow is None:
            found.flow = Flow(found.network, found.orders.kept)
        runs = cheapest_runs(found.flow, solved.tables, solved.values, costs, limit)
        if runs is not None:
            return runs
    most = _most(strategy)
    peak = _peak(every[0], most)
    if peak > limit:
        return every
    fewer = spared(costs, every[1], (limit - peak) / most)
    return without(costs, *every, fewer), fewer


def _peak(costs: Line, most: float) -> int:
    """Bytes without a pipeline, where the rank with most samples has `most` times those that all are priced for."""
    return int(costs.fixed.sum() + most * (costs.saved.sum() + costs.transient.max(initial=0.0)))


def _pipelined(
    found: Space, solved: Solved, costs: Line, again: Segments, limit: float, below: float
) -> Finished | None:
    strategy = solved.strategy
    sends = found.fabric(strategy.mesh).send(costs.crossing, PIPELINE)
    own = stage_lines(found, solved)
    if again and own:
        own = tuple(checkpointed(each, found.orders.repeated(strategy))[0] for each in own)
    units = _Units(costs, sends, own)
    chosen = _cut(found, strategy, units, limit, below)
    if chosen is None:
        return None
    strategy, cuts = chosen
    stages = [slice(a, b) for a, b in pairwise(cuts.bounds)]
    devices = [stages[i :: strategy.stages] for i in range(strategy.stages)]
    lines = own or (costs,) * strategy.stages
    passed = [sum(messages(sends, s, _ends(found)) for s in d) for d in devices]
    busy = [
        sum(float(at.forward[s].sum() + at.backward[s].sum() + at.weights[s].sum()) for s in d) + sent_
        for at, d, sent_ in zip(lines, devices, passed, strict=True)
    ]
    tails = [
        (sum(_exposed(at, s) for s in d), sum(float(at.update[s].sum()) for s in d))
        for at, d in zip(lines, devices, strict=True)
    ]
    sums, update = max(tails, key=sum)
    count, filled = strategy.microbatches * found.batches, cuts.makespan * found.batches
    moved = (sum(float(costs.moves[s].sum()) for s in d) + sent_ for d, sent_ in zip(devices, passed, strict=True))
    moves = count * max(moved)
    work = count * max(busy)
    extra = count * _forward(solved, again) / strategy.stages
    total = filled + sums + update
    parts = Parts(total, work - moves - extra, moves, sums, update, filled - work, extra)
    behind = tuple(float(sends[b - 1]) for b in cuts.bounds[1:-1])
    peaks = tuple(int(size) for size in cuts.bytes)
    proved = solved.bound / solved.objective if solved.objective else 1.0
    waiting = max(0.0, 1.0 - count * sum(busy) / (strategy.stages * filled)) if filled else 0.0
    solved = replace(solved, strategy=strategy)
    return Finished(solved, strategy, parts, cuts.bounds, peaks, behind, again, total * proved, own, waiting)


class _Units:
    """The ops of a line to be cut, as the slowest device takes them and, where devices are unlike, as each does."""

    def __init__(self, costs: Line, sends: Array, own: Sequence[Line]) -> None:
        hashed, made = blake2b(), dict[int, list[Unit]]()
        for each in (costs, *own):
            columns = (each.forward, each.backward, each.weights, each.saved, each.fixed, sends, each.transient)
            if id(each) not in made:
                made[id(each)] = [Unit(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]
                hashed.update(b"".join(column.tobytes() for column in columns))
        self.slow = made[id(costs)]
        self.line = line(self.slow)
        self.own = tuple(made[id(each)] for each in own)
        self.digest = hashed.digest()


def _forward(solved: Solved, again: Segments) -> float:
    """Seconds of a microbatch to compute segments again."""
    return sum(float(solved.line.forward[first:end].sum()) for first, end in again)


def _cut(found: Space, strategy: Strategy, units: _Units, limit: float, below: float) -> tuple[Strategy, Cuts] | None:
    """The best cuts of the schedule asked for, or of the best one.

    Other schedules than 1F1B are tried where one without any bubble would take less than `below`.
    """
    asked = found.context.request.schedule
    if asked != "auto":
        return _cut_for(found, strategy.with_(schedule=asked, chunks=2 if asked == "interleaved" else 1), units, limit)
    first = _cut_for(found, strategy.with_(schedule="one_f_one_b", chunks=1), units, limit)
    rate = sum(found.stage_speeds(strategy) or (1.0,) * strategy.stages)
    ideal = strategy.microbatches * sum(unit.forward + unit.backward + unit.weights for unit in units.slow) / rate
    if ideal >= below and (first is not None or below == -inf):
        return first
    tried = [first, *(_cut_for(found, strategy.with_(schedule=s, chunks=c), units, limit) for s, c in OTHERS)]
    return min((each for each in tried if each is not None), key=lambda each: each[1].makespan, default=None)


def _cut_for(found: Space, strategy: Strategy, units: _Units, limit: float) -> tuple[Strategy, Cuts] | None:
    """The best cuts of a schedule in which ops are in the stages that pins name, and no more idles than may.

    They are found once for equal lines: meshes of one stage between which ops make no difference give the same.
    """
    speeds = found.stage_speeds(strategy)
    key = strategy.stages, strategy.microbatches, strategy.schedule, strategy.chunks, speeds, limit, units.digest
    if key not in found.cuts:
        found.cuts[key] = _found_cuts(found, strategy, units, limit, speeds)
    cuts = found.cuts[key]
    return None if cuts is None else (strategy, cuts)


def _found_cuts(
    found: Space, strategy: Strategy, units: _Units, limit: float, speeds: tuple[float, ...]
) -> Cuts | None:
    windows = found.orders.windows(strategy.stages * strategy.chunks)
    if windows is None:
        return None
    cuts = cut(
        units.line,
        strategy.stages,
        strategy.microbatches,
        strategy.schedule,  # type: ignore[arg-type]
        limit=limit,
        speeds=speeds,
        chunks=strategy.chunks,
        within=Within(windows, found.orders.barred) if found.orders.staged else None,
        ends=_ends(found),
        own=units.own,
        near=False,
    )
    each = units.own or (units.slow,) * strategy.stages
    if cuts is None or idle(strategy, each, cuts, _ends(found)) > found.bound_of("bubble"):
        return None
    return cuts


def _ends(found: Space) -> int:
    """How many ends of a message compute nothing meanwhile (`passes.planning.pipeline_line.Pipeline`)."""
    return 1 if found.overlap else 2


def messages(sends: Sequence[float] | Array, stage: slice, ends: int) -> float:
    """Seconds of a microbatch in which a stage is kept from computing by what crosses its ends, forward and back."""
    before = sends[stage.start - 1] if stage.start else 0.0
    behind = sends[stage.stop - 1] if stage.stop < len(sends) else 0.0
    return ends * float(before + behind)


def idle(strategy: Strategy, units: Sequence[Sequence[Unit]], cuts: Cuts, ends: int) -> float:
    """The share of the pipeline's time in which its devices wait, 0 to 1: they neither compute nor receive.

    `units` are those of each stage's device.
    """
    sends = [unit.send for unit in units[0]]
    busy = 0.0
    for part, (first, end) in enumerate(pairwise(cuts.bounds)):
        mine = units[part % strategy.stages][first:end]
        busy += sum(unit.forward + unit.backward + unit.weights for unit in mine)
        busy += messages(sends, slice(first, end), ends)
    whole = strategy.stages * cuts.makespan
    return max(0.0, 1.0 - strategy.microbatches * busy / whole) if whole else 0.0


OTHERS = (("gpipe", 1), ("interleaved", 2), ("interleaved", 4), ("zero_bubble", 1))
"""Schedules besides 1F1B, and their chunks a device."""


def _exposed(costs: Line, part: slice) -> float:
    """What is left of the sums of gradients behind the backward pass."""
    return max(0.0, float(costs.late[part].sum()) - float(costs.hiding[part].sum()))
