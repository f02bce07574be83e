"""The Plan of a training graph by search over all strategies, beside its baselines, its bounds and the runner-up."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from dlc.cost.compute import step_work
from dlc.diagnostics import DiagnosticError
from dlc.ir.graph import Graph
from dlc.ir.plan import Alternative, Plan
from passes.context import Context
from passes.planning.baselines import Baseline, baselines
from passes.planning.case import Allocated, Case
from passes.planning.compare import NOT_KEPT, Compared, Simulate, choose, compare, comparison
from passes.planning.least import frugal, scarce, smallest
from passes.planning.orders import refused
from passes.planning.search import Effort, Found, Search, search
from passes.planning.space import Space, space
from passes.planning.step import Finished
from passes.planning.strategies import Strategy, enumerate_strategies
from passes.planning.traffic import sending_at_most, sent
from passes.planning.unfit import unfit


@dataclass(slots=True)
class Record:
    """What the search did: how much there was, and the seconds of its parts."""

    variables: int = 0
    kinds: int = 0
    options: int = 0
    strategies: int = 0
    solved: int = 0
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan with what it was chosen among."""

    plan: Plan
    space: Space
    found: Found
    step: Finished
    compared: tuple[Compared, ...]
    record: Record


def plan(
    graph: Graph,
    context: Context,
    limit: float,
    effort: Effort,
    simulate: Simulate | None = None,
    regraph: Callable[[Context], Graph] | None = None,
    allocated: Allocated | None = None,
) -> Planned:
    """The best plan for devices of `limit` bytes by J, and by simulation among the best few and all baselines.

    Where `allocated` says what Programs take, that keeps the limit as well, and is what the plan's memory says.

    DiagnosticError E0509 where nothing fits, with repairs (for which `regraph` makes the graph for another precision);
    E0512 and E0527 where no plan keeps all orders, and what `refused` finds.
    """
    faults = refused(graph, context)
    if faults:
        raise DiagnosticError(faults)
    case = Case(graph, context, limit, regraph, allocated)
    if context.request.objective == "step_time":
        made = _fastest(case, effort, simulate)
    else:
        made = _fitting(case, lambda less: _sparing(less, effort, simulate))
    if made is None:
        raise DiagnosticError([unfit(case)])
    return _whole(made)


def _whole(made: Planned) -> Planned:
    """A plan whose seconds, and those of what it is compared with, have what every step does besides its ops.

    It is the same for all plans, so it is no part of what the search compares.
    """
    figure = step_work(made.space.device, made.space.context.profile)
    own, (low, high) = figure.seconds, figure.interval
    plan, predicted = made.plan, made.plan.predicted

    def longer(seconds: float) -> float:
        return seconds + own if seconds else 0.0  # what there is no figure of

    def other(each: Alternative) -> Alternative:
        return replace(each, objective=longer(each.objective), simulated_seconds=longer(each.simulated_seconds))

    predicted = replace(
        predicted,
        step_seconds=predicted.step_seconds + own,
        objective=predicted.objective + own,
        own_seconds=own,
        simulated_seconds=longer(predicted.simulated_seconds),
        low_seconds=predicted.low_seconds + low,
        high_seconds=predicted.high_seconds + high,
    )
    runner_up = None if plan.runner_up is None else other(plan.runner_up)
    return replace(
        made, plan=plan.with_(predicted=predicted, runner_up=runner_up, baselines=tuple(map(other, plan.baselines)))
    )


@dataclass(frozen=True, slots=True)
class Offered:
    """What there is to choose from whatever the memory, and the baselines; `seconds` were spent to find it."""

    everything: Space
    strategies: tuple[Strategy, ...]
    named: tuple[Baseline, ...]
    free: bool
    seconds: float


