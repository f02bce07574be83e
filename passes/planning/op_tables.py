"""The options of ops under one strategy and what each costs; kinds that are cut alike are worked out together.

An option of an op is a way to cut it and a layout. Seconds of kernels, halos and sums inside an op are those of one
microbatch; updates and gradients of weights are summed once a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dlc.cluster.fabric import Fabric
from dlc.cost.compute import load_work
from dlc.ir.mesh import Mesh
from dlc.ir.tensor import BATCH, DTYPE_BYTES, TensorType
from dlc.ops.blocks import BLOCKED
from dlc.ops.indexing import spans
from dlc.ops.window_indexing import BY_ROWS
from passes.packing import BUCKET_BYTES
from passes.planning.alike import Alike
from passes.planning.columns import OpTable
from passes.planning.network import OpKind
from passes.planning.partitions import Cuts
from passes.planning.pins import Pins
from passes.planning.strategies import Strategy
from passes.planning.sums import Buckets, Key
from passes.planning.update_rules import Widths

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Integers = NDArray[np.int64]
    Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Cut:
    """Legal cuts of kinds that are alike: for each its kind's place among them, and what it is."""

    kind: Integers
    codes: Integers
    parts: Integers
    rows: Integers

    def __len__(self) -> int:
        return len(self.kind)

    def at(self, table: Array) -> Array:
        """[cut]: the entries of a table by kind and row."""
        return table[self.kind, self.rows]


