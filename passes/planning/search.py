"""The search: strategies by their lower bounds, each solved exactly until no other can be better.

The lower bound of a strategy lets every op take its cheapest option by itself. Strategies are solved in the order of
their bounds; the search ends where the next bound is no better than the best plan found. So within the strategies that
were enumerated the gap is that of the solutions themselves; a search that is cut short reports the bound it has.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from math import inf
from typing import TYPE_CHECKING

from dlc.cost.redistribution import Redistributions

from dlc.cluster.fabric import Fabric
from dlc.cluster.topology import Cluster, Device
from dlc.cost.communication import processing
from dlc.ir.graph import Graph
from dlc.ir.mesh import Mesh
from passes.context import Context
from passes.options import rules_of
from passes.planning.elimination import Structure, minimise, structure
from passes.planning.evaluate import Line, Scale, line, scale
from passes.planning.network import HomeKind, Network, OpKind, network
from passes.planning.pins import Pins
from passes.planning.prices import Prices
from passes.planning.strategies import Strategy
from passes.planning.tables import Tables
from passes.survey import slowest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Effort:
    """How far to search: `gap` is the relative gap that is good enough, `seconds` and `strategies` bound the work."""

    gap: float = 0.0
    seconds: float = inf
    strategies: int = 1_000_000


@dataclass(frozen=True, slots=True)
class Solved:
    """The best choice under one strategy: option numbers of all variables, J, and no choice under it is below `bound`.

    `stages` are the ends of the pipeline's stages on the line of ops.
    """

    strategy: Strategy
    tables: Tables
    values: Integers
    objective: float
    bound: float
    line: Line
    stages: tuple[int, ...] = ()


@dataclass(slots=True)
class Space:
    """Everything that strategies share: the network in kinds, its structure, prices, and the fabrics of meshes."""

    graph: Graph
    context: Context
    network: Network
    structure: Structure
    prices: Prices
    pins: Pins
    fabrics: dict[Mesh, Fabric] = field(default_factory=dict)
    moves: dict[Mesh, Redistributions] = field(default_factory=dict)
    made: dict[Strategy, Tables] = field(default_factory=dict)

    @property
    def ops(self) -> Iterator[tuple[OpKind, int]]:
        """Each kind of op and how many there are."""
        counts = Counter(self.network.variables)
        return ((kind, counts[kind.index]) for kind in self.network.kinds if isinstance(kind, OpKind))

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
            self.fabrics[mesh] = Fabric(self.cluster, mesh, processing(self.device))
        return self.fabrics[mesh]

    def tables(self, strategy: Strategy) -> Tables:
        """The tables of a strategy."""
        if strategy not in self.made:
            mesh = strategy.inner
            if mesh not in self.moves:
                self.moves[mesh] = Redistributions(self.fabric(mesh), self.device)
            precision = self.context.training.precision
            master = 4 if precision.master != precision.compute else 0
            self.made[strategy] = Tables(self.prices, strategy, self.fabric(mesh), self.moves[mesh], self.pins, master)
        return self.made[strategy]


def space(graph: Graph, context: Context, strategies: Sequence[Strategy]) -> Space:
    """What there is to choose from for these strategies."""
    rules = rules_of(context.request, context.exact)
    net = network(graph, rules)
    prices = Prices(net, rules, slowest(context.cluster, context.ranks), context.profile)
    prices.prepare(strategies)
    return Space(graph, context, net, structure(net.variables, net.edges), prices, Pins(rules, context.cluster))


def weighted(found: Space, strategy: Strategy) -> tuple[list[Array], list[Array]]:
    """(unary tables by kind, pair tables by edge kind) whose sum is J without what overlap hides."""
    tables, weight = found.tables(strategy), scale(strategy.stages, strategy.microbatches)
    unary = unary_tables(found, strategy)
    pair = [
        tables.edge(kind) * (weight.step if kind.weight else weight.microbatch) for kind in found.network.edge_kinds
    ]
    return unary, pair


def unary_tables(found: Space, strategy: Strategy) -> list[Array]:
    """What each option of each kind counts in J by itself."""
    tables, weight = found.tables(strategy), scale(strategy.stages, strategy.microbatches)
    return [_unary(tables, kind, weight) for kind in found.network.kinds]


def _unary(tables: Tables, kind: OpKind | HomeKind, weight: Scale) -> Array:
    if isinstance(kind, HomeKind):
        return weight.microbatch * tables.home(kind).backward
    table = tables.op(kind)
    return weight.microbatch * (table.forward + table.backward + table.weights) + weight.step * (
        table.update + table.sums
    )


def work_bound(found: Space, strategy: Strategy) -> float:
    """Every op cut as it computes fastest, nothing communicated: no choice under the strategy costs less."""
    weight, samples = scale(strategy.stages, strategy.microbatches), found.graph.batch // strategy.microbatches
    ranks = strategy.inner.ranks
    return weight.microbatch * sum(count * found.prices.cheapest(kind, ranks, samples) for kind, count in found.ops)


def lower_bound(found: Space, strategy: Strategy) -> float:
    """Every op by its cheapest option, tensors where they are wanted: no choice under the strategy costs less."""
    columns = unary_tables(found, strategy)
    return sum(count * float(columns[kind.index].min(initial=inf)) for kind, count in found.ops)


def solve(found: Space, strategy: Strategy) -> Solved:
    """The best choice under one strategy."""
    unary, pair = weighted(found, strategy)
    best = minimise(found.structure, unary, pair)
    costs = line(found.network, found.tables(strategy), best.values)
    return Solved(strategy, found.tables(strategy), best.values, best.cost, best.cost, costs)


def search(found: Space, strategies: Sequence[Strategy], effort: Effort) -> Iterator[Solved]:
    """Solved strategies until none that is left can be better; the bound of what is left is in the last ones' order.

    A strategy is looked at closer only while it may still be the best: first by the work alone, then with what ops
    communicate inside, then solved.
    """
    begin, best, solved = time.perf_counter(), inf, 0
    queue = [(work_bound(found, each), 0, i) for i, each in enumerate(strategies)]
    heapify(queue)
    while queue:
        bound, level, i = heappop(queue)
        late = time.perf_counter() - begin > effort.seconds or solved >= effort.strategies
        if bound >= best * (1 - effort.gap) or (solved and late):
            return
        if level == 0:
            heappush(queue, (max(bound, lower_bound(found, strategies[i])), 1, i))
            continue
        made = solve(found, strategies[i])
        solved += 1
        best = min(best, made.objective)
        yield made
