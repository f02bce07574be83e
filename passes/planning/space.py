"""What all strategies share, and the exact choice of options under one of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import inf
from typing import TYPE_CHECKING

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
from passes.planning.columns import Columns
from passes.planning.cuts import Cuts
from passes.planning.elimination import Assignment, Structure, least_cost, minimise, structure, total
from passes.planning.evaluate import Line, Scale, line, scale
from passes.planning.limited import Largest, minimise_max
from passes.planning.network import EdgeKind, HomeKind, Network, OpKind, network
from passes.planning.orders import Orders, orders_of, ruled_out
from passes.planning.pins import Pins
from passes.planning.prices import Prices
from passes.planning.strategies import Strategy
from passes.planning.tables import Tables
from passes.planning.uneven import speeds, uneven_data_parallelism
from passes.planning.update_rules import widths

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Integers = NDArray[np.int64]

    from passes.planning.criteria import Costs
    from passes.planning.flow import Flow


@dataclass(frozen=True, slots=True)
class Solved:
    """The best choice under one strategy: option numbers of all variables, J of even stages, and no choice under it is
    below `bound`."""

    strategy: Strategy
    tables: Tables
    values: Integers
    objective: float
    bound: float
    line: Line


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
    flow: Flow | None = None  # who reads what, where runs of ops are computed again (`passes.planning.runs`)
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
    device = context.cluster.slowest(context.ranks)
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


@dataclass(frozen=True, slots=True)
class Objective:
    """J as the larger of two sums of tables: `shown` with all sums of gradients hidden, `hidden` with what computing
    hides taken off the sums. Tables by kind, and by edge kind for both; `once` are those of one microbatch or step."""

    shown: list[Array]
    hidden: list[Array]
    pair: list[Array]
    once: list[Array]


def objective(found: Space, tables: Tables) -> Objective:
    """The tables of J; those of pairs are made last, and take longest."""
    shown, hidden = unary_tables(found, tables)
    once = tables.edges(found.network.edge_kinds, tables.moves(found.network.edge_kinds))
    return Objective(shown, hidden, _counted(found, tables.strategy, once), once)


def _counted(found: Space, strategy: Strategy, once: Sequence[Array]) -> list[Array]:
    """Tables of edges as often as they count in J."""
    weight, edges = found.scale(strategy), found.network.edge_kinds
    often = [weight.step if kind.weight else weight.microbatch * _times(found, strategy, kind) for kind in edges]
    return [table * n for table, n in zip(once, often, strict=True)]


def _times(found: Space, strategy: Strategy, kind: EdgeKind) -> float:
    """How often moves on an edge count in a microbatch: where what makes the tensor is computed again, their forward
    half twice (`evaluate.Line`)."""
    source = found.network.kinds[kind.source]
    again = found.repeats(source, strategy) if isinstance(source, OpKind) else strategy.recompute == "all"
    return 1.0 if not again else 1.5 if kind.gradient else 2.0


def unary_tables(found: Space, tables: Tables) -> tuple[list[Array], list[Array]]:
    """(shown, hidden): what each option of each kind counts in J by itself."""
    columns, weight = tables.columns, found.scale(tables.strategy)
    pairs: dict[int, tuple[Array, Array]] = dict(
        zip(columns.kinds, zip(*map(columns.split, unary_columns(found, tables)), strict=True), strict=True)
    )
    for kind in found.network.kinds:
        if isinstance(kind, HomeKind):
            pairs[kind.index] = _of_home(tables, kind, weight)
    every = [pairs[kind.index] for kind in found.network.kinds]
    return [shown for shown, _ in every], [hidden for _, hidden in every]


def unary_columns(found: Space, tables: Tables) -> tuple[Array, Array]:
    """The same for all ops in one row; once for a strategy."""
    columns = tables.columns
    if tables.strategy not in columns.unary:
        columns.unary[tables.strategy] = _unary(found, tables, columns)
    return columns.unary[tables.strategy]


def _unary(found: Space, tables: Tables, columns: Columns) -> tuple[Array, Array]:
    weight, exposure, kinds = found.scale(tables.strategy), tables.exposure, list(columns.kinds)
    late, hiding = columns.spread(exposure.late[kinds]), columns.spread(exposure.hiding[kinds])
    behind = columns.column("backward") + columns.column("weights")
    forward = columns.column("forward") * columns.spread(1.0 + _repeated(found, tables.strategy))
    shown = weight.microbatch * (forward + behind) + weight.step * columns.column("update")
    hidden = shown + weight.step * (late * columns.column("sums") - hiding * behind)
    return shown if exposure.hides else hidden, hidden


def _repeated(found: Space, strategy: Strategy) -> Array:
    """[kind of op]: 1 where it is computed again, else 0."""
    import numpy as np

    if strategy.recompute == "none" and not found.orders.again:
        return np.zeros(len(found.ops))
    return np.array([float(found.repeats(kind, strategy)) for kind, _ in found.ops])


def _of_home(tables: Tables, kind: HomeKind, weight: Scale) -> tuple[Array, Array]:
    adding, hiding = tables.home(kind).backward, float(tables.exposure.hiding[kind.index])
    hidden = (weight.microbatch - hiding * weight.step) * adding
    return weight.microbatch * adding if tables.exposure.hides else hidden, hidden


def work_bound(found: Space, strategy: Strategy) -> float:
    """Every op cut as it computes fastest, nothing communicated: no choice under the strategy costs less."""
    key = ranks, samples = strategy.inner.ranks, strategy.samples(found.graph.batch)
    if key not in found.least:
        found.least[key] = sum(count * found.prices.cheapest(kind, ranks, samples) for kind, count in found.ops)
    return found.scale(strategy).microbatch * found.least[key]


def lower_bound(found: Space, strategy: Strategy) -> float:
    """Every op by its cheapest option, tensors where they are wanted: no choice under the strategy costs less.

    What need not be computed again costs nothing more.
    """
    least = strategy.with_(recompute="none") if strategy.stages == 1 or found.spares(strategy) else strategy
    tables = found.tables(least)
    return max(_at_least(found, tables, column) for column in unary_columns(found, tables))


def _at_least(found: Space, tables: Tables, column: Array) -> float:
    """The sum of the least entries of all ops."""
    least = tables.columns.least(column)
    return sum(count * entry for (_, count), entry in zip(found.ops, least, strict=True))


def least_bytes(found: Space, strategy: Strategy) -> float:
    """What the device with most holds at least under a strategy: the mean over stages of each op's least bytes."""
    tables = found.tables(strategy)
    columns = tables.columns
    saved = columns.column("saved") * columns.spread(1.0 - _repeated(found, strategy))
    total = _at_least(found, tables, columns.column("fixed") + saved)
    return total / strategy.stages + (least_transient(found, strategy) if strategy.stages == 1 else 0.0)