def _offered(case: Case) -> Offered:
    """What a case's search for the shortest step chooses from."""
    graph, context, begin = case.graph, case.context, time.perf_counter()
    units = sum(1 for node in graph.nodes if node.stage in ("forward", "loss"))
    free = context.request.strategy.kind == "auto" and not context.request.mesh
    named = tuple(baselines(graph, context, units))
    strategies = list(enumerate_strategies(graph, context, units))
    everything = space(graph, context, [*strategies, *(each for group in named for each in group.strategies)])
    if everything.uneven is not None and context.request.strategy.kind in ("auto", "data") and not context.request.mesh:
        strategies.append(everything.uneven)
    return Offered(everything, tuple(strategies), named, free, time.perf_counter() - begin)


def _fastest(case: Case, effort: Effort, simulate: Simulate | None) -> Planned | None:
    """The fastest plan whose Program fits; None where none is found.

    Of the steps that a search finds the best one's Program is made. Where it does not fit, the strategies to which that
    matters are searched again with as much set aside. All bounds are those of plans' counts.
    """
    offered, limit, record = _offered(case), case.limit, Record()
    everything, strategies = offered.everything, offered.strategies
    record.seconds["tables"], begin = offered.seconds, time.perf_counter()
    compared = tuple(compare(everything, group, limit) for group in offered.named)
    begin = _lap(record, "baselines", begin)
    known = [each.step for each in compared if each.step is not None] if offered.free else []
    if scarce(everything, strategies, limit):
        least = smallest(everything, strategies, limit)
        known += [least] if least is not None and least.peak <= limit else []
        strategies = strategies if known else ()
    searched = Search(everything, limit, effort, strategies, known)
    for _ in range(ROUNDS):
        found = searched.run()
        if not found.finished:
            break
        step = found.finished[0]
        size = case.measure(everything, step) if step.peak > NEAR * limit else step.peak
        if size > limit:
            searched.refuse(step, size)
        elif step.peak <= NEAR * limit or not searched.allow(step, size):
            compared = _also_fitting(offered, searched, compared, limit)
            begin = _lap(record, "search", begin)
            made = _planned(everything, found, compared, simulate, offered.free, record)
            size, begin = case.measure(everything, made.step, made.plan), time.perf_counter()
            if size <= limit:
                return _measured(made, size, found.bound)
            searched.refuse(made.step, size)
    if not searched.done and not everything.aside:
        return _fitting(case, lambda less: _squeezed(less, effort, simulate, compared, record))
    fits = sorted(searched.fitting, key=lambda step: step.objective)[:1]
    return _any(case, (everything, fits[0]) if fits else None, searched.run(), record)


def _also_fitting(
    offered: Offered, searched: Search, compared: tuple[Compared, ...], limit: float
) -> tuple[Compared, ...]:
    """The baselines; those that seem better than what fits, or to be simulated faster, but do not fit, anew."""
    everything, best, made = offered.everything, searched.best, list[Compared]()
    for each in compared:
        step = each.step
        wanted = step is not None and (step.objective < best or step.strategy in everything.aside)
        if step is not None and wanted and step.peak > everything.room(step.strategy, limit):
            group = next(group for group in offered.named if group.name == each.name)
            made.append(compare(everything, group, limit))
        else:
            made.append(each)
    return tuple(made)


def _planned(
    everything: Space,
    found: Found,
    compared: tuple[Compared, ...],
    simulate: Simulate | None,
    free: bool,
    record: Record,
) -> Planned:
    """The best of what was found, beside what it is compared with."""
    begin = time.perf_counter()
    record.variables, record.kinds = len(everything.network.variables), len(everything.network.kinds)
    record.options, record.strategies, record.solved = everything.options, found.enumerated, found.solved
    best, chosen, others = choose(everything, found, compared, simulate, free)
    _lap(record, "plans", begin)
    return Planned(
        chosen.with_(**comparison(found, best, compared, others, chosen.predicted.objective != best.objective)),
        everything,
        found,
        best,
        compared,
        record,
    )


NEAR = 0.9
"""From this share of the memory on, a plan's Program may well take more than there is."""

ROUNDS = 12
"""How often a plan is made, for less memory where the Program of the one before takes more than there is."""

