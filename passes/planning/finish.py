"""From the choice of options to a whole step: stages, schedule, recomputation, what overlap hides, and memory.

J of cost-models.md §7: without a pipeline the seconds of all ops and moves, plus the sums of gradients that are left
exposed; with one the makespan of its schedule over its stages, plus the slowest stage's updates and exposed sums.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING

from dlc.cost.schedules import Schedule
from passes.planning.cuts import Cuts, Unit, best_schedule, cut
from passes.planning.evaluate import Line
from passes.planning.segments import checkpointed
from passes.planning.space import Solved, Space
from passes.planning.strategies import PIPELINE, Strategy

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
    """A whole step. Stage i has the ops bounds[i] to bounds[i + 1] - 1; `peaks` are the bytes of each device.

    No plan under the same outer choice, cuts included, has a J below `bound`.
    """

    solved: Solved
    strategy: Strategy
    parts: Parts
    bounds: tuple[int, ...]
    peaks: tuple[int, ...]
    sends: tuple[float, ...] = ()  # behind each stage, for one microbatch
    recomputed: frozenset[int] = frozenset()
    bound: float = 0.0

    @property
    def objective(self) -> float:
        """J in seconds."""
        return self.parts.objective

    @property
    def peak(self) -> int:
        """Bytes of the device with most."""
        return max(self.peaks)


def finish(found: Space, solved: Solved, limit: float, below: float = inf) -> Finished | None:
    """The step of a solved strategy on devices of `limit` bytes; None where it does not fit.

    One that takes `below` or more need not be the best.
    """
    costs, again = solved.line, frozenset[int]()
    if solved.strategy.recompute == "all":
        costs, again = checkpointed(costs)
    if solved.strategy.stages == 1:
        return _alone(found, solved, costs, again, limit)
    return _pipelined(found, solved, costs, again, limit, below)


def _alone(found: Space, solved: Solved, costs: Line, again: frozenset[int], limit: float) -> Finished | None:
    """Without a pipeline: the microbatches one after another."""
    count = solved.strategy.microbatches
    most = max(shares) * len(shares) / solved.strategy.effective if (shares := solved.strategy.shares) else 1.0
    peak = int(costs.fixed.sum() + most * (costs.saved.sum() + costs.transient.max(initial=0.0)))
    if peak > limit:
        return None
    moves = count * float(costs.moves.sum())
    work = count * float((costs.forward + costs.backward + costs.weights).sum()) - moves
    sums = _exposed(found, costs, slice(None))
    update = float(costs.update.sum())
    extra = count * float(solved.line.forward[sorted(again)].sum()) if again else 0.0
    parts = Parts(work + moves + sums + update, work - extra, moves, sums, update, 0.0, extra)
    return Finished(
        solved, solved.strategy, parts, (0, len(costs.forward)), (peak,), (), again, min(solved.bound, parts.objective)
    )


def _pipelined(
    found: Space, solved: Solved, costs: Line, again: frozenset[int], limit: float, below: float
) -> Finished | None:
    strategy = solved.strategy
    sends = found.fabric(strategy.mesh).send(costs.crossing, PIPELINE)
    columns = (costs.forward, costs.backward, costs.weights, costs.saved, costs.fixed, sends, costs.transient)
    units = [Unit(*each) for each in zip(*(column.tolist() for column in columns), strict=True)]
    chosen = _cut(found, strategy, units, limit, below)
    if chosen is None:
        return None
    strategy, cuts = chosen
    stages = [slice(a, b) for a, b in pairwise(cuts.bounds)]
    devices = [stages[i :: strategy.stages] for i in range(strategy.stages)]
    busy = [
        sum(float(costs.forward[s].sum() + costs.backward[s].sum() + costs.weights[s].sum()) for s in d)
        for d in devices
    ]
    tails = [(sum(_exposed(found, costs, s) for s in d), sum(float(costs.update[s].sum()) for s in d)) for d in devices]
    sums, update = max(tails, key=sum)
    moves = strategy.microbatches * max(sum(float(costs.moves[s].sum()) for s in d) for d in devices)
    work = strategy.microbatches * max(busy)
    extra = strategy.microbatches * float(solved.line.forward[sorted(again)].sum()) / strategy.stages if again else 0.0
    total = cuts.makespan + sums + update
    parts = Parts(total, work - moves - extra, moves, sums, update, cuts.makespan - work, extra)
    behind = tuple(float(sends[b - 1]) for b in cuts.bounds[1:-1])
    peaks = tuple(int(size) for size in cuts.bytes)
    proved = solved.bound / solved.objective if solved.objective else 1.0
    return Finished(
        replace(solved, strategy=strategy), strategy, parts, cuts.bounds, peaks, behind, again, total * proved
    )


def _cut(
    found: Space, strategy: Strategy, units: list[Unit], limit: float, below: float
) -> tuple[Strategy, Cuts] | None:
    """The best cuts of the schedule asked for, or of the best one.

    Other schedules than 1F1B are tried where one without any bubble would take less than `below`.
    """
    stages, count, asked = strategy.stages, strategy.microbatches, found.context.request.schedule
    speeds = found.stage_speeds(strategy)
    if asked != "auto":
        chunks = 2 if asked == "interleaved" else 1
        cuts = cut(units, stages, count, asked, limit=limit, chunks=chunks, speeds=speeds)  # type: ignore[arg-type]
        return None if cuts is None else (strategy.with_(schedule=asked, chunks=chunks), cuts)
    first = cut(units, stages, count, "one_f_one_b", limit=limit, speeds=speeds)
    ideal = count * sum(unit.forward + unit.backward + unit.weights for unit in units) / sum(speeds or (1.0,) * stages)
    if first is not None and ideal >= below:
        return strategy.with_(schedule="one_f_one_b"), first
    best = best_schedule(units, stages, count, limit=limit, schedules=OTHERS, speeds=speeds)
    if best is None or (first is not None and first.makespan <= best[2].makespan):
        return None if first is None else (strategy.with_(schedule="one_f_one_b"), first)
    schedule, chunks, cuts = best
    return strategy.with_(schedule=schedule, chunks=chunks), cuts


OTHERS: tuple[Schedule, ...] = ("gpipe", "interleaved", "zero_bubble")


def _exposed(found: Space, costs: Line, part: slice) -> float:
    """What is left of the sums of gradients behind the last microbatch's backward pass, which hides a share of them."""
    hiding = float(costs.hiding[part].sum())
    return max(0.0, float(costs.sums[part].sum()) - found.overlap * hiding)
