"""The tables of one strategy: what each option of each kind of variable costs, and each pair of options on each edge.

An option of an op is a way to cut it and a layout; an option of a home a placement of the value, one of its gradient,
and a layout. Seconds of kernels, halos and the sums inside an op, moves of a tensor and back of its gradient, and
conversions of layout are those of one microbatch; updates and gradients of weights are summed once a step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from dlc.cluster.fabric import Fabric
from dlc.cost.redistribution import Redistributions
from dlc.ir.mesh import PARTIAL, REPLICATED, Mesh, Placement, shards
from dlc.ir.tensor import BATCH, DTYPE_BYTES, Axis, TensorType
from dlc.ops.indexing import Partition, fringe
from passes.lower_buffers import DEFAULT_LAYOUT, IMAGE_AXES, is_image, same_memory
from passes.planning.network import EdgeKind, HomeKind, OpKind
from passes.planning.pins import Pins
from passes.planning.prices import Prices
from passes.planning.strategies import Strategy
from passes.planning.sums import Exposure, Key, all_late

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Integers = NDArray[np.int64]
    Flags = NDArray[np.bool_]

BUCKET = 25 * 2**20
"""Gradients of weights are priced by the byte, as a part of a bucket of this size (`passes.buckets`)."""


@dataclass(frozen=True, slots=True)
class OpTable:
    """The legal options of a kind of op: option o cuts it by `partition(o // layouts)` in `layouts[o % layouts]`.

    `codes[cut, i]` is the iteration axis, of `axes`, that a cut splits over inner mesh axis i; -1 is none.
    `forward`, `backward` and `weights` are seconds of a microbatch with what is communicated inside the op; `update`
    seconds of a step without, `sums` the seconds to sum gradients. `saved` are bytes that a microbatch keeps for its
    backward pass, `fixed` those of weights, gradients and states, `transient` those of its gradients and workspaces
    while it runs.
    """

    axes: tuple[str, ...]
    codes: Integers
    layouts: tuple[str, ...]
    rows: Integers
    forward: Array
    backward: Array
    weights: Array
    update: Array
    sums: Array
    saved: Array
    fixed: Array
    transient: Array

    @property
    def options(self) -> int:
        """How many there are."""
        return len(self.forward)

    @property
    def partitions(self) -> tuple[Partition, ...]:
        """All cuts."""
        return tuple(self.partition(cut) for cut in range(len(self.codes)))

    def partition(self, cut: int) -> Partition:
        """One cut."""
        return tuple(self.axes[code] if code >= 0 else "" for code in self.codes[cut].tolist())

    def of(self, cuts: Integers) -> OpTable:
        """The options with these cuts alone."""
        import numpy as np

        count = len(self.layouts)
        kept = (cuts[:, None] * count + np.arange(count)).reshape(-1)
        columns = {name: getattr(self, name)[kept] for name in COLUMNS}
        return replace(self, codes=self.codes[cuts], rows=self.rows[cuts], **columns)


COLUMNS = ("forward", "backward", "weights", "update", "sums", "saved", "fixed", "transient")


@dataclass(frozen=True, slots=True)
class HomeTable:
    """The forms of a kind of home: option o has form o // layouts.

    `ahead[form, i]` is what inner mesh axis i does to the value: 0 leaves it whole, 2 + a splits its axis
    a, of `names`. `behind` says so of its gradient, which may be partial, 1.
    """

    names: tuple[str, ...]
    ahead: Integers
    behind: Integers
    layouts: tuple[str, ...]
    backward: Array  # seconds to add up the gradients of a microbatch
    bytes: Array  # [form]: of the value on a rank

    @property
    def forms(self) -> tuple[tuple[Placement, Placement], ...]:
        """All forms: where each has the value, and its gradient."""
        entries = (REPLICATED, PARTIAL, *self.names)
        ahead, behind = ([tuple(entries[at] for at in row) for row in d.tolist()] for d in (self.ahead, self.behind))
        return tuple(zip(ahead, behind, strict=True))


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
    master_bytes: int = 0  # of a weight's copy in full precision, where it has one
    batches: int = 1  # behind one update
    overlap: float = 0.0  # the share of its own time in which computing hides communication
    ops: dict[int, OpTable] = field(default_factory=dict)
    homes: dict[int, HomeTable] = field(default_factory=dict)
    _fringes: dict[tuple[int, str, int], tuple[int, int]] = field(default_factory=dict)
    _rates: dict[tuple[str, tuple[str, ...]], float] = field(default_factory=dict)
    _shares: dict[tuple[str, tuple[str, ...]], Mapping[Key, float]] = field(default_factory=dict)
    _exposure: Exposure | None = None
    _ends: dict[tuple[int, str, bool], _End] = field(default_factory=dict)

    def of(self, ops: dict[int, OpTable]) -> Tables:
        """The same with fewer options for some ops."""
        return replace(self, ops=ops, _ends={}, _exposure=self.exposure)

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
            BATCH in exchange.axes and each.node.stage == exchange.stage and _spans(exchange.group, self.samples, ranks)
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
        return found.exposure(net, self._summed(self.mesh.names), least[ops], self.overlap)

    @property
    def mesh(self) -> Mesh:
        """The mesh of one stage."""
        return self.strategy.inner

    @property
    def samples(self) -> int:
        """Of a microbatch."""
        return self.strategy.samples(self.prices.graph.batch)

    def op(self, kind: OpKind) -> OpTable:
        """The options of a kind of op."""
        if kind.index not in self.ops:
            self.ops[kind.index] = self._op(kind)
        return self.ops[kind.index]

    def _op(self, kind: OpKind) -> OpTable:
        import numpy as np

        spent, cuts = self.prices.of(kind), self.prices.cuts(kind, self.strategy)
        possible = np.asarray(np.isfinite(spent.forward).any(axis=0))[cuts.rows]
        kept = np.flatnonzero(possible & self._legal(kind, cuts.codes, cuts.parts))
        codes, parts, rows = cuts.codes[kept], cuts.parts[kept], cuts.rows[kept]
        shared = {role: self._partial(kind, role, codes) for role in kind.weights}
        inside, behind = self._inside(kind, codes, parts, rows)
        sums, gathers = self._sums(kind, shared, rows)
        count = len(spent.layouts)

        def spread(column: Array) -> Array:
            return np.repeat(column, count)

        def by_layout(table: Array) -> Array:
            return np.ascontiguousarray(table[:, rows].T).reshape(-1)

        return OpTable(
            kind.indexing.axes,
            codes,
            spent.layouts,
            rows,
            by_layout(spent.forward) + spread(inside + gathers + self._loads(kind, rows)),
            by_layout(spent.backward) + spread(behind + gathers),
            by_layout(spent.weights) + spread(self._added(kind, rows)),
            spread(self._updates(kind, shared, rows)),
            spread(sums),
            spread(self.prices.saved(kind)[rows]),
            spread(self._fixed(kind, shared, rows)),
            spread(self.prices.transient(kind)[rows]) + by_layout(spent.workspace),
        )

    def _legal(self, kind: OpKind, codes: Integers, parts: Integers) -> Flags:
        """Which cuts leave every rank something, keep whole what has to stay whole, and obey the pins."""
        import numpy as np

        extents = [min(extent, self.samples) if axis == BATCH else extent for axis, extent in kind.indexing.extents]
        ok = np.asarray((parts <= np.array(extents, dtype=np.int64)).all(axis=1))
        for at, (axis, extent) in enumerate(zip(kind.indexing.axes, extents, strict=True)):
            if axis in kind.indexing.whole:
                ok &= extent % parts[:, at] == 0
            if axis in kind.indexing.halos:
                rows = self._operand_rows(kind, axis)
                for count in np.unique(parts[ok, at]).tolist():
                    if max(self._fringe(kind, axis, count)) > rows // count:
                        ok &= parts[:, at] != count
        ok &= self.pins.allow(kind, codes, self.strategy)
        families = self.strategy.families
        for i, family in enumerate(families):
            if family != "any" and (ok & (codes[:, i] >= 0)).any():
                ok &= codes[:, i] >= 0
        return ok

    def _inside(self, kind: OpKind, codes: Integers, parts: Integers, rows: Integers) -> tuple[Array, Array]:
        """Seconds of halos and sums inside the op, forward and backward."""
        import numpy as np

        forward, backward = np.zeros(len(codes)), np.zeros(len(codes))
        axes, stages = kind.indexing.axes, {each.node.stage for each in kind.passes}
        for axis in kind.indexing.halos:
            at = axes.index(axis) if axis in axes else len(axes)
            for i, name in enumerate(self.mesh.names):
                split = np.flatnonzero(codes[:, i] == at)
                if len(split):
                    reach = np.array([max(self._fringe(kind, axis, count)) for count in parts[split, at].tolist()])
                    seconds = self.fabric.neighbours(self._row_bytes(kind, axis, rows[split]) * reach, name)
                    forward[split] += seconds
                    backward[split] += seconds * (1 if "dx" in stages else 0)
        for exchange in kind.indexing.exchanges:
            if exchange.stage not in stages:
                continue
            into = forward if exchange.stage in ("forward", "loss") else backward
            cut = np.zeros(codes.shape, dtype=bool)
            for axis in exchange.axes:
                here = codes == axes.index(axis) if axis in axes else np.zeros(codes.shape, dtype=bool)
                if axis == BATCH:
                    counts = parts[:, axes.index(axis)].tolist()
                    here &= np.array([_spans(exchange.group, self.samples, count) for count in counts])[:, None]
                cut |= here
            size = np.full(len(codes), float(exchange.elements * self._value_bytes(kind)))
            size *= self.samples / self.prices.graph.batch
            for axis in exchange.along:
                if axis in axes:
                    size /= parts[:, axes.index(axis)]
            for names, members in self._by_axes(cut):
                into[members] += exchange.times * self.fabric.seconds("allreduce", size[members], names)
        return forward, backward

    def _operand_rows(self, kind: OpKind, axis: str) -> int:
        """Rows of the first operand along an image axis."""
        operand = next(iter(kind.types))
        at = kind.indexing.tensors[operand].index(axis)
        return kind.types[operand].axes[at].extent

    def _fringe(self, kind: OpKind, axis: str, count: int) -> tuple[int, int]:
        """The rows that parts read of their neighbours', before and behind their own."""
        key = (kind.index, axis, count)
        if key not in self._fringes:
            result = kind.indexing.tensors[kind.results[0]].index(axis)
            extent = kind.types[kind.results[0]].axes[result].extent
            self._fringes[key] = fringe(kind.indexing.halos[axis], self._operand_rows(kind, axis), extent, count)
        return self._fringes[key]

    def _row_bytes(self, kind: OpKind, axis: str, rows: Integers) -> Array:
        """Bytes of one row of the first operand along an image axis, on one rank."""
        import numpy as np

        operand = next(iter(kind.types))
        name = kind.types[operand].axes[kind.indexing.tensors[operand].index(axis)].name
        return np.asarray((self.prices.bytes(kind, operand) / self.prices.extents(kind, operand)[name])[rows])

    def _value_bytes(self, kind: OpKind) -> int:
        return DTYPE_BYTES[next(iter(kind.types.values())).dtype]

    def _by_axes(self, chosen: Flags) -> list[tuple[tuple[str, ...], Integers]]:
        """(mesh axes, the options for which exactly these are chosen), for each set of axes but none."""
        import numpy as np

        numbers = chosen @ (1 << np.arange(chosen.shape[1]))
        found: list[tuple[tuple[str, ...], Integers]] = []
        for number in range(1, 1 << chosen.shape[1]):
            members = np.flatnonzero(numbers == number)
            if len(members):
                found.append((tuple(name for i, name in enumerate(self.mesh.names) if number >> i & 1), members))
        return found

    def _partial(self, kind: OpKind, role: str, codes: Integers) -> Flags:
        """[option, mesh axis]: whether ranks along it hold the same of a weight, and parts of its gradient's sum."""
        import numpy as np

        along = kind.indexing.tensors.get(role, ())
        summed = kind.indexing.tensors[kind.results[0]] if role in kind.indexing.once else kind.indexing.axes
        axes = kind.indexing.axes
        return np.array([axis in summed and axis not in along for axis in axes] + [False])[codes]

    def _sums(self, kind: OpKind, shared: Mapping[str, Flags], rows: Integers) -> tuple[Array, Array]:
        """(seconds a step to sum gradients of weights, seconds a microbatch and pass to gather sharded weights)."""
        import numpy as np

        sums, gathers = np.zeros(len(rows)), np.zeros(len(rows))
        shard, count = self.strategy.shard, self.strategy.microbatches * self.batches
        for role in kind.weights:
            size = self.prices.bytes(kind, role)[rows]
            for names, members in self._by_axes(shared[role]):
                sums[members] += self._share(names).get((kind.index, role), 0.0)
                reduce = self._rate("reduce_scatter" if shard != "none" else "allreduce", names)
                gather = self._rate("allgather", names) if shard != "none" else 0.0
                often = count if shard in ("gradients", "weights") else 1
                again = 0.0 if shard == "weights" else gather
                sums[members] += size[members] * (often * reduce + again)
                if shard == "weights":
                    gathers[members] += size[members] * gather
        return sums, gathers

    def _rate(self, kind: str, names: tuple[str, ...]) -> float:
        """Seconds per byte of a full bucket."""
        if (kind, names) not in self._rates:
            self._rates[kind, names] = float(self.fabric.seconds(kind, float(BUCKET), names)) / BUCKET
        return self._rates[kind, names]

    def _summed(self, names: tuple[str, ...]) -> Callable[[float], float]:
        """Seconds of the sum of a bucket of so many bytes over some axes."""
        kinds = ("allreduce",) if self.strategy.shard == "none" else ("reduce_scatter", "allgather")
        return lambda size: sum(float(self.fabric.seconds(kind, size, names)) for kind in kinds)

    def _share(self, names: tuple[str, ...]) -> Mapping[Key, float]:
        """What gradients that are summed over some axes bear of their buckets' latency, in a step."""
        import numpy as np

        shard, found = self.strategy.shard, self.prices.buckets
        if (shard, names) not in self._shares and found is not None:
            seconds = self._summed(names)
            often = self.strategy.microbatches * self.batches if shard in ("gradients", "weights") else 1
            shares = found.shares(seconds, seconds(float(BUCKET)) / BUCKET)
            self._shares[shard, names] = {key: often * share for key, share in shares.items() if np.isfinite(share)}
        return self._shares.get((shard, names), {})

    def _loads(self, kind: OpKind, rows: Integers) -> Array:
        """Seconds of a microbatch to copy what comes from the data set, where an op of the kind reads it first."""
        import numpy as np

        seconds = np.zeros(len(rows))
        for role in kind.passes[0].inputs:
            often = self.prices.loads.get((kind.index, role), 0.0)
            if often:
                size = self.prices.bytes(kind, role)[rows]
                seconds += often * (2.0 * size / self.prices.device.bandwidth + self.prices.call())
        return seconds

    def _added(self, kind: OpKind, rows: Integers) -> Array:
        """Seconds of a microbatch to add gradients of weights to those of the others."""
        import numpy as np

        seconds = np.zeros(len(rows))
        for role in kind.weights if self.many else ():
            size = self.prices.bytes(kind, role)[rows]
            seconds += 3.0 * size / self.prices.device.bandwidth + self.prices.call()
        return seconds

    def _sharers(self, shared: Flags) -> Array:
        """Among how many ranks a weight's state can be sharded, for each option."""
        import numpy as np

        return np.asarray(np.where(shared, np.array(self.mesh.extents, dtype=float), 1.0).prod(axis=1))

    def _updates(self, kind: OpKind, shared: Mapping[str, Flags], rows: Integers) -> Array:
        update, calls = self.prices.of(kind).update[rows], self.prices.calls(kind)
        if self.strategy.shard == "none" or not kind.weights:
            return update + calls
        return update / self._sharers(shared[kind.weights[0]]) + calls

    def _fixed(self, kind: OpKind, shared: Mapping[str, Flags], rows: Integers) -> Array:
        """Weights, gradients and states."""
        return sum(self._kept(kind, shared, rows))  # type: ignore[return-value]

    def held(self, kind: OpKind) -> tuple[Array, Array, Array]:
        """Bytes of weights, gradients, and states with copies in full precision, by cut of an op."""
        table = self.op(kind)
        shared = {role: self._partial(kind, role, table.codes) for role in kind.weights}
        return self._kept(kind, shared, table.rows)

    def _kept(self, kind: OpKind, shared: Mapping[str, Flags], rows: Integers) -> tuple[Array, Array, Array]:
        """The same (cost-models.md §5: ZeRO); constants count as weights."""
        import numpy as np

        weights, gradients, kept = np.zeros(len(rows)), np.zeros(len(rows)), np.zeros(len(rows))
        level = ("none", "optimizer", "gradients", "weights").index(self.strategy.shard)
        states = self.prices.states
        for role in kind.weights:
            size = self.prices.bytes(kind, role)[rows]
            value = DTYPE_BYTES[kind.types[role].dtype]
            master = self.master_bytes or value
            sharers = self._sharers(shared[role])
            state = (states * master + self.master_bytes) / value
            kept += size * state / (sharers if level >= 1 else 1.0)
            gradients += size / (sharers if level >= 2 else 1.0)
            weights += size / (sharers if level >= 3 else 1.0)
        for role in kind.constants:
            weights += self.prices.bytes(kind, role)[rows]
        return weights, gradients, kept

    # Homes.

    def home(self, kind: HomeKind) -> HomeTable:
        """The forms of a kind of home."""
        if kind.index not in self.homes:
            self.homes[kind.index] = self._home(kind)
        return self.homes[kind.index]

    def _home(self, kind: HomeKind) -> HomeTable:
        import numpy as np

        type_ = self._microbatch(kind.type)
        ahead, behind = _forms(len(type_.axes), len(self.mesh.axes), kind.gradients > 0)
        fits = (self._parts(type_, ahead) <= np.array(type_.shape, dtype=np.int64)).all(axis=1)
        ahead, behind = ahead[fits], behind[fits]
        device, layouts = self.prices.device, self._layouts if is_image(kind.type) else ("",)
        size = self._local_bytes(type_, behind)
        adding = (
            (kind.gradients + 1) * size / device.bandwidth + self.prices.call() if kind.gradients > 1 else 0.0 * size
        )
        held = self._local_bytes(type_, ahead)
        return HomeTable(type_.names, ahead, behind, layouts, np.repeat(adding, len(layouts)), held)

    def _parts(self, type_: TensorType, digits: Integers) -> Integers:
        """[form, tensor axis]: into how many parts it is cut."""
        import numpy as np

        splits = digits[:, :, None] == 2 + np.arange(len(type_.axes))
        return np.asarray(np.where(splits, np.array(self.mesh.extents, dtype=np.int64)[:, None], 1).prod(axis=1))

    def _local_bytes(self, type_: TensorType, digits: Integers) -> Array:
        """[form]: what the rank with most of a tensor holds of it."""
        import numpy as np

        local = -(-np.array(type_.shape, dtype=np.int64) // self._parts(type_, digits))
        return np.asarray(local.prod(axis=1) * float(DTYPE_BYTES[type_.dtype]))

    @property
    def _layouts(self) -> tuple[str, ...]:
        return self.prices.layouts

    def _microbatch(self, type_: TensorType) -> TensorType:
        return type_.with_extent(BATCH, self.samples)

    # Edges.

    def edge(self, kind: EdgeKind) -> Array:
        """Seconds of a microbatch (of a step for a weight that is lent) by options of both ends."""
        return self.edges([kind])[0]

    def edges(self, kinds: Sequence[EdgeKind], moves: Sequence[Array] | None = None) -> list[Array]:
        """The tables of kinds of edges by options of both ends; `moves` by cuts and forms, where they are known."""
        moves = self.moves(kinds) if moves is None else moves
        return [self._with_layouts(kind, self._type(kind), table) for kind, table in zip(kinds, moves, strict=True)]

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


@lru_cache(maxsize=64)
def _forms(tensor_axes: int, mesh_axes: int, gradient: bool) -> tuple[Integers, Integers]:
    """All forms of a home, legal or not: what each mesh axis does to the value, and to its gradient if there is one."""
    import numpy as np

    splits = range(2, tensor_axes + 2)
    ahead, behind = [0, *([0] if gradient else []), *splits], [0, *([1] if gradient else []), *splits]
    grid = np.indices((len(ahead),) * mesh_axes).reshape(mesh_axes, len(ahead) ** mesh_axes).T
    return np.array(ahead, dtype=np.int64)[grid], np.array(behind, dtype=np.int64)[grid]


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


@lru_cache(maxsize=4096)
def _spans(group: int, samples: int, count: int) -> bool:
    """Whether a group of consecutive samples lies on several of so many shards; any does where it is all of them."""
    return not group or any(start % group for start, _ in shards(samples, count))