FAILURES = 2
"""How often less is tried where nothing fits: finding that out takes long."""


def _fitting(case: Case, make: Callable[[Case], Planned | None]) -> Planned | None:
    """The plan that `make` finds, or one whose Program fits its memory as well; None where none is found.

    What a Program takes beside its plan's count is set aside, and the plan made again; where nothing fits then, as
    plans differ in it, half of what was too much. At last any plan that fits is taken. What the first one was proved to
    be near to bounds them all.
    """
    first = made = make(case.counting(case.limit))
    if first is None:
        return None
    aside, over, little, much = 0.0, 0.0, 0.0, list[float]()
    for rounds in range(ROUNDS):
        if rounds:
            made = make(case.counting(case.limit - aside))
        if made is None:
            much.append(aside)
            if len(much) == FAILURES:
                break
        else:
            size = case.measure(made.space, made.step, made.plan)
            if size <= case.limit:
                return _measured(made, size, first.found.bound)
            little, over = aside, float(size - made.step.peak)
        aside = 0.5 * (little + min(much)) if much and over >= min(much) else over
    return _any(case, None, first.found, first.record)


def _any(case: Case, known: tuple[Space, Finished] | None, found: Found, record: Record) -> Planned | None:
    """A plan whose Program fits: the one that is known, or any."""
    if known is None:
        least = case.best_of(case.limit) or case.smallest_program(case.limit)
        if least is None or case.measure(least[0][0], least[1]) > case.limit:
            return None
        known = least[0][0], least[1]
    everything, step = known
    made = _planned(everything, Found((step,), step.objective, found.solved, found.enumerated), (), None, False, record)
    return _measured(made, case.measure(everything, step), found.bound)


def _measured(made: Planned, size: int, bound: float) -> Planned:
    """A plan with the bytes of its Program; nothing costs less than `bound`."""
    plan, found = made.plan, made.found
    if made.space.context.request.objective == "step_time" and bound < found.bound:
        found = replace(found, bound=bound)
        plan = plan.with_(gap=max(plan.gap, 1.0 - bound / found.finished[0].objective))
    return replace(made, plan=plan.with_(predicted=replace(plan.predicted, peak_bytes=size)), found=found)


def _squeezed(
    case: Case, effort: Effort, simulate: Simulate | None, compared: tuple[Compared, ...], record: Record
) -> Planned | None:
    """The plan among strategies that cut the batch into any number of microbatches, and with small workspaces, where
    that is needed; None where nothing fits."""
    begin, least = time.perf_counter(), case.best_of(case.limit)
    if least is None:
        return None
    (everything, strategies), step = least
    found = search(everything, strategies, case.limit, effort, [step])
    _lap(record, "search", begin)
    none = tuple(Compared(each.name, None, each.note or NOT_KEPT) for each in compared)
    return _planned(everything, found, none, simulate, True, record)


def _sparing(case: Case, effort: Effort, simulate: Simulate | None) -> Planned | None:
    """For the objectives memory and communication: the least that is needed first, then the fastest plan of no more;
    None where nothing fits."""
    begin, record = time.perf_counter(), Record()
    (everything, strategies), limit = case.space(), case.limit
    begin = _lap(record, "tables", begin)
    if case.context.request.objective == "memory":
        found = case.least_of()
        least = None if found is None else found[1]
        if found is not None:
            (everything, strategies), limit = found[0], float(found[1].peak)
    else:
        least = frugal(everything, strategies, case.limit)
    if least is None or least.peak > case.limit:
        return None
    if case.context.request.objective == "communication":
        everything.context = sending_at_most(everything.context, sent(everything, least))
    begin = _lap(record, "least", begin)
    searched = search(everything, strategies, limit, effort, [least])
    _lap(record, "search", begin)
    return _planned(everything, searched, (), simulate, False, record)


def _lap(record: Record, part: str, begin: float) -> float:
    now = time.perf_counter()
    record.seconds[part] = now - begin
    return now
