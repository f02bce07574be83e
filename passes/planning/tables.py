"""The tables of one strategy: what each option of each kind of variable costs, and each pair of options on each edge.

An option of an op is a way to cut it and a layout; an option of a home a placement of the value, one of its gradient,
and a layout. Seconds of kernels, halos and the sums inside an op, moves of a tensor and back of its gradient, and
conversions of layout are those of one microbatch; updates and gradients of weights are summed once a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING

from dlc.cluster.fabric import Fabric
from dlc.cost.compute import conversion_seconds
from dlc.cost.redistribution import Redistributions
from dlc.ir.mesh import PARTIAL, REPLICATED, Mesh, Placement, largest, shards
from dlc.ir.tensor import BATCH, DTYPE_BYTES, TensorType, tensor
from dlc.ops.indexing import Partition, fringe, needed_placement, operand_placement, result_placement
from passes.lower_buffers import DEFAULT_LAYOUT, is_image, same_memory
from passes.planning.network import EdgeKind, HomeKind, OpKind
from passes.planning.pins import Pins
from passes.planning.prices import Prices
from passes.planning.strategies import Strategy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Integers = NDArray[np.int64]

BUCKET = 25 * 2**20
"""Gradients of weights are priced by the byte, as a part of a bucket of this size (`passes.buckets`)."""


@dataclass(frozen=True, slots=True)
class OpTable:
    """The legal options of a kind of op: option o cuts it by `partitions[o // layouts]` in `layouts[o % layouts]`.

    `forward`, `backward` and `weights` are seconds of a microbatch with what is communicated inside the op; `update`
    seconds of a step without, `sums` the seconds to sum gradients. `saved` are bytes that a microbatch keeps for its
    backward pass, `fixed` those of weights, gradients and states, `transient` those of its gradients while it runs.
    """

    partitions: tuple[Partition, ...]
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

    def of(self, cuts: Integers) -> OpTable:
        """The options with these cuts alone."""
        import numpy as np

        count = len(self.layouts)
        kept = (cuts[:, None] * count + np.arange(count)).reshape(-1)
        columns = {name: getattr(self, name)[kept] for name in COLUMNS}
        return replace(self, partitions=tuple(self.partitions[at] for at in cuts), rows=self.rows[cuts], **columns)


COLUMNS = ("forward", "backward", "weights", "update", "sums", "saved", "fixed", "transient")


@dataclass(frozen=True, slots=True)
class HomeTable:
    """The forms of a kind of home: `forms[o // layouts]` is (placement, that of the gradient)."""

    forms: tuple[tuple[Placement, Placement], ...]
    layouts: tuple[str, ...]
    backward: Array  # seconds to add up the gradients of a microbatch
    bytes: Array  # [form]: of the value on a rank


@dataclass(slots=True)
class Tables:
    """All tables of a strategy, made when asked for."""

    prices: Prices
    strategy: Strategy
    fabric: Fabric
    redistributions: Redistributions
    pins: Pins
    master_bytes: int = 0  # of a weight's copy in full precision, where it has one
    ops: dict[int, OpTable] = field(default_factory=dict)
    homes: dict[int, HomeTable] = field(default_factory=dict)
    _fringes: dict[tuple[int, str, int], tuple[int, int]] = field(default_factory=dict)
    _placements: dict[
        tuple[int, str, bool], tuple[tuple[Placement, ...], tuple[Placement, ...], Integers, Integers]
    ] = field(default_factory=dict)

    def of(self, ops: dict[int, OpTable]) -> Tables:
        """The same with fewer options for some ops."""
        return replace(self, ops=ops, homes=dict(self.homes), _placements={}, _fringes=self._fringes)

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
        kept = np.flatnonzero(self._legal(kind, cuts.codes, cuts.parts))
        codes, parts, rows = cuts.codes[kept], cuts.parts[kept], cuts.rows[kept]
        axes = kind.indexing.axes
        partitions = tuple(tuple(axes[c] if c >= 0 else "" for c in code) for code in codes)
        inside, behind = self._inside(kind, codes, parts, rows)
        sums, gathers = self._sums(kind, codes, rows)
        count = len(spent.layouts)

        def spread(column: Array) -> Array:
            return np.repeat(column, count)

        def by_layout(table: Array) -> Array:
            return np.ascontiguousarray(table[:, rows].T).reshape(-1)

        return OpTable(
            partitions,
            spent.layouts,
            rows,
            by_layout(spent.forward) + spread(inside + gathers),
            by_layout(spent.backward) + spread(behind + gathers),
            by_layout(spent.weights),
            spread(self._updates(kind, codes, rows)),
            spread(sums),
            spread(self._saved(kind, rows)),
            spread(self._fixed(kind, codes, rows)),
            spread(self._transient(kind, rows)),
        )

    def _legal(self, kind: OpKind, codes: Integers, parts: Integers) -> NDArray[np.bool_]:
        """Which cuts leave every rank something, keep whole what has to stay whole, and obey the pins."""
        import numpy as np

        ok = np.ones(len(codes), dtype=bool)
        for at, (axis, extent) in enumerate(kind.indexing.extents):
            extent = min(extent, self.samples) if axis == BATCH else extent
            ok &= parts[:, at] <= extent
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

    def _by_axes(self, chosen: NDArray[np.bool_]) -> list[tuple[tuple[str, ...], Integers]]:
        """(mesh axes, the options for which exactly these are chosen), for each set of axes but none."""
        import numpy as np

        numbers = chosen @ (1 << np.arange(chosen.shape[1]))
        return [
            (
                tuple(name for i, name in enumerate(self.mesh.names) if number >> i & 1),
                np.flatnonzero(numbers == number),
            )
            for number in np.unique(numbers).tolist()
            if number
        ]

    def _partial(self, kind: OpKind, role: str, codes: Integers) -> NDArray[np.bool_]:
        """[option, mesh axis]: whether ranks along it hold the same of a weight, and parts of its gradient's sum."""
        import numpy as np

        along = kind.indexing.tensors.get(role, ())
        summed = kind.indexing.tensors[kind.results[0]] if role in kind.indexing.once else kind.indexing.axes
        own = [at for at, axis in enumerate(kind.indexing.axes) if axis in along or axis not in summed]
        return (codes >= 0) & ~np.isin(codes, own)

    def _sums(self, kind: OpKind, codes: Integers, rows: Integers) -> tuple[Array, Array]:
        """(seconds a step to sum gradients of weights, seconds a microbatch and pass to gather sharded weights)."""
        import numpy as np

        sums, gathers = np.zeros(len(codes)), np.zeros(len(codes))
        shard, count = self.strategy.shard, self.strategy.microbatches
        for role in kind.weights:
            size = self.prices.bytes(kind, role)[rows]
            for names, members in self._by_axes(self._partial(kind, role, codes)):
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
        return float(self.fabric.seconds(kind, float(BUCKET), names)) / BUCKET

    def _sharers(self, kind: OpKind, role: str, codes: Integers) -> Array:
        """Among how many ranks a weight's state can be sharded, for each option."""
        import numpy as np

        extents = np.array(self.mesh.extents, dtype=float)
        return np.prod(np.where(self._partial(kind, role, codes), extents, 1.0), axis=1)

    def _updates(self, kind: OpKind, codes: Integers, rows: Integers) -> Array:
        update = self.prices.of(kind).update[rows]
        if self.strategy.shard == "none" or not kind.weights:
            return update
        return update / self._sharers(kind, kind.weights[0], codes)

    def _saved(self, kind: OpKind, rows: Integers) -> Array:
        import numpy as np

        total = np.zeros(len(rows))
        for role in kind.kept:
            total += self.prices.bytes(kind, role)[rows]
        return total

    def _fixed(self, kind: OpKind, codes: Integers, rows: Integers) -> Array:
        """Weights, gradients, states and copies in full precision (cost-models.md §5: ZeRO)."""
        import numpy as np

        total = np.zeros(len(rows))
        level = ("none", "optimizer", "gradients", "weights").index(self.strategy.shard)
        states = self.prices.states
        for role in kind.weights:
            size = self.prices.bytes(kind, role)[rows]
            value = DTYPE_BYTES[kind.types[role].dtype]
            master = self.master_bytes or value
            sharers = self._sharers(kind, role, codes)
            state = (states * master + self.master_bytes) / value
            total += size * state / (sharers if level >= 1 else 1.0)
            total += size / (sharers if level >= 2 else 1.0) + size / (sharers if level >= 3 else 1.0)
        for role in kind.constants:
            total += self.prices.bytes(kind, role)[rows]
        return total

    def _transient(self, kind: OpKind, rows: Integers) -> Array:
        """Gradients that the op reads and writes while its backward pass runs."""
        import numpy as np

        total = np.zeros(len(rows))
        trained = (*kind.weights, *kind.constants)
        for role in dict.fromkeys(role for each in kind.passes[1:] for role in each.outputs if role not in trained):
            if role in kind.types:
                total += self.prices.bytes(kind, role)[rows]
        for role in kind.results if len(kind.passes) > 1 else ():
            total += self.prices.bytes(kind, role)[rows]
        return total

    # Homes.

    def home(self, kind: HomeKind) -> HomeTable:
        """The forms of a kind of home."""
        if kind.index not in self.homes:
            self.homes[kind.index] = self._home(kind)
        return self.homes[kind.index]

    def _home(self, kind: HomeKind) -> HomeTable:
        import numpy as np

        type_ = self._microbatch(kind.type)
        choices = [
            [
                (REPLICATED, REPLICATED),
                *([(REPLICATED, PARTIAL)] if kind.gradients else []),
                *((a, a) for a in type_.names),
            ]
            for _ in self.mesh.names
        ]
        forms = [
            (tuple(f for f, _ in each), tuple(g for _, g in each))
            for each in product(*choices)
            if self._fits(type_, each)
        ]
        device = self.prices.device
        size = np.array([largest(type_, back, self.mesh).bytes for _, back in forms], dtype=float)
        adding = (
            (kind.gradients + 1) * size / device.bandwidth + self.prices.call() if kind.gradients > 1 else 0.0 * size
        )
        layouts = self._layouts if is_image(kind.type) else ("",)
        held = np.array([largest(type_, ahead, self.mesh).bytes for ahead, _ in forms], dtype=float)
        return HomeTable(tuple(forms), layouts, np.repeat(adding, len(layouts)), held)

    @property
    def _layouts(self) -> tuple[str, ...]:
        kinds = (kind for kind in self.prices.network.kinds if isinstance(kind, OpKind))
        return tuple(dict.fromkeys(layout for kind in kinds for layout in self.prices.of(kind).layouts if layout))

    def _fits(self, type_: TensorType, form: Sequence[tuple[str, str]]) -> bool:
        for axis in type_.axes:
            count = 1
            for (at, _), extent in zip(form, self.mesh.extents, strict=True):
                count *= extent if at == axis.name else 1
            if count > axis.extent:
                return False
        return True

    def _microbatch(self, type_: TensorType) -> TensorType:
        return type_.with_extent(BATCH, self.samples)

    # Edges.

    def edge(self, kind: EdgeKind) -> Array:
        """Seconds of a microbatch (of a step for a weight that is lent) by options of both ends."""
        import numpy as np

        type_ = kind.type if kind.weight else self._microbatch(kind.type)
        ahead, back, at, at_back = self._ends(kind.source, kind.source_role, type_, source=True, weight=kind.weight)
        goal, come, to, to_back = self._ends(kind.target, kind.target_role, type_, source=False)
        table = self._moves(type_, ahead, goal)[np.ix_(at, to)]
        if kind.gradient:
            table = table + self._moves(type_, come, back)[np.ix_(to_back, at_back)].T
        return self._with_layouts(kind, type_, table)

    def _moves(self, type_: TensorType, sources: tuple[Placement, ...], targets: tuple[Placement, ...]) -> Array:
        import numpy as np

        if not self.mesh.axes:
            return np.zeros((len(sources), len(targets)))
        return self.redistributions.matrix(type_, sources, targets)

    def _ends(
        self, index: int, role: str, type_: TensorType, *, source: bool, weight: bool = False
    ) -> tuple[tuple[Placement, ...], tuple[Placement, ...], Integers, Integers]:
        """Where one end has a tensor and its gradient: distinct placements of both, and the numbers of those that each
        of its cuts has."""
        key = (index, role, source and not weight)
        if key not in self._placements:
            ahead, back = self._placed(index, role, type_, made=source and not weight)
            first, at = _distinct(ahead)
            second, at_back = _distinct(back)
            self._placements[key] = first, second, at, at_back
        return self._placements[key]

    def _placed(self, index: int, role: str, type_: TensorType, made: bool) -> tuple[list[Placement], list[Placement]]:
        kind = self.prices.network.kinds[index]
        if isinstance(kind, HomeKind):
            forms = self.home(kind).forms
            return [f for f, _ in forms], [g for _, g in forms]
        cuts = self.op(kind).partitions
        indexing = kind.indexing
        born = [result_placement(indexing, role, type_, cut) for cut in cuts]
        held = [operand_placement(indexing, role, type_, cut) for cut in cuts]
        return (born, [needed_placement(indexing, role, type_, cut) for cut in cuts]) if made else (held, born)

    def _with_layouts(
        self,
        kind: EdgeKind,
        type_: TensorType,
        table: Array,
    ) -> Array:
        """The table over cuts as one over options: a copy where both ends differ in layout, of the smaller of both."""
        import numpy as np

        ours, theirs = self._layouts_of(kind.source), self._layouts_of(kind.target)
        if ours == ("",) and theirs == ("",):
            return table
        if not is_image(type_) or kind.weight:
            return np.repeat(np.repeat(table, len(ours), axis=0), len(theirs), axis=1)
        sizes = self._held(kind.source, kind.source_role), self._held(kind.target, kind.target_role)
        copied = self._conversion(np.minimum.outer(*sizes)) * (2.0 if kind.gradient else 1.0)
        differs = np.array(
            [[not same_memory(type_, one or DEFAULT_LAYOUT, two or DEFAULT_LAYOUT) for two in theirs] for one in ours]
        )
        whole = table[:, None, :, None] + copied[:, None, :, None] * differs[None, :, None, :]
        return np.asarray(whole.reshape(table.shape[0] * len(ours), table.shape[1] * len(theirs)))

    def _held(self, index: int, role: str) -> Array:
        """Bytes of a tensor at one end of an edge on the rank with most of it, by cuts or forms."""
        import numpy as np

        kind = self.prices.network.kinds[index]
        if isinstance(kind, HomeKind):
            return self.home(kind).bytes
        return np.asarray(self.prices.bytes(kind, role)[self.op(kind).rows])

    def _conversion(self, size: Array) -> Array:
        """Seconds to copy so many bytes into another layout: linear in the bytes."""
        many = 2**20
        fixed, full = (
            conversion_seconds(tensor("f32", n=count), self.prices.device, self.prices.profile) for count in (0, many)
        )
        slope = full - fixed
        return fixed + size * (slope / (4 * many))

    def _layouts_of(self, index: int) -> tuple[str, ...]:
        kind = self.prices.network.kinds[index]
        return self.home(kind).layouts if isinstance(kind, HomeKind) else self.op(kind).layouts


def _distinct(placements: list[Placement]) -> tuple[tuple[Placement, ...], Integers]:
    import numpy as np

    numbers: dict[Placement, int] = {}
    at = np.array([numbers.setdefault(each, len(numbers)) for each in placements], dtype=np.int64)
    return tuple(numbers), at


@lru_cache(maxsize=4096)
def _spans(group: int, samples: int, count: int) -> bool:
    """Whether a group of consecutive samples lies on several of so many shards; any does where it is all of them."""
    return not group or any(start % group for start, _ in shards(samples, count))
