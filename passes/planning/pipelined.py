"""The step of a chosen line in a pipeline: where its stages are cut, by which schedule, and what that takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING

from passes.planning.cuts import Cuts, Unit, Within, cut
from passes.planning.evaluate import Line
from passes.planning.pipeline_line import line
from passes.planning.segments import Segments, checkpointed
from passes.planning.solve import Solved
from passes.planning.space import Space
from passes.planning.step import Finished, Parts
from passes.planning.strategies import PIPELINE, Strategy
from passes.planning.unlike import stage_lines

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


def pipelined(
    found: Space, solved: Solved, costs: Line, again: Segments, limit: float, below: float, enough: float = inf
) -> Finished | None:
    """The step of a solved strategy with the best cuts of the line, in whose costs segments are computed again; None
    where stages of it do not fit `limit` bytes, or where all cuts of it surely take more than `enough` seconds."""
    strategy = solved.strategy
    sends = found.fabric(strategy.mesh).send(costs.crossing, PIPELINE)
    own = stage_lines(found, solved)
    if again and own:
        own = tuple(checkpointed(each, found.orders.repeated(strategy))[0] for each in own)
    chosen = _cut(found, strategy, Units(costs, sends, own), limit, (below, enough / found.batches))
    if chosen is None:
        return None
    return staged(found, replace(solved, strategy=chosen[0]), costs, again, sends, chosen[1], own)


def staged(
    found: Space, solved: Solved, costs: Line, again: Segments, sends: Array, cuts: Cuts, own: tuple[Line, ...]
) -> Finished:
    """The step with these cuts of the line, in whose costs segments are computed again."""
    strategy = solved.strategy
    stages = [slice(a, b) for a, b in pairwise(cuts.bounds)]
    devices = [stages[i :: strategy.stages] for i in range(strategy.stages)]
    lines = own or (costs,) * strategy.stages
    passed = [sum(messages(sends, s, ends(found)) for s in d) for d in devices]
    busy = [
        sum(float(at.forward[s].sum() + at.backward[s].sum() + at.weights[s].sum()) for s in d) + sent_
        for at, d, sent_ in zip(lines, devices, passed, strict=True)
    ]
    tails = [
        (sum(exposed(at, s) for s in d), sum(float(at.update[s].sum()) for s in d))
        for at, d in zip(lines, devices, strict=True)
    ]
    sums, update = max(tails, key=sum)
    count, filled = strategy.microbatches * found.batches, cuts.makespan * found.batches
    moved = (sum(float(costs.moves[s].sum()) for s in d) + sent_ for d, sent_ in zip(devices, passed, strict=True))
    moves = count * max(moved)
    work = count * max(busy)
    extra = count * float((costs.backward - solved.line.backward).sum()) / strategy.stages
    total = filled + sums + update
    parts = Parts(total, work - moves - extra, moves, sums, update, filled - work, extra)
    behind = tuple(float(sends[b - 1]) for b in cuts.bounds[1:-1])
    peaks = tuple(int(size) for size in cuts.bytes)
    proved = total * (solved.bound / solved.objective) if solved.objective else total
    if found.spares(strategy):
        proved = min(solved.bound, total)  # what is computed again is not the least that may be
    waiting = max(0.0, 1.0 - count * sum(busy) / (strategy.stages * filled)) if filled else 0.0
    whole = costs if again and not own else None
    return Finished(solved, strategy, parts, cuts.bounds, peaks, behind, again, proved, own, waiting, repeated=whole)


class Units:
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


def _cut(
    found: Space, strategy: Strategy, units: Units, limit: float, wanted: tuple[float, float]
) -> tuple[Strategy, Cuts] | None:
    """The best cuts of the schedule asked for, or of the best one, as far as they may take no more than `enough`.

    Other schedules than 1F1B are tried where one without any bubble would take less than `below`, and only as far as
    they may be better than one before: those first that mostly are.
    """
    (below, enough), asked = wanted, found.context.request.schedule
    if asked != "auto":
        strategy = strategy.with_(schedule=asked, chunks=2 if asked == "interleaved" else 1)
        return cut_for(found, strategy, units, limit, enough)
    first = cut_for(found, strategy.with_(schedule="one_f_one_b", chunks=1), units, limit, enough)
    rate = sum(found.stage_speeds(strategy) or (1.0,) * strategy.stages)
    ideal = strategy.microbatches * sum(unit.forward + unit.backward + unit.weights for unit in units.slow) / rate
    if ideal >= below and (first is not None or below == -inf):
        return first
    tried = {0: first}
    for i, (schedule, chunks) in reversed(list(enumerate(OTHERS, start=1))):
        least = min((each[1].makespan for each in tried.values() if each is not None), default=enough)
        tried[i] = cut_for(found, strategy.with_(schedule=schedule, chunks=chunks), units, limit, min(least, enough))
    made = (tried[i] for i in range(len(tried)))  # of equal ones the first
    return min((each for each in made if each is not None), key=lambda each: each[1].makespan, default=None)


def cut_for(
    found: Space, strategy: Strategy, units: Units, limit: float, below: float = inf
) -> tuple[Strategy, Cuts] | None:
    """The best cuts of a schedule in which ops are in the stages that pins name, and no more idles than may; None also
    where all surely take more than `below`.

    They are found once for equal lines: meshes of one stage between which ops make no difference give the same.
    """
    speeds, limit = found.stage_speeds(strategy), found.room(strategy, limit)
    key = strategy.stages, strategy.microbatches, strategy.schedule, strategy.chunks, speeds, limit, units.digest
    if key not in found.cuts or found.cuts[key][0] < below:
        cuts = _found_cuts(found, strategy, units, limit, speeds, below)
        found.cuts[key] = (below if cuts is None else inf), cuts
    cuts = found.cuts[key][1]
    return None if cuts is None else (strategy, cuts)


def _found_cuts(
    found: Space, strategy: Strategy, units: Units, limit: float, speeds: tuple[float, ...], below: float
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
        ends=ends(found),
        own=units.own,
        near=False,
        below=below,
    )
    each = units.own or (units.slow,) * strategy.stages
    if cuts is None or idle(strategy, each, cuts, ends(found)) > found.bound_of("bubble"):
        return None
    return cuts


def ends(found: Space) -> int:
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


def exposed(costs: Line, part: slice) -> float:
    """What is left of the sums of gradients behind the backward pass."""
    return max(0.0, float(costs.late[part].sum()) - float(costs.hiding[part].sum()))
