"""What there is to choose from, and what all strategies share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import inf

from dlc.cluster.fabric import Fabric
from dlc.cluster.topology import Cluster, Device
from dlc.cost.bounds import bounds
from dlc.cost.communication import processing
from dlc.cost.redistribution import Redistributions
from dlc.diagnostics import DiagnosticError
from dlc.ir.graph import Graph
from dlc.ir.mesh import Mesh
from dlc.ir.plan import Bounds, PassPlan
from passes.context import Context
from passes.options import rules_of
from passes.planning.cuts import Cuts
from passes.planning.elimination import Structure, structure
from passes.planning.evaluate import Scale, scale
from passes.planning.flow import Flow
from passes.planning.network import Network, OpKind, network
from passes.planning.orders import Orders, orders_of, ruled_out
from passes.planning.pins import Pins
from passes.planning.prices import Prices
from passes.planning.strategies import Strategy
from passes.planning.tables import Tables
from passes.planning.uneven import speeds, uneven_data_parallelism
from passes.planning.update_rules import widths


@dataclass
class Space:
    """Everything that strategies share: the network in kinds, its structure, prices, and the fabrics of meshes."""

    graph: Graph
    context: Context
    network: Network
    structure: Structure
    prices: Prices
    pins: Pins
    orders: Orders
    fabrics: dict[Mesh, Fabric] = field(default_factory=dict)
    moves: dict[Mesh, Redistributions] = field(default_factory=dict)
    made: dict[Strategy, Tables] = field(default_factory=dict)
    cuts: dict[tuple[object, ...], tuple[float, Cuts | None]] = field(default_factory=dict)  # of lines (`pipelined`)
    passes: dict[tuple[int, int, str, int], tuple[PassPlan, ...]] = field(default_factory=dict)  # of kinds (`apply`)
    flow: Flow | None = None  # who reads what, where runs of ops are computed again (`flow`, `runs`)
    stage_flow: Flow | None = None  # the same for shorter runs, in the stages of a pipeline
    least: dict[tuple[int, int], float] = field(default_factory=dict)  # seconds of all ops (`work_bound`)
    floors: dict[tuple[int, int, str, str], float] = field(default_factory=dict)  # bytes (`least.floor`)
    speeds: tuple[float, ...] = ()  # of each rank, where devices differ; the slowest is 1
    others: dict[str, Prices] = field(default_factory=dict)  # of devices that are faster (`passes.planning.unlike`)
    uneven: Strategy | None = None  # data parallelism in shares by speed, where devices differ
    aside: dict[object, float] = field(default_factory=dict)  # by strategy, and by what is alike (`room`)
    _first: dict[int, int] = field(default_factory=dict)  # kind -> the first op of it

    @property
    def options(self) -> int:
        """How many options of kinds of variables there were in all tables."""
        return sum(table.options for tables in self.made.values() for table in tables.ops.values())

    @cached_property
    def ops(self) -> tuple[tuple[OpKind, int], ...]:
        """Each kind of op and how many there are."""
        counts = Counter(self.network.variables)
        return tuple((kind, counts[kind.index]) for kind in self.network.kinds if isinstance(kind, OpKind))

    @cached_property
    def bounds(self) -> Bounds:
        """What no plan is faster than."""
        context = self.context
        return bounds(self.graph, context.cluster, context.ranks, context.compute, 0)

    def stage_speeds(self, strategy: Strategy) -> tuple[float, ...]:
        """How fast each stage's slowest device is, the slowest of all as 1; () where all are alike."""
        size = strategy.inner.ranks
        if not self.speeds or strategy.stages == 1:
            return ()
        return tuple(min(self.speeds[stage * size : (stage + 1) * size]) for stage in range(strategy.stages))

    def scale(self, strategy: Strategy) -> Scale:
        """How often the seconds of a microbatch and of a step count in J; no bubble where stages differ in speed."""
        found = self._scale(strategy)
        return Scale(self.batches * found.microbatch, found.step)

    def room(self, strategy: Strategy, limit: float) -> float:
        """What plans under a strategy may count where their Programs are to take `limit` bytes: less what is set aside
        for it, or else for the last one with the same schedule."""
        return limit - self.aside.get(strategy, self.aside.get(_alike(strategy), 0.0))

    def set_aside(self, strategy: Strategy, size: float) -> None:
        """What the Program of a plan takes beside its count."""
        self.aside[strategy] = self.aside[_alike(strategy)] = size

    @property
    def batches(self) -> int:
        """Batches behind one update: `accumulate`."""
        return self.context.training.accumulate

    def _scale(self, strategy: Strategy) -> Scale:
        uneven = self.stage_speeds(strategy)
        if uneven:
            return Scale(strategy.microbatches / sum(uneven), 1.0 / sum(uneven))
        return scale(strategy.stages, strategy.microbatches, self.context.request.schedule)

    def bound_of(self, subject: str) -> float:
        """The bound of a limit: bytes, or the share of a pipeline that may idle; infinite without one."""
        return min((limit.bound for limit in self.context.request.limits if limit.subject == subject), default=inf)

    def repeats(self, kind: OpKind, strategy: Strategy) -> bool:
        """Whether ops of a kind are computed again under a strategy: pins say the same of all of them."""
        if strategy.recompute == "none" and not self.orders.again:
            return False
        if not self._first:
            for op, index in enumerate(self.network.variables[: len(self.network.addresses)]):
                self._first.setdefault(index, op)
        return self.orders.repeats(self._first[kind.index], strategy)

    def spares(self, strategy: Strategy) -> bool:
        """Whether a strategy computes some ops again and keeps others: as few as must be, where nothing is ordered and
        the devices of a pipeline are alike."""
        if strategy.recompute == "none" or self.context.request.recompute == "all":
            return False
        return strategy.stages == 1 or not (self.orders.again or self.stage_speeds(strategy))

    @property
    def overlap(self) -> float:
        """The share of its own time in which computing hides communication."""
        return 0.0 if self.context.request.overlap == "no" else self.device.overlap

    @property
    def device(self) -> Device:
        """The slowest device: all ranks wait for it."""
        return self.prices.device

    @property
    def cluster(self) -> Cluster:
        """The cluster."""
        return self.context.cluster

    def fabric(self, mesh: Mesh) -> Fabric:
        """Prices of communication on a mesh."""
        if mesh not in self.fabrics:
            self.fabrics[mesh] = Fabric(
                self.cluster, mesh, processing(self.device, self.context.profile), self.context.request.allreduce
            )
        return self.fabrics[mesh]

    def tables(self, strategy: Strategy) -> Tables:
        """The tables of a strategy."""
        once = strategy.with_(recompute="none")
        if strategy != once:  # the options are the same, and cost the same each time
            return self.made.setdefault(strategy, replace(self.tables(once), strategy=strategy))
        if strategy not in self.made:
            mesh = strategy.inner
            if mesh not in self.moves:
                self.moves[mesh] = Redistributions(self.fabric(mesh), self.device)
            self.made[strategy] = Tables(
                self.prices,
                strategy,
                self.fabric(mesh),
                self.moves[mesh],
                self.pins,
                widths(self.graph),
                self.batches,
                self.overlap,
            )
        return self.made[strategy]


def _alike(strategy: Strategy) -> object:
    """What Programs that take about as much beside their plans' counts have in common."""
    return strategy.stages, strategy.schedule, strategy.chunks


def space(graph: Graph, context: Context, strategies: Sequence[Strategy]) -> Space:
    """What there is to choose from for these strategies; DiagnosticError where rules leave an op nothing."""
    device = context.cluster.slowest(range(context.ranks))
    rules = rules_of(context.request, context.exact, kernels=device.kind)
    net = network(graph, rules)
    faults = ruled_out(net, rules)
    if faults:
        raise DiagnosticError(faults)
    relative = speeds(net, rules, context)
    uneven = uneven_data_parallelism(graph, relative)
    prices = Prices(net, rules, device, context.profile, fused=context.fuses(device.kernels))
    prices.prepare([*strategies, *([uneven] if uneven else [])])
    pins, orders = Pins(rules, context.cluster), orders_of(graph, net.addresses, context.request)
    lines = structure(net.variables, net.edges)
    return Space(graph, context, net, lines, prices, pins, orders, speeds=relative, uneven=uneven)
