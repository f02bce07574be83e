"""The tables of one strategy: what each option of each kind of variable costs, and each pair of options on each edge.

An option of an op is a way to cut it and a layout; an option of a home a placement of the value, one of its gradient,
and a layout. Seconds of kernels, halos and the sums inside an op, moves of a tensor and back of its gradient, and
conversions of layout are those of one microbatch; updates and gradients of weights are summed once a step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from dlc.cluster.fabric import Fabric
from dlc.cost.redistribution import Redistributions
from dlc.ir.mesh import Mesh
from dlc.ir.tensor import BATCH, Axis, TensorType
from dlc.ops.indexing import spans
from passes.layouts import DEFAULT_LAYOUT, IMAGE_AXES, is_image, same_memory
from passes.planning.columns import Columns, OpTable
from passes.planning.homes import HomeTable, home_table
from passes.planning.network import EdgeKind, HomeKind, OpKind
from passes.planning.op_tables import OpTables, copies
from passes.planning.pins import Pins
from passes.planning.prices import Prices
from passes.planning.strategies import Strategy
from passes.planning.sums import Exposure, Key, all_late
from passes.planning.update_rules import AS_WEIGHTS, Widths

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Integers = NDArray[np.int64]
    Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _End:
    """Where one end of an edge has a tensor, and its gradient, by cuts or forms: numbers of placements
    (`Redistributions.between`)."""

    ahead: Integers
    back: Integers


@dataclass(slots=True)
class Tables:
    """All tables of a strategy, made when asked for."""

    prices: Prices
    strategy: Strategy
    fabric: Fabric
    redistributions: Redistributions
    pins: Pins
    widths: Widths = AS_WEIGHTS
    batches: int = 1  # behind one update
    overlap: float = 0.0  # the share of its own time in which computing hides communication
    ops: dict[int, OpTable] = field(default_factory=dict)
    homes: dict[int, HomeTable] = field(default_factory=dict)
    _rates: dict[tuple[str, tuple[str, ...]], float] = field(default_factory=dict)
    _shares: dict[tuple[str, tuple[str, ...]], Mapping[Key, float]] = field(default_factory=dict)
    _exposure: Exposure | None = None
    _ends: dict[tuple[int, str, bool], _End] = field(default_factory=dict)
    _columns: Columns | None = None

    def of(self, columns: Columns) -> Tables:
        """The same with these options of ops alone."""
        ops = dict(zip(columns.kinds, columns.tables, strict=True))
        return replace(self, ops=ops, _ends={}, _exposure=self.exposure, _columns=columns)

    @property
    def columns(self) -> Columns:
        """The options of all kinds of ops."""
        if self._columns is None:
            kinds = [kind for kind in self.prices.network.kinds if isinstance(kind, OpKind)]
            self._columns = Columns(tuple(kind.index for kind in kinds), tuple(map(self.op, kinds)))
        return self._columns

    @property
    def many(self) -> bool:
        """Whether gradients of several microbatches or batches add up."""
        return self.strategy.microbatches * self.batches > 1

    @property
    def exposure(self) -> Exposure:
        """How much of the sums of gradients a step waits for.

        Those of one microbatch are summed while the backward pass goes on, and under ZeRO 2 and 3 those of each; else
        they are summed behind all microbatches, and nothing hides them. Nor does it where the backward pass sums over
        the same ranks what it waits for, of groups of a batch norm that span them: one sum follows another.
        """
        if self._exposure is None:
            self._exposure = self._found_exposure()
        return self._exposure

    @property
    def _waits(self) -> bool:
        """Whether the backward pass waits for sums over ranks that have samples of one group."""
        ranks = min(self.mesh.ranks, self.samples)
        return any(
            BATCH in exchange.axes and each.node.stage == exchange.stage and spans(exchange.group, self.samples, ranks)
            for kind in self.prices.network.kinds
            if isinstance(kind, OpKind)
            for exchange in kind.indexing.exchanges
            for each in kind.passes[1:]
        )

    def _found_exposure(self) -> Exposure:
        import numpy as np

        net, found = self.prices.network, self.prices.buckets
        if self.strategy.shard in ("gradients", "weights"):
            return all_late(net, self.overlap * self.strategy.microbatches * self.batches)
        if self.many or found is None or not self.overlap or not self.mesh.axes or self._waits:
            return all_late(net)
        least = np.zeros(len(net.kinds))
        for kind in net.kinds:
            if isinstance(kind, OpKind):
                table = self.op(kind)
                least[kind.index] = (table.backward + table.weights).min(initial=np.inf)
        ops = np.array(net.variables[: len(net.addresses)], dtype=np.int64)
        return found.exposure(net, self._maker.summed(self.mesh.names), least[ops], self.overlap)

    @property
    def mesh(self) -> Mesh:
        """The mesh of one stage."""
        return self.strategy.inner

    @property
    def samples(self) -> int:
        """Of a microbatch."""
        return self.strategy.samples(self.prices.graph.batch)

    def op(self, kind: OpKind) -> OpTable:
        """The options of a kind of op; those of kinds that are cut alike are found together."""
        if kind.index not in self.ops:
            group = self.prices.alike[kind.index]
            for other, table in zip(group.kinds, self._maker.of(group), strict=True):
                self.ops.setdefault(other.index, table)
        return self.ops[kind.index]

    def held(self, kind: OpKind) -> tuple[Array, Array, Array]:
        """Bytes of weights, gradients, and states with copies in full precision, by cut of an op."""
        return self._maker.held(self.prices.alike[kind.index], kind, self.op(kind))

    def copies(self, type_: TensorType) -> tuple[float, float, float]:
        """What is held of a weight, as multiples of its bytes: itself, its gradient, its states and its copy in full
        precision."""
        return copies(self.prices.updates.states, self.widths, type_)

    @property
    def _maker(self) -> OpTables:
        return OpTables(
            self.strategy,
            self.fabric,
            self.pins,
            self.widths,
            self.batches,
            self.prices.buckets,
            self._rates,
            self._shares,
            self.overlap,
        )

    # Homes.

    def home(self, kind: HomeKind) -> HomeTable:
        """The forms of a kind of home."""
        if kind.index not in self.homes:
            self.homes[kind.index] = home_table(kind, self._microbatch(kind.type), self.mesh, self.prices)
        return self.homes[kind.index]

    def _microbatch(self, type_: TensorType) -> TensorType:
        return type_.with_extent(BATCH, self.samples)

    # Edges.

    def edge(self, kind: EdgeKind) -> Array:
        """Seconds of a microbatch (of a step for a weight that is lent) by options of both ends."""
        return self.edges([kind])[0]

    def edges(self, kinds: Sequence[EdgeKind], moves: Sequence[Array] | None = None) -> list[Array]:
        """The tables of kinds of edges by options of both ends; `moves` by cuts and forms, where they are known."""
        moves = self.moves(kinds) if moves is None else moves
        return [
            self._apart(kind, self._with_layouts(kind, self._type(kind), table))
            for kind, table in zip(kinds, moves, strict=True)
        ]

    def moves(self, kinds: Sequence[EdgeKind]) -> list[Array]:
        """The tables of kinds of edges by cuts and forms of both ends, without conversions of layout.

        The moves of all their types are priced together.
        """
        if self.mesh.axes:
            self.redistributions.prepare(self._type(kind) for kind in kinds)
        return [self._edge(kind, self._type(kind)) for kind in kinds]

    def _edge(self, kind: EdgeKind, type_: TensorType) -> Array:
        source = self._end(kind.source, kind.source_role, type_, made=not kind.weight)
        target = self._end(kind.target, kind.target_role, type_, made=False)
        table = self._moves(type_, source.ahead, target.ahead)
        if kind.gradient:
            table = table + self._moves(type_, target.back, source.back).T
        return table + self._adding(kind) if kind.weight else table

    def _adding(self, kind: EdgeKind) -> Array:
        """Seconds of a step to add the gradients of a weight that is lent to those of its owner, by forms of both."""
        often = self.strategy.microbatches * self.batches
        size = self._held(kind.target, kind.target_role)
        return (often * (3.0 * size / self.prices.device.bandwidth + self.prices.call()))[None]

    def _type(self, kind: EdgeKind) -> TensorType:
        return kind.type if kind.weight else self._microbatch(kind.type)

    def _moves(self, type_: TensorType, sources: Integers, targets: Integers) -> Array:
        import numpy as np

        if not self.mesh.axes:
            return np.zeros((len(sources), len(targets)))
        return self.redistributions.between(type_, sources, targets)

    def _end(self, index: int, role: str, type_: TensorType, *, made: bool) -> _End:
        """Where one end has a tensor: where it is `made` it may be a partial sum, where it is read its gradient."""
        key = (index, role, made)
        if key not in self._ends:
            self._ends[key] = self._placed(index, role, type_, made)
        return self._ends[key]

    def _placed(self, index: int, role: str, type_: TensorType, made: bool) -> _End:
        import numpy as np

        kind, entries = self.prices.network.kinds[index], len(type_.axes) + 2
        weights = entries ** np.arange(len(self.mesh.axes), dtype=np.int64)[::-1]
        if isinstance(kind, HomeKind):
            home = self.home(kind)
            return _End(home.ahead @ weights, home.behind @ weights)
        codes, (whole, partial) = self.op(kind).codes, _digits(kind.indexing.axes, kind.indexing.tensors[role])
        held, born = whole[codes] @ weights, partial[codes] @ weights
        return _End(born, held) if made else _End(held, born)

    def _with_layouts(
        self,
        kind: EdgeKind,
        type_: TensorType,
        table: Array,
    ) -> Array:
        """The table over cuts as one over options: a copy where both ends differ in layout, of the smaller of both."""
        import numpy as np

        ours, theirs = self.layouts_of(kind.source), self.layouts_of(kind.target)
        if ours == ("",) and theirs == ("",):
            return table
        if not is_image(type_) or kind.weight:
            return np.repeat(np.repeat(table, len(ours), axis=0), len(theirs), axis=1)
        sizes = self._held(kind.source, kind.source_role), self._held(kind.target, kind.target_role)
        fixed, slope = self.prices.conversion
        often = 2.0 if kind.gradient else 1.0
        copied = (fixed + np.minimum.outer(*sizes) * slope) * often
        differs = _differs(tuple(min(extent, 2) for extent in type_.shape), ours, theirs)
        whole = table[:, None, :, None] + copied[:, None, :, None] * differs[None, :, None, :]
        return np.asarray(whole.reshape(table.shape[0] * len(ours), table.shape[1] * len(theirs)))

    def _apart(self, kind: EdgeKind, table: Array) -> Array:
        """The table with what one kernel for both ends would save, where they differ in layout or placement."""
        import numpy as np

        made, read = self.prices.network.kinds[kind.source], self.prices.network.kinds[kind.target]
        if kind.weight or not self.prices.fused or not isinstance(made, OpKind) or not isinstance(read, OpKind):
            return table
        saved = self._saved(made, kind.source_role, False), self._saved(read, kind.target_role, True)
        if saved[0] is None and saved[1] is None:
            return table
        type_ = self._type(kind)
        source = self._end(kind.source, kind.source_role, type_, made=True)
        target = self._end(kind.target, kind.target_role, type_, made=False)
        ours, theirs = self.layouts_of(kind.source), self.layouts_of(kind.target)
        moved = (source.ahead[:, None] != target.ahead), (source.back[:, None] != target.back)
        turned = np.zeros((len(ours), len(theirs)), dtype=bool)
        if is_image(type_):
            turned = _differs(tuple(min(extent, 2) for extent in type_.shape), ours, theirs)
        for at, seconds in enumerate(saved):
            if seconds is not None:
                apart = (moved[at][:, None, :, None] | turned[None, :, None, :]).reshape(table.shape)
                table = table + apart * (seconds[None, :] if at else seconds[:, None])
        return table

    def _saved(self, kind: OpKind, role: str, backward: bool) -> Array | None:
        """What an op of a kind saves with what is behind it, by option: its neighbour along the edge of this role."""
        found = next(
            (each for each in kind.passes if each.node.stage in kind.chains
             and (each is not kind.passes[0]) == backward and each.outputs[0] == role),
            None,
        )  # fmt: skip
        if found is None or kind.chains[found.node.stage].at:
            return None
        spent = self.prices.of(kind)
        return (spent.saved_backward if backward else spent.saved_forward)[:, self.op(kind).rows].T.reshape(-1)

    def copied(self, kind: EdgeKind, source: int, target: int) -> float:
        """Seconds of a microbatch of the copies on an edge between two options that differ in layout."""
        ours, theirs = self.layouts_of(kind.source), self.layouts_of(kind.target)
        one, other = ours[source % len(ours)], theirs[target % len(theirs)]
        if one == other or kind.weight or not is_image(kind.type):
            return 0.0
        if same_memory(self._type(kind), one or DEFAULT_LAYOUT, other or DEFAULT_LAYOUT):
            return 0.0
        sizes = self._held(kind.source, kind.source_role), self._held(kind.target, kind.target_role)
        fixed, slope = self.prices.conversion
        size = min(float(sizes[0][source // len(ours)]), float(sizes[1][target // len(theirs)]))
        return float((fixed + size * slope) * (2.0 if kind.gradient else 1.0))

    def _held(self, index: int, role: str) -> Array:
        """Bytes of a tensor at one end of an edge on the rank with most of it, by cuts or forms."""
        import numpy as np

        kind = self.prices.network.kinds[index]
        if isinstance(kind, HomeKind):
            return self.home(kind).bytes
        return np.asarray(self.prices.bytes(kind, role)[self.op(kind).rows])

    def layouts_of(self, index: int) -> tuple[str, ...]:
        """Those of a kind of variable."""
        kind = self.prices.network.kinds[index]
        return self.home(kind).layouts if isinstance(kind, HomeKind) else self.op(kind).layouts


@lru_cache(maxsize=4096)
def _digits(axes: tuple[str, ...], runs: tuple[str, ...]) -> tuple[Integers, Integers]:
    """[iteration axis] -> the digit of a tensor that runs along `runs`, whole or else partial where it has no such
    axis; the last one is that of mesh axes that split nothing."""
    import numpy as np

    places = [2 + runs.index(axis) if axis in runs else 0 for axis in axes]
    return np.array([*places, 0], dtype=np.int64), np.array([*(place or 1 for place in places), 0], dtype=np.int64)


@lru_cache(maxsize=1024)
def _differs(extents: tuple[int, ...], ours: tuple[str, ...], theirs: tuple[str, ...]) -> Flags:
    """[one, other]: whether an image with such extents has to be copied from one layout to the other."""
    import numpy as np

    image = TensorType("f32", tuple(map(Axis, IMAGE_AXES, extents)))
    return np.array(
        [[not same_memory(image, one or DEFAULT_LAYOUT, two or DEFAULT_LAYOUT) for two in theirs] for one in ours]
    )
