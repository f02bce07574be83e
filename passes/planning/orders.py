"""What a plan block orders of stages and of computing again, op by op; and the orders that no plan can follow.

Orders of partitions, layouts and algorithms are kept where options are made (`pins.py`, `passes.options`), those of
meshes and schedules where strategies are (`strategies.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

from dlc.cluster.collectives import shares_memory
from dlc.diagnostics import Diagnostic
from dlc.ir.graph import Graph
from dlc.ir.request import Request
from dlc.messages.e05_plan import NO_PIPELINE, NOT_SHARED, OUT_OF_RANGE, PIPELINE_INSIDE, TOO_MANY_AXES, WRONG_PRODUCT
from passes.context import Context
from passes.options import Operation, Rules, candidates, nothing_left
from passes.planning.network import Network, OpKind
from passes.planning.strategies import PIPELINE, Strategy

MOST_AXES = 3
"""Mesh axes of more than one device besides the pipeline: each multiplies the ways to cut an op by five or so."""

Window = tuple[int, int]
"""The first and the last op that may begin a stage."""


@dataclass(frozen=True, slots=True)
class Orders:
    """By number of an op in the line that stages are cut from: what is written of its stage, and of computing it again.

    `stages` are (op, its stage), `barred` (op, a stage that it must not be in); ops in `again` are computed again in
    the backward pass, those in `kept` are not.
    """

    count: int
    stages: tuple[tuple[int, int], ...] = ()
    barred: tuple[tuple[int, int], ...] = ()
    again: frozenset[int] = frozenset()
    kept: frozenset[int] = frozenset()

    def windows(self, parts: int) -> tuple[Window, ...] | None:
        """Where each stage but the first may begin, so that every op is in its stage; None where nothing does.

        An op of stage s lies behind the beginning of s and before that of s + 1.
        """
        if any(stage >= parts for _, stage in self.stages):
            return None
        low, high = list(range(parts + 1)), [self.count - (parts - j) for j in range(parts + 1)]
        for op, stage in self.stages:
            high[stage] = min(high[stage], op)
            low[stage + 1] = max(low[stage + 1], op + 1)
        for j in range(1, parts + 1):
            low[j] = max(low[j], low[j - 1] + 1)
        for j in reversed(range(parts)):
            high[j] = min(high[j], high[j + 1] - 1)
        fits = all(first <= last for first, last in zip(low, high, strict=True))
        return tuple(zip(low, high, strict=True))[1:-1] if fits else None

    def keeps(self, bounds: Sequence[int]) -> bool:
        """Whether stages that begin at these ops hold no op that is barred from them."""
        spans = list(pairwise(bounds))
        return not any(stage < len(spans) and spans[stage][0] <= op < spans[stage][1] for op, stage in self.barred)

    @property
    def staged(self) -> bool:
        """Whether anything is written of stages."""
        return bool(self.stages or self.barred)

    def repeated(self, strategy: Strategy) -> frozenset[int]:
        """The ops that are computed again under a strategy."""
        return frozenset(op for op in range(self.count) if self.repeats(op, strategy))

    def repeats(self, op: int, strategy: Strategy) -> bool:
        """Whether an op is computed again under a strategy."""
        return op in self.again or (strategy.recompute == "all" and op not in self.kept)


def orders_of(graph: Graph, addresses: Sequence[str], request: Request) -> Orders:
    """What a request says of the ops at these addresses. The loss and metrics are never computed again."""
    number = {address: i for i, address in enumerate(addresses)}
    pinned, forbidden = _by_key(request.pins, number), _by_key(request.forbids, number)
    again = {op for op, value in pinned["recompute"] if value is True}
    again |= {op for op, value in forbidden["recompute"] if value is False}
    kept = {op for op, value in pinned["recompute"] if value is False}
    kept |= {op for op, value in forbidden["recompute"] if value is True}
    kept |= {i for i, address in enumerate(addresses) if graph.node(address).stage != "forward"}
    return Orders(
        len(addresses),
        tuple((op, stage) for op, stage in pinned["stage"] if isinstance(stage, int)),
        tuple((op, stage) for op, stage in forbidden["stage"] if isinstance(stage, int)),
        frozenset(again - kept),
        frozenset(kept),
    )


def _by_key(rules: Iterable[object], number: Mapping[str, int]) -> dict[str, list[tuple[int, object]]]:
    from dlc.ir.request import Rule

    found: dict[str, list[tuple[int, object]]] = {"recompute": [], "stage": []}
    for rule in rules:
        if isinstance(rule, Rule) and rule.key in found:
            found[rule.key].extend((number[address], rule.value) for address in rule.addresses if address in number)
    return found


def ruled_out(net: Network, rules: Rules) -> tuple[Diagnostic, ...]:
    """E0504 or E0512 for the first op of each kind that its own rules, and the plan's layout, leave no way to compute.

    How it is cut and what it needs as workspace are looked at later.
    """
    found = list[Diagnostic]()
    roomy, ruled = rules.roomy, {address for address, _ in (*rules.pins, *rules.forbids)}
    for kind in net.kinds:
        if not isinstance(kind, OpKind) or (kind.example.address not in ruled and rules.request.layout == "auto"):
            continue
        operation = Operation(kind.example, tuple(each.node for each in kind.passes), kind.layouts)
        ways = tuple(candidates(net.graph, operation, roomy, net.graph.batch))
        open_ = {(way.node.stage, way.layout) for way in ways if way.excluded is None}
        stages = {each.node.stage for each in kind.passes}
        if not any(all((stage, layout) in open_ for stage in stages) for layout in kind.layouts):
            found.append(nothing_left(operation, ways, roomy))
    return tuple(found)


def refused(graph: Graph, context: Context) -> tuple[Diagnostic, ...]:
    """E0508, E0516, E0524 to E0526, E0528 for what this planner cannot follow, whatever the network costs."""
    found = (_mesh(context), _degrees(context), _microbatches(graph, context), _pipeline(context), _shared(context))
    return tuple(message for messages in found for message in messages)


def _mesh(context: Context) -> Iterator[Diagnostic]:
    request, span = context.request, context.request.span("mesh")
    axes = [axis for axis in request.mesh if axis.extent > 1]
    names = [axis.name for axis in axes]
    if request.mesh and prod(axis.extent for axis in axes) != context.ranks:
        yield _product({axis.name: axis.extent for axis in axes}, context, "mesh")
    if PIPELINE in names[1:]:
        inner = axes[names.index(PIPELINE)]
        helps = (f"take `pipeline` from `{axes[0].group}`, the outermost group, and write it first",)
        yield PIPELINE_INSIDE.at(span, helps=helps, group=inner.group, outer=names[0])
    inside = [name for name in names if name != PIPELINE]
    if len(inside) > MOST_AXES:
        helps = ("give factors of a group to one axis: every op chooses what it splits over each axis",)
        yield TOO_MANY_AXES.at(span, helps=helps, count=len(inside), most=MOST_AXES)


def _degrees(context: Context) -> Iterator[Diagnostic]:
    """`hybrid(…)` for another number of ranks than it was written for (`-n`)."""
    degrees = {name: n for name, n in context.request.strategy.arguments if type(n) is int}
    whole = len(degrees) == len(context.request.strategy.arguments)
    needed = prod(degrees.values())
    if degrees and (needed != context.ranks if whole else context.ranks % needed):
        yield _product({name: n for name, n in degrees.items() if n > 1}, context, "strategy")


def _product(factors: Mapping[str, int], context: Context, key: str) -> Diagnostic:
    needed = prod(factors.values())
    words = " x ".join(f"{name} {extent}" for name, extent in factors.items()) or "one part"
    devices = f"{needed} device{'s' * (needed > 1)}"
    name, ranks = context.cluster.name, context.ranks
    notes = (f"its groups: {', '.join(f'`{level.name}` of {level.count}' for level in context.cluster.levels)}",)
    span = context.request.span(key)
    return WRONG_PRODUCT.at(span, notes=notes, factors=words, needed=devices, cluster=name, ranks=ranks)


def _microbatches(graph: Graph, context: Context) -> Iterator[Diagnostic]:
    count = context.request.microbatches
    if count is not None and graph.batch % count:
        near = [m for m in range(1, graph.batch + 1) if graph.batch % m == 0]
        below, above = max(m for m in near if m < count), min((m for m in near if m > count), default=graph.batch)
        helps = (f"the next divisors of {graph.batch} are {below} and {above}",)
        allowed = f"a divisor of the batch of {graph.batch}"
        span = context.request.span("pipeline.microbatches")
        yield OUT_OF_RANGE.at(span, helps=helps, key="pipeline.microbatches", allowed=allowed, found=count)


def _shared(context: Context) -> Iterator[Diagnostic]:
    """An allreduce in memory that not all ranks share: the loss at least is summed over all of them."""
    ranks = tuple(range(context.ranks))
    if context.request.allreduce == "shared" and not shares_memory(ranks, context.cluster):
        helps = ("`auto` takes it within each node where that is faster",)
        yield NOT_SHARED.at(context.request.span("allreduce"), helps=helps, cluster=context.cluster.name)


def _pipeline(context: Context) -> Iterator[Diagnostic]:
    """A schedule for a pipeline that the strategy or the mesh excludes."""
    request = context.request
    if request.schedule == "auto" or context.ranks == 1:
        return
    kind, degrees = request.strategy.kind, dict(request.strategy.arguments)
    if request.mesh and not any(axis.name == PIPELINE and axis.extent > 1 for axis in request.mesh):
        reason = "the mesh has no axis `pipeline` of more than one device"
    elif kind in ("data", "model", "spatial"):
        reason = f"`strategy = {kind}` has none"
    elif kind == "hybrid" and degrees.get(PIPELINE) == 1:
        reason = "`hybrid(…)` has `pipeline = 1`"
    else:
        return
    yield NO_PIPELINE.at(request.span("pipeline.schedule"), reason=reason)
