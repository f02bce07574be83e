"""The Plan of a training graph: algorithm and layout of every op, shards, buckets and their allreduce, and the figures.

What is minimised is J of cost-models.md §7: the seconds of all nodes and conversions on the slowest rank, and of the
communication that is left exposed. Layouts and algorithms are chosen for the first two alone, exactly; that minimises J
too, since a backward pass that is longer by t hides at most t more of the communication.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from dlc.cost.bounds import bounds
from dlc.cost.memory import peak_bytes
from dlc.ir.graph import Graph
from dlc.ir.plan import Alternative, Bounds, Figure, OpPlan, PassPlan, Plan, Prediction, Reason
from passes.buckets import Reduction, group_seconds, reduction, refuse_what_is_not_planned
from passes.context import Context
from passes.lower import lower
from passes.options import Operation
from passes.prices import Option
from passes.solve import Solution, second_best, solve
from passes.survey import Step, Survey, step, survey

Choice = Mapping[str, Option]
"""Op address -> the option taken."""


def choose(graph: Graph, context: Context, thrift: float = 0.0) -> Plan:
    """Enumerate, price, solve and write down the decisions for a training graph.

    With `thrift`, in seconds, a byte of a copy into another layout counts so much besides its time: for plans that
    have to be small.

    DiagnosticError: E0504, E0512 where rules leave an op no choice, E0701 for a strategy that no backend has,
    E0708 where ranks would have no samples. `passes.review` says which pins cost something.
    """
    refuse_what_is_not_planned(graph, context)
    found = survey(graph, context)
    problem = found.problem(thrift)
    best = solve(problem.problem)
    choice = problem.choice(best)
    times = step(found, choice)
    reduced = reduction(graph, context, found.device, times.ready, times.backward)
    predicted = _prediction(found, times, reduced)
    second = second_best(problem.problem, best, len(problem.addresses))
    runners_up = [
        *_other_algorithms(found, choice, predicted.objective),
        *_other_allreduce(reduced, predicted.objective),
    ]
    if second is not None:
        extra = second.cost - best.cost
        runners_up.append(
            Alternative(_difference(choice, problem.choice(second)), predicted.objective + max(0.0, extra))
        )
    plan = Plan(
        network=graph.name,
        cluster=context.cluster.name,
        ranks=context.ranks,
        batch=graph.batch,
        mesh=(("data", context.ranks),),
        shards=found.shards,
        ops=tuple(_op_plan(found, operation, choice[operation.address]) for operation in found.operations),
        buckets=reduced.buckets,
        predicted=predicted,
        bounds=_bounds(graph, context, reduced),
        runner_up=min(runners_up, key=lambda other: other.objective, default=None),
        baselines=tuple(_baselines(found)),
        sources=_sources(context, best),
        threads=found.device.cores if found.device.kind == "cpu" else 1,
    )
    return plan.with_(predicted=replace(predicted, peak_bytes=peak_bytes(lower(graph, plan, context))))


def _prediction(found: Survey, times: Step, reduced: Reduction) -> Prediction:
    """J and its parts; bytes at the peak are counted once the program is lowered."""
    communication = reduced.exposed + group_seconds(found.graph, found.context, found.device, found.shards)
    total = times.compute + times.conversion + communication
    return Prediction(total, 0, total, times.compute, times.conversion, communication)


def _bounds(graph: Graph, context: Context, reduced: Reduction) -> Bounds:
    size = sum(bucket.bytes for bucket in reduced.buckets)
    return bounds(graph, context.cluster, context.ranks, context.compute, size)


def _op_plan(found: Survey, operation: Operation, option: Option) -> OpPlan:
    """The decisions for one op, with who made them."""
    address, rules = operation.address, found.rules
    algorithms = {c.algorithm for c in found.candidates[address] if c.excluded is None and c.layout == option.layout}
    pin, layout_pin = rules.pin(address, "algorithm"), rules.pin(address, "layout")
    reason = Reason("pinned", pin.span.place) if pin else Reason("chosen" if len(algorithms) > 1 else "only")
    layout_reason = Reason("chosen" if len(found.options[address]) > 1 else "only")
    if layout_pin is not None:
        layout_reason = Reason("pinned", layout_pin.span.place)
    elif (span := rules.request.span("layout")) and option.layout == rules.request.layout:
        layout_reason = Reason("pinned", span.place)
    return OpPlan(address, option.layout, option.passes, (), reason, layout_reason)


def _difference(choice: Choice, other: Choice) -> str:
    """`c3.conv in NHWC, not NCHW`: the first ops whose layouts differ, and how many more."""
    parts = [
        f"{address} in {other[address].layout}, not {option.layout}"
        for address, option in choice.items()
        if other[address].layout != option.layout
    ]
    more = f" and {len(parts) - 3} more" if len(parts) > 3 else ""
    return "; ".join(parts[:3]) + more


def _other_algorithms(found: Survey, choice: Choice, objective: float) -> Iterator[Alternative]:
    """The next best algorithm of each pass, all layouts as they are."""
    for address, option in choice.items():
        taken = {part.stage: part for part in option.passes}
        others = [
            (found.prices.figure(c.node, c.layout, c.algorithm).seconds - taken[c.node.stage].figure.seconds, c)
            for c in found.candidates[address]
            if c.excluded is None and c.layout == option.layout and c.algorithm != taken[c.node.stage].algorithm
        ]
        if others:
            extra, candidate = min(others, key=lambda pair: pair[0])
            old = taken[candidate.node.stage].algorithm
            description = f"{candidate.node.address} by {candidate.algorithm}, not {old}"
            yield Alternative(description, objective + extra)


def _other_allreduce(reduced: Reduction, objective: float) -> Iterator[Alternative]:
    if reduced.runner_up is not None:
        extra = reduced.runner_up.objective - reduced.exposed
        yield Alternative(reduced.runner_up.description, objective + extra)


def _baselines(found: Survey) -> Iterator[Alternative]:
    """Plans that anyone would think of, without pins: each op by itself in NCHW, im2col everywhere, a single rank."""
    graph, context = found.graph, found.context
    free = survey(graph, context, pinned=False) if found.rules.any else found
    greedy = {address: _in_default(free, address) for address in free.options}
    yield Alternative("each op by itself in NCHW", _objective(free, greedy))
    yield Alternative("im2col in NCHW everywhere", _objective(free, {a: _im2col(free, a) for a in free.options}))
    if context.ranks > 1:
        alone = survey(graph, context, ranks=1, pinned=False)
        problem = alone.problem()
        times = step(alone, problem.choice(solve(problem.problem)))
        yield Alternative("a single rank", times.compute + times.conversion)


def _objective(found: Survey, choice: Choice) -> float:
    times = step(found, choice)
    reduced = reduction(found.graph, found.context, found.device, times.ready, times.backward)
    return _prediction(found, times, reduced).objective


def _in_default(found: Survey, address: str) -> Option:
    """The first option: the default layout comes first."""
    return found.options[address][0]


def _im2col(found: Survey, address: str) -> Option:
    """The default layout, with im2col where the op has it."""
    option = _in_default(found, address)
    figures: dict[str, Figure] = {
        c.node.stage: found.prices.figure(c.node, c.layout, c.algorithm)
        for c in found.candidates[address]
        if c.algorithm == "im2col" and c.layout == option.layout
    }
    passes = tuple(
        PassPlan(part.stage, "im2col", figures[part.stage]) if part.stage in figures else part for part in option.passes
    )
    return Option(option.layout, passes)


def _sources(context: Context, solution: Solution) -> tuple[tuple[str, str], ...]:
    """Where the figures behind the prices come from, and how the layouts were found."""
    kernels = f"profile of {context.profile.device}" if context.profile else "analytic, dlc/cost/compute.py"
    return (
        ("bandwidth", f"cluster {context.cluster.name}"),
        ("collectives", "dlc/cluster/collectives.py"),
        ("kernels", kernels),
        ("layouts", "exact" if solution.exact else "improved step by step, not proved to be the best"),
        ("latency", f"cluster {context.cluster.name}"),
        ("peak", f"cluster {context.cluster.name}"),
    )
