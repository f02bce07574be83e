"""What the planner knows before it decides: shards, prices, candidates and options; and what a choice then costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from dlc.cluster.topology import Cluster, Device
from dlc.diagnostics import DiagnosticError, Diagnostics
from dlc.ir.graph import Graph
from passes.buckets import shards
from passes.context import Context
from passes.differentiate import operator_of
from passes.joint import Joint, joint
from passes.layouts import conversions
from passes.lower_buffers import is_image, same_memory
from passes.options import Candidate, Operation, Rules, candidates, nothing_left, operations, rules_of
from passes.prices import Option, Prices

BACKWARD = ("dx", "dw", "dt", "sum", "statistics")


@dataclass(frozen=True, slots=True)
class Survey:
    """A training graph with everything that its plan may be made of."""

    graph: Graph
    context: Context
    shards: tuple[tuple[int, int], ...]
    rules: Rules
    prices: Prices
    operations: tuple[Operation, ...]
    candidates: Mapping[str, tuple[Candidate, ...]]
    options: Mapping[str, tuple[Option, ...]]

    @property
    def device(self) -> Device:
        """The device that all prices are for: the slowest, as all ranks wait for it."""
        return self.prices.device

    def problem(self, thrift: float = 0.0) -> Joint:
        """The joint choice over these options; `thrift` is what a byte of a copy costs besides its time."""
        return joint(self.graph, self.options, self.prices, thrift)


def survey(graph: Graph, context: Context, *, ranks: int | None = None, pinned: bool = True) -> Survey:
    """Enumerate and price; DiagnosticError E0504 or E0512 where rules leave an op nothing.

    `ranks` overrides the context's, `pinned = False` leaves out pins, forbids and limits: for baselines.
    """
    table = shards(graph.batch, context.ranks if ranks is None else ranks)
    free = replace(context.request, pins=(), forbids=(), limits=(), layout="auto")
    rules = rules_of(context.request if pinned else free, context.exact)
    largest = max(stop - start for start, stop in table)
    prices = Prices(graph, slowest(context.cluster, len(table)), largest, context.profile)
    ops = operations(graph)
    found = {op.address: tuple(candidates(graph, op, rules, largest)) for op in ops}
    options = {op.address: _distinct(graph, op, prices.options(found[op.address])) for op in ops}
    faults = Diagnostics()
    faults.extend(nothing_left(op, found[op.address], rules) for op in ops if not options[op.address])
    if faults.errors:
        raise DiagnosticError(faults.items)
    return Survey(graph, context, table, rules, prices, ops, found, options)


def _distinct(graph: Graph, operation: Operation, options: tuple[Option, ...]) -> tuple[Option, ...]:
    """An elementwise op without layouts in which all images lie as in an earlier one: NHWC where all are 1x1."""
    if not operator_of(operation.forward).elementwise:
        return options
    names = (name for node in operation.passes for name in (*node.inputs, *node.outputs))
    images = [graph.type(name) for name in dict.fromkeys(names) if is_image(graph.type(name))]
    kept = list[Option]()
    for option in options:
        if not any(all(same_memory(t, option.layout, other.layout) for t in images) for other in kept):
            kept.append(option)
    return tuple(kept)


def slowest(cluster: Cluster, ranks: int) -> Device:
    """The device with the lowest float32 peak among the first ranks, of equals the first."""
    names = dict.fromkeys(cluster.device_names[:ranks])
    return min((cluster.device(name) for name in names), key=lambda device: device.peak("f32"))


@dataclass(frozen=True, slots=True)
class Step:
    """The seconds of one step on the slowest rank, communication apart.

    `ready` maps each gradient to the second of the backward pass, of `backward` seconds, in which it is whole.
    """

    compute: float
    conversion: float
    backward: float
    ready: Mapping[str, float]


def step(found: Survey, choice: Mapping[str, Option]) -> Step:
    """What a choice of options costs: every node, and every conversion before the node that first needs it."""
    graph, prices = found.graph, found.prices
    layouts = {address: option.layout for address, option in choice.items()}
    before: dict[str, float] = {}
    for made in conversions(graph, layouts):
        before[made.before] = before.get(made.before, 0.0) + prices.conversion(made.type)
    chosen = {
        (address, part.stage): part.figure.seconds for address, option in choice.items() for part in option.passes
    }
    compute, backward, ready = 0.0, 0.0, dict[str, float]()
    for node in graph.nodes:
        key = (node.base, node.stage)
        seconds = chosen[key] if key in chosen else prices.figure(node).seconds
        compute += seconds
        if node.stage in BACKWARD:
            backward += seconds + before.get(node.address, 0.0)
            ready.update((name, backward) for name in node.outputs)
    return Step(compute, sum(before.values()), backward, ready)
