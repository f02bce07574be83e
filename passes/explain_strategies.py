"""Every strategy that was looked at, and why the one that was taken is better: data for `dlc explain FILE strategy`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from math import inf

from dlc.units import format_bytes, format_seconds
from passes.planning.bounds import least_bytes, lower_bound, work_bound
from passes.planning.plan import Planned
from passes.planning.space import Space
from passes.planning.step import Finished, Parts
from passes.planning.strategies import Strategy, enumerate_strategies

PARTS: dict[str, str] = {
    "compute": "computing",
    "moves": "moving tensors between ops",
    "sums": "summing gradients",
    "update": "updating weights",
    "bubble": "waiting in the pipeline",
    "recomputed": "computing activations again",
}
"""The parts of J in words; one word for each field of `Parts` but the whole."""


@dataclass(frozen=True, slots=True)
class Looked:
    """A strategy that was looked at: no plan under it costs less than `bound` seconds.

    `parts` are those of J, and `peak` the bytes of a rank, of its best plan, None where it has none or was not solved;
    `simulated` seconds are 0 where that was not simulated. `role` is winner, runner-up or the name of a baseline.
    """

    name: str
    bound: float
    parts: Parts | None
    peak: int | None
    simulated: float
    role: str
    why: str


@dataclass(frozen=True, slots=True)
class Strategies:
    """All that were looked at, the best first, and in sentences why the winner is better than each of some others."""

    looked: tuple[Looked, ...]
    reasons: tuple[str, ...]


def explain_strategies(planned: Planned) -> Strategies:
    """The strategies behind a plan."""
    solved = [_solved(planned, step) for step in _distinct(planned)]
    known = {_outer(step.strategy) for step in planned.found.finished}
    limit = planned.space.context.memory.bytes
    others = [
        _unsolved(planned, strategy, limit) for strategy in _enumerated(planned.space) if _outer(strategy) not in known
    ]
    without = [
        Looked(each.name, 0.0, None, None, 0.0, each.name, each.note) for each in planned.compared if not each.step
    ]
    ordered = sorted(solved, key=lambda each: (each.role != "winner", each.parts.objective if each.parts else 0.0))
    return Strategies((*ordered, *without, *sorted(others, key=lambda each: each.bound)), tuple(_reasons(planned)))


Outer = tuple[object, ...]


def _outer(strategy: Strategy) -> Outer:
    """What a strategy was enumerated as: its schedule is chosen later."""
    return (strategy.axes, strategy.families, strategy.microbatches, strategy.shard, strategy.recompute)


def _distinct(planned: Planned) -> Iterator[Finished]:
    """Finished steps, the best of each strategy; the winner is one of them."""
    seen = {_outer(planned.step.strategy)}
    yield planned.step
    for step in planned.found.finished:
        if _outer(step.strategy) not in seen:
            seen.add(_outer(step.strategy))
            yield step


def _enumerated(space: Space) -> Iterator[Strategy]:
    """What was enumerated at first, then the variants of it that were looked at to save memory."""
    units = sum(1 for node in space.graph.nodes if node.stage in ("forward", "loss"))
    yield from dict.fromkeys((*enumerate_strategies(space.graph, space.context, units), *space.made))


def _solved(planned: Planned, step: Finished) -> Looked:
    role, simulated = _role(planned, step)
    best = planned.step.objective
    if role == "winner":
        simulated, why = planned.plan.predicted.simulated_seconds, "taken"
    elif step.objective < best:
        why = "its simulated step is longer"
    elif step.objective < best * (1 + EQUAL):
        why = "as long as the winner"
    else:
        why = f"{step.objective / best:.4g} times the winner"
    own = planned.plan.predicted.own_seconds  # of every step
    parts = replace(step.parts, objective=step.parts.objective + own)
    return Looked(str(step.strategy), step.bound + own, parts, step.peak, simulated, role, why)


def _role(planned: Planned, step: Finished) -> tuple[str, float]:
    """(what a step is among those compared, its simulated seconds)."""
    if step is planned.step:
        return "winner", 0.0
    plan = planned.plan
    for each, shown in zip(planned.compared, plan.baselines, strict=True):
        if each.step is step:
            return each.name, shown.simulated_seconds
    if plan.runner_up is not None and step is _runner_up(planned):
        return "runner-up", plan.runner_up.simulated_seconds
    return "", 0.0


def _unsolved(planned: Planned, strategy: Strategy, limit: int) -> Looked:
    """A strategy without a plan: its bound, and what keeps it from being the best."""
    space, best = planned.space, planned.step.objective
    closely = strategy in space.made
    bound = max(work_bound(space, strategy), lower_bound(space, strategy) if closely else 0.0)
    least = least_bytes(space, strategy) if closely else 0.0
    if bound == inf:
        why = "some op cannot be divided so"
    elif least > limit:
        why = f"does not fit: needs at least {format_bytes(int(least))}"
    elif bound >= best * (1 - planned.plan.gap):
        why = "its bound is no better than the winner"
    elif closely:
        why = f"no plan of it is better than the winner and fits {format_bytes(limit)}"
    else:
        why = "not reached before the search ended"
    return Looked(str(strategy), bound, None, None, 0.0, "", why)


# --- why the winner wins -------------------------------------------------------------------------------------------


def _reasons(planned: Planned) -> Iterator[str]:
    """A sentence for the runner-up, and for each baseline that is another plan."""
    winner, told = planned.step, {_outer(planned.step.strategy)}
    others = [("the runner-up", _runner_up(planned)), *((each.name, each.step) for each in planned.compared)]
    for name, step in others:
        if step is not None and step is not winner and _outer(step.strategy) not in told:
            told.add(_outer(step.strategy))
            yield _against(winner, f"{name} ({step.strategy})", step)


def _runner_up(planned: Planned) -> Finished | None:
    """The step that the plan calls its runner-up."""
    shown = planned.plan.runner_up
    if shown is None:
        return None
    alike = (step for step in planned.found.finished if str(step.strategy) == shown.description)
    return next((step for step in alike if step.objective == shown.objective), None)


EQUAL = 5e-4
"""Objectives whose ratio differs by less from 1 are shown as equal."""

SMALL = 0.1
"""A part that makes up less than this share of the largest difference is not worth mentioning."""


def _against(winner: Finished, name: str, other: Finished) -> str:
    """`It takes 12 ms (8 %) less than data parallelism: summing gradients takes 20 ms less, …`"""
    saved = other.objective - winner.objective
    if abs(saved) < EQUAL * other.objective:
        return f"It takes as long as {name}."
    size = f"{format_seconds(abs(saved))} ({abs(saved) / other.objective:.1%})".replace("%", " %")
    head = f"It takes {size} {'less' if saved >= 0 else 'more'} than {name}"
    differences = [
        (getattr(other.parts, part.name) - getattr(winner.parts, part.name), PARTS[part.name])
        for part in fields(Parts)
        if part.name in PARTS
    ]
    largest = max(abs(difference) for difference, _ in differences)
    told = [(d, what) for d, what in differences if abs(d) > SMALL * largest]
    told.sort(key=lambda pair: -pair[0])
    parts = [f"{what} takes {format_seconds(abs(d))} {'less' if d > 0 else 'more'}" for d, what in told]
    return f"{head}: {', '.join(parts)}." if parts else f"{head}."