@dataclass(slots=True)
class OpTables:
    """Makes the tables of ops under a strategy."""

    strategy: Strategy
    fabric: Fabric
    pins: Pins
    widths: Widths
    batches: int  # behind one update
    buckets: Buckets | None  # of gradients, where nothing but the batch is split
    _rates: dict[tuple[str, tuple[str, ...]], float] = field(default_factory=dict)
    _shares: dict[tuple[str, tuple[str, ...]], Mapping[Key, float]] = field(default_factory=dict)
    overlap: float = 0.0  # the share of its own time in which computing hides communication

    @property
    def mesh(self) -> Mesh:
        """The mesh of one stage."""
        return self.strategy.inner

    def of(self, group: Alike) -> list[OpTable]:
        """The tables of kinds that are cut alike."""
        import numpy as np

        legal = self._legal(group, group.prices.cuts(group.example, self.strategy))
        count = len(group.layouts)
        ends = np.cumsum(np.bincount(legal.kind, minlength=len(group.kinds))).tolist()
        columns = self._columns(group, legal)
        return [
            OpTable(
                kind.indexing.axes,
                legal.codes[a:b],
                group.layouts,
                legal.rows[a:b],
                *(column[a * count : b * count] for column in columns),
            )
            for kind, a, b in zip(group.kinds, (0, *ends), ends, strict=False)
        ]

    def _columns(self, group: Alike, cut: _Cut) -> tuple[Array, ...]:
        """Those of `COLUMNS`, of one kind after the other."""
        import numpy as np

        count, samples = len(group.layouts), self.strategy.samples(group.prices.graph.batch)
        shared = {role: self._partial(group.example, role, cut.codes) for role in group.example.weights}
        inside, behind = self._inside(group, cut, samples)
        sums, gathers = self._sums(group, shared, cut)

        def spread(column: Array) -> Array:
            return np.repeat(column, count)

        def by_layout(name: str) -> Array:
            return np.asarray(group.spent(name)[cut.kind, :, cut.rows]).reshape(-1)

        ahead, back = self._hidden(group, cut)
        forward = by_layout("forward") + spread(inside + gathers + self._loads(group, cut)) - ahead
        blocked = np.array([layout in BLOCKED for layout in group.layouts])
        if blocked.any():  # of images in blocks nothing is cut but the batch
            axes = group.example.indexing.axes
            batch = axes.index(BATCH) if BATCH in axes else len(axes)
            forward[np.logical_and.outer(((cut.codes >= 0) & (cut.codes != batch)).any(axis=1), blocked).ravel()] = (
                np.inf
            )
        return (
            forward,
            by_layout("backward") + spread(behind + gathers) - back,
            by_layout("weights") + spread(self._added(group, cut)),
            spread(self._updates(group, shared, cut)),
            spread(sums),
            spread(cut.at(group.saved())),
            spread(sum(self._kept(group, shared, cut))),  # type: ignore[arg-type]
            spread(cut.at(group.transient())) + by_layout("workspace"),
        )

    def _legal(self, group: Alike, cuts: Cuts) -> _Cut:
        """The cuts that leave every rank something, or in data parallelism some nothing where samples are fewer than
        ranks, keep whole what has to stay whole, and obey the pins."""
        import numpy as np

        indexing, parts = group.example.indexing, cuts.parts
        samples = self.strategy.samples(group.prices.graph.batch)
        extents = group.extents(samples)
        if BATCH in indexing.axes and BATCH not in indexing.whole and _idle(self.strategy, samples):
            extents[:, indexing.axes.index(BATCH)] = self.mesh.ranks
        ok = group.possible[:, cuts.rows] & (parts <= extents[:, np.newaxis, :]).all(axis=2)
        for at, axis in enumerate(indexing.axes):
            if axis in indexing.whole:
                ok &= extents[:, at, np.newaxis] % parts[:, at] == 0
            if axis in indexing.halos:
                rows = group.operand_rows(axis)
                for count in np.unique(parts[ok.any(axis=0), at]).tolist():
                    far = group.reach(axis, count) > rows // count
                    if far.any():
                        ok &= ~np.logical_and.outer(far, parts[:, at] == count)
        for place, kind in enumerate(group.kinds):
            if self.pins.reach(kind):
                ok[place] &= self.pins.allow(kind, cuts.codes, self.strategy)
        for i, family in enumerate(self.strategy.families):
            if family != "any":
                splits = cuts.codes[:, i] >= 0
                ok &= splits | ~np.any(ok & splits, axis=1, keepdims=True)
        kinds, kept = np.nonzero(ok)
        return _Cut(kinds, cuts.codes[kept], parts[kept], cuts.rows[kept])

    def _hidden(self, group: Alike, cut: _Cut) -> tuple[Array, Array]:
        """Seconds of halos that computing hides (`passes.lowering.overlap`), of several that of the last axis.

        Forward inner rows do where that is worth two further calls, backward the gradient by the weights.
        """
        import numpy as np

        last, count = np.zeros(len(cut)), len(group.layouts)
        for split, seconds in self._halos(group, cut) if self.overlap else ():
            last[split] = seconds
        if not last.any():
            return np.zeros(len(cut) * count), np.zeros(len(cut) * count)
        able = np.array([kind.example.op in BY_ROWS for kind in group.kinds])
        forward, weights = (group.spent(name)[cut.kind, :, cut.rows] for name in ("forward", "weights"))
        ahead = np.minimum((last * able[cut.kind])[:, None], self.overlap * forward) - 2 * group.prices.call()
        comes_back = "dx" in {each.node.stage for each in group.example.passes}
        back = np.minimum(last[:, None] * comes_back, self.overlap * weights)
        return np.maximum(ahead, 0.0).reshape(-1), back.reshape(-1)

    def _halos(self, group: Alike, cut: _Cut) -> Iterator[tuple[Integers, Array]]:
        """(cuts, their seconds) of each exchange of rows with neighbours, in the order of the axes."""
        import numpy as np

        axes = group.example.indexing.axes
        for axis in group.example.indexing.halos:
            at = axes.index(axis) if axis in axes else len(axes)
            for i, name in enumerate(self.mesh.names):
                split = np.flatnonzero(cut.codes[:, i] == at)
                if len(split):
                    yield split, self.fabric.neighbours(self._halo_bytes(group, cut, axis, at, split), name)

    def _inside(self, group: Alike, cut: _Cut, samples: int) -> tuple[Array, Array]:
        """Seconds of halos and sums inside the op, forward and backward."""
        import numpy as np

        kind = group.example
        forward, backward = np.zeros(len(cut)), np.zeros(len(cut))
        stages = {each.node.stage for each in kind.passes}
        for split, seconds in self._halos(group, cut):
            forward[split] += seconds
            backward[split] += seconds * (1 if "dx" in stages else 0)
        for number, exchange in enumerate(kind.indexing.exchanges):
            if exchange.stage in stages:
                into = forward if exchange.stage in ("forward", "loss") else backward
                self._exchange(group, cut, number, samples, into)
        return forward, backward

    def _exchange(self, group: Alike, cut: _Cut, number: int, samples: int, into: Array) -> None:
        """Add the seconds of one of the sums inside the op."""
        import numpy as np

        exchange, axes = group.example.indexing.exchanges[number], group.example.indexing.axes
        over = np.zeros(cut.codes.shape, dtype=bool)
        for axis in (axis for axis in exchange.axes if axis in axes):
            here = cut.codes == axes.index(axis)
            if axis == BATCH:
                here &= _spanning(exchange.group, samples, cut.parts[:, axes.index(axis)])[:, np.newaxis]
            over |= here
        size = group.exchanged(number)[cut.kind]
        size *= samples / group.prices.graph.batch
        for axis in exchange.along:
            if axis in axes:
                size /= cut.parts[:, axes.index(axis)]
        for names, members in self._by_axes(over):
            into[members] += exchange.times * self.fabric.seconds("allreduce", size[members], names)

    def _halo_bytes(self, group: Alike, cut: _Cut, axis: str, at: int, split: Integers) -> Array:
        """[cut of `split`]: what a rank is sent of each neighbour's rows along an axis."""
        import numpy as np

        counts, place = np.unique(cut.parts[split, at], return_inverse=True)
        reach = np.array([group.reach(axis, count) for count in counts.tolist()])[place, cut.kind[split]]
        return np.asarray(group.row_bytes(axis)[cut.kind[split], cut.rows[split]] * reach)

    def _by_axes(self, chosen: Flags) -> list[tuple[tuple[str, ...], Integers]]:
        """(mesh axes, the cuts for which exactly these are chosen), for each set of axes but none."""
        import numpy as np

        numbers = chosen @ (1 << np.arange(chosen.shape[1]))
        found: list[tuple[tuple[str, ...], Integers]] = []
        for number in range(1, 1 << chosen.shape[1]):
            members = np.flatnonzero(numbers == number)
            if len(members):
                found.append((tuple(name for i, name in enumerate(self.mesh.names) if number >> i & 1), members))
        return found

    def _partial(self, kind: OpKind, role: str, codes: Integers) -> Flags:
        """[cut, mesh axis]: whether ranks along it hold the same of a weight, and parts of its gradient's sum."""
        import numpy as np

        along = kind.indexing.tensors.get(role, ())
        summed = kind.indexing.tensors[kind.results[0]] if role in kind.indexing.once else kind.indexing.axes
        axes = kind.indexing.axes
        return np.array([axis in summed and axis not in along for axis in axes] + [False])[codes]

    def _sums(self, group: Alike, shared: Mapping[str, Flags], cut: _Cut) -> tuple[Array, Array]:
        """(seconds a step to sum gradients of weights, seconds a microbatch and pass to gather sharded weights)."""
        import numpy as np

        sums, gathers = np.zeros(len(cut)), np.zeros(len(cut))
        shard, count = self.strategy.shard, self.strategy.microbatches * self.batches
        for role in group.example.weights:
            size = cut.at(group.bytes(role))
            wide = copies(0, self.widths, group.example.types[role])[1]
            for names, members in self._by_axes(shared[role]):
                sums[members] += group.by_kind(self._share(names), role)[cut.kind[members]]
                reduce = self._rate("reduce_scatter" if shard != "none" else "allreduce", names)
                gather = self._rate("allgather", names) if shard != "none" else 0.0
                often = count if shard in ("gradients", "weights") else 1
                again = 0.0 if shard == "weights" else gather
                sums[members] += size[members] * (often * reduce * wide + again)
                if shard == "weights":
                    gathers[members] += size[members] * gather
        return sums, gathers

    def _rate(self, kind: str, names: tuple[str, ...]) -> float:
        """Seconds per byte of a full bucket."""
        if (kind, names) not in self._rates:
            self._rates[kind, names] = float(self.fabric.seconds(kind, float(BUCKET_BYTES), names)) / BUCKET_BYTES
        return self._rates[kind, names]

    def summed(self, names: tuple[str, ...]) -> Callable[[Array], Array]:
        """Seconds of the sums of buckets of so many bytes over some axes."""
        import numpy as np

        kinds = ("allreduce",) if self.strategy.shard == "none" else ("reduce_scatter", "allgather")
        return lambda sizes: np.asarray(sum(self.fabric.seconds(kind, sizes, names) for kind in kinds))

    def _share(self, names: tuple[str, ...]) -> Mapping[Key, float]:
        """What gradients that are summed over some axes bear of their buckets' latency, in a step."""
        import numpy as np

        shard, found = self.strategy.shard, self.buckets
        if (shard, names) not in self._shares and found is not None:
            seconds = self.summed(names)
            often = self.strategy.microbatches * self.batches if shard in ("gradients", "weights") else 1
            shares = found.shares(seconds, float(seconds(np.array([float(BUCKET_BYTES)]))[0]) / BUCKET_BYTES)
            self._shares[shard, names] = {key: often * share for key, share in shares.items() if np.isfinite(share)}
        return self._shares.get((shard, names), {})

    def _loads(self, group: Alike, cut: _Cut) -> Array:
        """Seconds of a microbatch to copy what comes from the data set, where an op of the kind reads it first."""
        import numpy as np

        seconds, prices = np.zeros(len(cut)), group.prices
        for role in group.example.passes[0].inputs:
            often = group.by_kind(prices.loads, role)
            if often.any():
                size = cut.at(group.bytes(role))
                own = prices.call() + load_work(prices.profile)
                seconds += often[cut.kind] * (2.0 * size / prices.device.bandwidth + own)
        return seconds

    def _added(self, group: Alike, cut: _Cut) -> Array:
        """Seconds of a microbatch to add gradients of weights to those of the others."""
        import numpy as np

        seconds, prices = np.zeros(len(cut)), group.prices
        for role in group.example.weights if self.strategy.microbatches * self.batches > 1 else ():
            size = cut.at(group.bytes(role)) * copies(0, self.widths, group.example.types[role])[1]
            seconds += 3.0 * size / prices.device.bandwidth + prices.call()
        return seconds

    def _sharers(self, shared: Flags) -> Array:
        """Among how many ranks a weight's state can be sharded, for each cut."""
        import numpy as np

        return np.asarray(np.where(shared, np.array(self.mesh.extents, dtype=float), 1.0).prod(axis=1))

    def _updates(self, group: Alike, shared: Mapping[str, Flags], cut: _Cut) -> Array:
        update, weights = cut.at(group.update), group.example.weights
        calls = group.calls()[cut.kind]
        if self.strategy.shard == "none" or not weights:
            return update + calls
        return update / self._sharers(shared[weights[0]]) + calls

    def held(self, group: Alike, kind: OpKind, table: OpTable) -> tuple[Array, Array, Array]:
        """Bytes of weights, gradients, and states with copies in full precision, by cut of an op."""
        import numpy as np

        place = np.full(len(table.rows), group.kinds.index(kind))
        shared = {role: self._partial(kind, role, table.codes) for role in kind.weights}
        return self._kept(group, shared, _Cut(place, table.codes, table.codes, table.rows))

    def _kept(self, group: Alike, shared: Mapping[str, Flags], cut: _Cut) -> tuple[Array, Array, Array]:
        """The same (cost-models.md §5: ZeRO); constants count as weights."""
        import numpy as np

        kind = group.example
        weights, gradients, kept = np.zeros(len(cut)), np.zeros(len(cut)), np.zeros(len(cut))
        level = ("none", "optimizer", "gradients", "weights").index(self.strategy.shard)
        for role in kind.weights:
            size, sharers = cut.at(group.bytes(role)), self._sharers(shared[role])
            each = copies(group.prices.updates.states, self.widths, kind.types[role])
            kept += size * each[2] / (sharers if level >= 1 else 1.0)
            gradients += size * each[1] / (sharers if level >= 2 else 1.0)
            weights += size * each[0] / (sharers if level >= 3 else 1.0)
        for role in kind.constants:
            weights += cut.at(group.bytes(role))
        return weights, gradients, kept


def copies(states: int, widths: Widths, type_: TensorType) -> tuple[float, float, float]:
    """What is held of a weight, as multiples of its bytes: itself, its gradient, and so many states, among which is
    its copy in full precision where it has one."""
    value = DTYPE_BYTES[type_.dtype]
    gradient, state = (width or value for width in widths)
    return 1.0, gradient / value, states * state / value


def _spanning(group: int, samples: int, counts: Integers) -> Flags:
    """[cut]: whether a group of consecutive samples lies on several of so many shards."""
    import numpy as np

    some, place = np.unique(counts, return_inverse=True)
    return np.array([spans(group, samples, count) for count in some.tolist()], dtype=bool)[place]


def _idle(strategy: Strategy, samples: int) -> bool:
    """Whether it is data parallelism alone with more ranks than samples: some have nothing to do but sums.

    Stages of a pipeline have something to send of every microbatch.
    """
    return strategy.stages == 1 and strategy.families == ("data",) and strategy.inner.ranks > samples