def likely_bytes(found: Space, strategy: Strategy) -> float:
    """What a device of a pipeline holds if stages are even and ops take the options of least bytes: 1F1B keeps up to p
    microbatches on the first of p stages, one on the last. An estimate, not a bound."""
    if strategy.stages == 1 or strategy.recompute == "all":
        return 0.0
    tables, slots = found.tables(strategy), (min(strategy.microbatches, strategy.stages) + 1) / 2
    columns = tables.columns
    held = _at_least(found, tables, columns.column("fixed") + slots * columns.column("saved"))
    return held / strategy.stages


def least_transient(found: Space, strategy: Strategy) -> float:
    """The bytes of the gradients that the op with most holds at least while its backward pass runs."""
    columns = found.tables(strategy).columns
    return max(columns.least(columns.column("transient")), default=0.0)


def solve(found: Space, strategy: Strategy, below: float = inf) -> Solved | None:
    """The best choice under one strategy; None where it surely costs more than `below`.

    An option that would cost more even if every other op took its cheapest one is left out, which most are, once a
    good plan is known. Then the choice is made without layouts, whose tables are much smaller; only where that is
    cheaper, it is made with them. Where as few ops as must be are computed again, it is made as if none were.
    """
    if strategy.stages > 1 and found.spares(strategy):
        solved = solve(found, strategy.with_(recompute="none"), below)
        return None if solved is None else replace(solved, strategy=strategy)
    tables, edges = _pruned(found, found.tables(strategy), below * (1 + ROUNDING)), found.network.edge_kinds
    if tables is None:
        return None
    shown, hidden = unary_tables(found, tables)
    moves = tables.moves(edges)
    if below < inf and _without_layouts(found, tables, (shown, hidden), moves, below) >= below * (1 - ROUNDING):
        return None
    once = tables.edges(edges, moves)
    sums = Objective(shown, hidden, _counted(found, strategy, once), once)
    best = _least(found.structure, (sums.shown, sums.pair), (sums.hidden, sums.pair))
    costs = line(found.network, tables, best.values, sums.once)
    return Solved(strategy, tables, best.values, best.cost, best.bound, costs)


ROUNDING = 1e-9


def _without_layouts(
    found: Space, tables: Tables, unary: Sequence[list[Array]], moves: list[Array], enough: float
) -> float:
    """No choice costs less than the best one where layouts need no conversion; or a bound that is `enough`."""
    pair, bound = _counted(found, tables.strategy, moves), 0.0
    count = [len(tables.layouts_of(kind.index)) for kind in found.network.kinds]
    for columns in unary:
        best = [column.reshape(-1, n).min(axis=1) for column, n in zip(columns, count, strict=True)]
        bound = max(bound, least_cost(found.structure, best, pair))
        if bound >= enough:
            break
    return bound


def _pruned(found: Space, tables: Tables, below: float) -> Tables | None:
    """The tables without the cuts of ops that no plan below a cost has; None where an op has no other."""
    if below == inf:
        return tables
    columns = tables.columns
    if not columns.counts.all():
        return None
    shown, hidden = (
        columns.near(column, below - _at_least(found, tables, column)) for column in unary_columns(found, tables)
    )
    kept = columns.of(shown & hidden)
    return None if kept is None else tables.of(kept)


def _least(graph: Structure, first: Costs, second: Costs) -> Assignment | Largest:
    """The least of the larger sum: where one sum's best choice is no dearer by the other, that is it."""
    for one, other in ((first, second), (second, first)):
        best = minimise(graph, *one)
        if total(graph, *other, best.values) <= best.cost:
            return best
    return minimise_max(graph, first, second, gap=GAP)


GAP = 1e-4
"""The relative gap at which the choice between sums that are hidden and sums that are not is good enough."""
