"""The baselines beside a plan, and the choice among it and them by simulation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush
from math import inf

from dlc.ir.plan import Alternative, Plan, Prediction
from dlc.units import format_bytes
from passes.planning.apply import apply
from passes.planning.baselines import Baseline
from passes.planning.bounds import least_bytes, lower_bound, work_bound
from passes.planning.finish import finish
from passes.planning.search import UNEVEN, Found, relieved
from passes.planning.solve import solve
from passes.planning.space import Space
from passes.planning.step import Finished

Simulate = Callable[[Plan], float]
"""A plan -> seconds of its simulated step."""

NOT_KEPT = "does not keep all that is asked for"


@dataclass(frozen=True, slots=True)
class Compared:
    """A baseline as the search sees it; `step` is None where it does not fit, for the reason in `note`."""

    name: str
    step: Finished | None
    note: str = ""


def compare(everything: Space, group: Baseline, limit: float) -> Compared:
    """The best strategy of a baseline that fits, with as much sharding and recomputation as it needs."""
    needed, best = inf, inf
    waiting, steps = list(group.strategies), list[Finished]()
    while waiting and not steps:
        queue = [(work_bound(everything, each), 0, i) for i, each in enumerate(waiting)]
        heapify(queue)
        while queue and queue[0][0] < best:
            bound, level, number = heappop(queue)
            strategy = waiting[number]
            if level == 0:
                least = least_bytes(everything, strategy)
                needed = min(needed, least)
                if least <= limit:
                    heappush(queue, (max(bound, lower_bound(everything, strategy)), 1, number))
                continue
            solved = solve(everything, strategy, best * (UNEVEN if strategy.stages > 1 else 1.0))
            made = finish(everything, solved, limit, -inf, best) if solved else None
            if made is not None and made.objective < inf:  # else what one op has cannot become what the next reads
                steps.append(made)
                best = min(best, made.objective)
        waiting = list(dict.fromkeys(variant for each in waiting for variant in relieved(each, everything)))
    if steps:
        first = min(steps, key=lambda step: step.objective)
        return Compared(group.name, finish(everything, first.solved, limit) or first)
    return Compared(group.name, None, _why_not(needed, limit))


def _why_not(needed: float, limit: float) -> str:
    """Why no strategy of a baseline has a plan, where each of them needs `needed` bytes at least."""
    if needed == inf:
        return "cannot be had on these ranks"
    return f"needs {format_bytes(int(needed))} or more a rank" if needed > limit else NOT_KEPT


def choose(
    everything: Space, found: Found, compared: tuple[Compared, ...], simulate: Simulate | None, free: bool
) -> tuple[Finished, Plan, dict[int, float]]:
    """The best step by simulation among the best by J, the runner-up and, where the strategy is free, the baselines;
    and all simulated seconds by step. The gap is that of the best by J.

    J adds up costs that Programs share out differently, so that two that differ by less than a percent or two may be
    ranked otherwise by simulation. Where J ranks a baseline above the step that is taken, J is made exact for all that
    were simulated: it is what their Programs take.
    """
    first = found.finished[0]
    gap = 1.0 - found.bound / first.objective
    gap = gap if gap > ALIKE else 0.0
    if simulate is None:
        return first, apply(everything, first, gap), {}
    own = [first, *_others(found, first)[:1]]
    steps = [*own, *(each.step for each in compared if each.step is not None)]
    times: dict[int, float] = {}
    plans: dict[int, Plan] = {}
    for step in steps:
        if times and not _may_win(step, min(times.values())):
            continue
        plans[id(step)] = apply(everything, step, gap)
        alike = (other for other in times if decisions(plans[other]) == decisions(plans[id(step)]))
        known = next(alike, None)
        times[id(step)] = simulate(plans[id(step)]) if known is None else times[known]
    may_win = [step for step in (steps if free else own) if id(step) in times]
    best = min(may_win, key=lambda step: (times[id(step)], step.objective))
    predicted = replace(plans[id(best)].predicted, simulated_seconds=times[id(best)])
    if free and any(each.step.objective * (1 + ALIKE) < best.objective for each in compared if each.step is not None):
        predicted = _exact(predicted)
    return best, plans[id(best)].with_(predicted=predicted), times


def _exact(predicted: Prediction) -> Prediction:
    """The prediction whose J is what the Program takes."""
    seconds = predicted.simulated_seconds
    times = seconds / predicted.objective
    low, high = predicted.low_seconds * times, predicted.high_seconds * times
    return replace(predicted, step_seconds=seconds, objective=seconds, low_seconds=low, high_seconds=high)


def _may_win(step: Finished, best: float) -> bool:
    """Whether a simulation may show a step to be faster than one of so many seconds.

    What it computes on its busiest stage, with the bubble, is no less; and J is not by more than `WORTH` above it: what
    J counts and a simulation hides are moves and sums, and was a fifteenth at most.
    """
    parts = step.parts
    return parts.objective - parts.moves - parts.sums < best * ROUNDED and parts.objective < WORTH * best


WORTH = 1.2
"""So many times the best simulated step may J be."""

ROUNDED = 1.02
"""What a simulation may find less than J's own sums, for a schedule whose cells do not all wait as J says."""


def decisions(plan: Plan) -> tuple[object, ...]:
    """What a Program follows from: plans in which these are equal have the same one."""
    return plan.mesh, plan.shards, plan.schedule, plan.microbatches, plan.chunks, plan.shard, plan.ops


def _others(found: Found, step: Finished) -> list[Finished]:
    """Finished steps that are not the same plan under another name, best first."""
    return [other for other in found.finished if abs(other.objective - step.objective) > ALIKE * step.objective]


ALIKE = 1e-9
"""Steps whose J differs by no more are one plan under two names: a mesh whose axes all split the batch."""


def comparison(
    found: Found, best: Finished, compared: tuple[Compared, ...], times: dict[int, float], exact: bool
) -> dict[str, object]:
    """The fields of a plan that say what it was chosen among; of what Programs take, where J is `exact`."""
    second = next(iter(_others(found, best)), None)
    return {
        "runner_up": None if second is None else _alternative(str(second.strategy), second, times, exact),
        "baselines": tuple(
            Alternative(each.name, 0.0, note=each.note)
            if each.step is None
            else _alternative(f"{each.name}: {each.step.strategy}", each.step, times, exact)
            for each in compared
        ),
    }


def _alternative(name: str, step: Finished, times: dict[int, float], exact: bool) -> Alternative:
    simulated = times.get(id(step), 0.0)
    return Alternative(name, simulated if exact and simulated else step.objective, simulated, step.peak)
