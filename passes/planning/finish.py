"""From the choice of options to a whole step: stages, schedule, recomputation, what overlap hides, and memory.

J of cost-models.md §7: without a pipeline the seconds of all ops and moves, plus the sums of gradients that are left
exposed; with one the makespan of its schedule over its stages, plus the slowest stage's updates and exposed sums.
"""

from __future__ import annotations

from math import inf

from passes.planning.evaluate import Line
from passes.planning.flow import Flow
from passes.planning.pipelined import exposed, pipelined
from passes.planning.runs import cheapest_runs
from passes.planning.segments import Segments, checkpointed, spared, without
from passes.planning.solve import Solved
from passes.planning.space import Space
from passes.planning.sparing import Problem, sparing
from passes.planning.step import Finished, Parts
from passes.planning.strategies import Strategy
from passes.planning.traffic import sent


def finish(found: Space, solved: Solved, limit: float, below: float = inf, enough: float = inf) -> Finished | None:
    """The step of a solved strategy on devices of `limit` bytes, less what is set aside for its Program (`Space.room`);
    None where it does not fit, or sends too much, or is a pipeline that surely takes more than `enough`.

    One that takes `below` or more need not be the best, or there is none; with `below` at minus infinity 1F1B is all
    that is tried of a pipeline without a written schedule, and segments are all that is tried of what may be computed
    again.
    """
    costs: Line = solved.line
    limit = limit if solved.strategy.stages > 1 else found.room(solved.strategy, limit)
    segments: Segments = ()
    if solved.strategy.recompute == "all" or found.orders.again:
        costs, segments = checkpointed(costs, found.orders.repeated(solved.strategy))
    if solved.strategy.stages == 1:
        if segments and below > -inf and not found.orders.again and found.context.request.recompute == "auto":
            costs, segments = _again(found, solved, (costs, segments), limit)
        made = _alone(found, solved, costs, segments, limit)
    elif found.spares(solved.strategy) and below > -inf:
        made = sparing(Problem(found, solved, limit, below))
    else:
        made = pipelined(found, solved, costs, segments, limit, below, enough)
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
    sums = exposed(costs, slice(None))
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
