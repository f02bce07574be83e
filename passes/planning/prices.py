"""Seconds and bytes of every kind of op for every way to cut it, found once for all strategies.

What a rank computes depends on how many parts each iteration axis is cut into, not on which mesh axis cuts it. So the
rows of a kind's tables are the distinct (parts of each axis, samples of a microbatch) of all strategies, and a
strategy's options point into them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from math import inf
from typing import TYPE_CHECKING

from dlc.cluster.topology import Device
from dlc.cost.compute import call_work, conversion_seconds, overhead
from dlc.cost.many import by_layout, seconds_many
from dlc.cost.profile import Profile
from dlc.ir.graph import Graph
from dlc.ir.tensor import BATCH, DTYPE_BYTES, Axis, TensorType, tensor
from dlc.ops.operator import Shapes
from passes.options import Operation, Rules, candidates
from passes.planning.alike import Alike, alike
from passes.planning.network import Network, Operands, OpKind
from passes.planning.partitions import Cuts, codes_of, key_of, local_extents, signature
from passes.planning.parts import in_parts, parts_of, scratch_bytes
from passes.planning.spent import Layouts, Spent, cheaper, distinct
from passes.planning.strategies import Strategy
from passes.planning.sums import Buckets, Key, buckets, loads
from passes.planning.update_prices import UpdatePrices
from passes.planning.update_rules import update_rules

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Flags = NDArray[np.bool_]
    Integers = NDArray[np.int64]


@dataclass
class Prices:
    """The price tables of a network on a device; `rows` of some axes hold their parts, then a microbatch's samples.

    Where kernels are `fused`, updates by one rule are one call.
    """

    network: Network
    rules: Rules
    device: Device
    profile: Profile | None
    fused: bool = False
    rows: dict[tuple[str, ...], Integers] = field(default_factory=dict)
    known: dict[tuple[object, ...], Cuts] = field(default_factory=dict)
    spent: dict[int, Spent] = field(default_factory=dict)
    least: dict[int, Array] = field(default_factory=dict)  # by row: seconds of all passes in the best layout
    among: dict[tuple[tuple[str, ...], int, int], Integers] = field(default_factory=dict)  # rows (`cheapest`)
    sizes: dict[tuple[int, str], Array] = field(default_factory=dict)
    known_legal: dict[int, dict[tuple[str, str], list[str]]] = field(default_factory=dict)

    @cached_property
    def updates(self) -> UpdatePrices:
        """What a step does to weights behind the backward pass."""
        return UpdatePrices(update_rules(self.graph), self.device, self.profile, self.fused)

    @cached_property
    def buckets(self) -> Buckets | None:
        """Those of gradients in a step that splits nothing but the batch."""
        return buckets(self.network)

    @cached_property
    def loads(self) -> Mapping[Key, float]:
        """The share of ops of a kind that read an operand from the data set first."""
        return loads(self.network)

    @property
    def graph(self) -> Graph:
        """The training graph."""
        return self.network.graph

    def prepare(self, strategies: Sequence[Strategy]) -> None:
        """Find the rows that these strategies need; prices of a kind are made when first asked for."""
        import numpy as np

        self.among.clear()
        signatures = dict.fromkeys(signature(kind) for kind in self.network.kinds if isinstance(kind, OpKind))
        made: dict[tuple[str, ...], dict[tuple[object, ...], tuple[Integers, Integers]]] = {}
        shared: dict[tuple[object, ...], tuple[Integers, Integers]] = {}
        key: tuple[object, ...]
        for found in signatures:
            for strategy in strategies:
                key = (found, strategy.inner.extents, strategy.families)
                if key not in shared:
                    shared[key] = codes_of(found, strategy)
                codes, parts = shared[key]
                samples = np.full(len(parts), strategy.samples(self.graph.batch))
                made.setdefault(found[0], {})[key_of(found, strategy)] = codes, np.column_stack([parts, samples])
        for axes, pieces in made.items():
            whole = np.concatenate([rows for _, rows in pieces.values()])
            self.rows[axes], inverse = np.unique(whole, axis=0, return_inverse=True)
            start = 0
            for key, (codes, rows) in pieces.items():
                self.known[key] = Cuts(codes, rows[:, :-1], inverse.reshape(-1)[start : start + len(rows)])
                start += len(rows)

    def cuts(self, kind: OpKind, strategy: Strategy) -> Cuts:
        """All ways to cut a kind of op under a strategy."""
        return self.known[key_of(signature(kind), strategy)]

    def of(self, kind: OpKind) -> Spent:
        """The seconds of a kind for all rows."""
        if kind.index not in self.spent:
            self._price(self._priced_alike[kind.index])
        return self.spent[kind.index]

    def cheapest(self, kind: OpKind, ranks: int, samples: int) -> float:
        """The least seconds of all passes of a microbatch, over all ways to cut the op into up to `ranks` parts."""
        if kind.index not in self.least:
            spent = self.of(kind)
            self.least[kind.index] = (spent.forward + spent.backward + spent.weights).min(axis=0)
        return float(self.least[kind.index][self._among(kind.indexing.axes, ranks, samples)].min())

    def _among(self, axes: tuple[str, ...], ranks: int, samples: int) -> Integers:
        """The rows of up to so many parts, of so many samples of a microbatch."""
        import numpy as np

        key = axes, ranks, samples
        if key not in self.among:
            rows = self.rows[axes]
            parts = np.prod(rows[:, :-1], axis=1)
            self.among[key] = np.flatnonzero((rows[:, -1] == samples) & (parts > 0) & (parts <= ranks))
        return self.among[key]

    def extents(self, kind: OpKind, role: str) -> dict[str, int | Integers]:
        """Tensor axis -> what the rank with most of it holds, for all rows of a kind."""
        return local_extents(kind, role, self.rows[kind.indexing.axes])

    def bytes(self, kind: OpKind, role: str) -> Array:
        """Bytes of a tensor of the op on the rank with most of it, for all rows of its kind."""
        import numpy as np

        if (kind.index, role) not in self.sizes:
            size = np.full(len(self.rows[kind.indexing.axes]), float(DTYPE_BYTES[kind.types[role].dtype]))
            for extent in self.extents(kind, role).values():
                size = size * extent
            self.sizes[kind.index, role] = size
        return self.sizes[kind.index, role]

    def saved(self, kind: OpKind) -> Array:
        """Bytes that a microbatch keeps of an op's results for its backward pass, for all rows of its kind."""
        return self._total(kind, kind.kept)

    def transient(self, kind: OpKind) -> Array:
        """Bytes of the gradients that an op reads and writes while its backward pass runs, for all rows of its kind."""
        trained, behind = (*kind.weights, *kind.constants), kind.passes[1:]
        given = dict.fromkeys(role for each in behind for role in each.outputs if role not in trained)
        read = kind.results if behind else ()
        return self._total(kind, (*(role for role in given if role in kind.types), *read))

    def _total(self, kind: OpKind, roles: Iterable[str]) -> Array:
        import numpy as np

        total = np.zeros(len(self.rows[kind.indexing.axes]))
        for role in roles:
            total += self.bytes(kind, role)
        return total

    @cached_property
    def alike(self) -> Mapping[int, Alike]:
        """The kinds that each kind is cut alike with, by its number."""
        return alike(self, (kind for kind in self.network.kinds if isinstance(kind, OpKind)))

    @cached_property
    def _priced_alike(self) -> dict[int, list[OpKind]]:
        """Kinds that differ from one in the extents of their tensors alone, by its number: they are priced together."""
        found: dict[object, list[OpKind]] = {}
        for kind in self.network.kinds:
            if isinstance(kind, OpKind):
                found.setdefault(self._likeness(kind), []).append(kind)
        return {kind.index: group for group in found.values() for kind in group}

    def _likeness(self, kind: OpKind) -> object:
        address = kind.example.address
        if any((address, "microbatch") in rules for rules in (self.rules.pins, self.rules.forbids)):
            return kind.index
        passes = tuple((each.node.stage, each.node.attrs, each.inputs, each.outputs) for each in kind.passes)
        types = tuple((role, type_.dtype, type_.names) for role, type_ in kind.types.items())
        legal = tuple((key, tuple(names)) for key, names in self.legal(kind).items())
        borne = tuple(kind.chains.items())
        return kind.operator.name, str(passes), types, kind.weights, kind.layouts, legal, borne

    def _price(self, kinds: Sequence[OpKind]) -> None:
        """Find the seconds of kinds that are alike, for all rows of all of them; once for rows that leave a rank with
        the same."""
        import numpy as np

        example, ends = kinds[0], np.cumsum([len(self.rows[kind.indexing.axes]) for kind in kinds])
        whole = {role: self._local(kinds, role) for role in example.types}
        rows, places = distinct([extent for type_ in whole.values() for extent in type_.shape], int(ends[-1]))
        local = {role: _of_rows(type_, rows) for role, type_ in whole.items()}
        legal = self.legal(example)
        layouts = tuple(layout for layout in example.layouts if all(legal[s, layout] for s in _stages(example)))
        update = self.updates.seconds([local[role] for role in example.weights], len(rows))
        first, *others = (
            self._in_parts(example, local, legal, layouts, update, parts, allowed)
            for parts, allowed in parts_of(self.rules, example, _samples(local, len(rows)))
        )
        for other in others:
            first = cheaper(first, other)
        for kind, start, end in zip(kinds, (0, *ends[:-1]), ends, strict=True):
            self.spent[kind.index] = first.of(places[start:end])

    def _in_parts(
        self,
        kind: OpKind,
        local: Mapping[str, TensorType],
        legal: Mapping[tuple[str, str], list[str]],
        layouts: Layouts,
        update: Array,
        parts: Integers,
        allowed: Flags,
    ) -> Spent:
        """Seconds where each rank goes through its samples in so many parts, by the cheapest algorithms."""
        import numpy as np

        count = len(parts)
        tables = {name: np.zeros((len(layouts), count)) for name in ("forward", "backward", "weights")}
        tables["forward"][:, ~allowed] = np.inf
        workspace = np.zeros((len(layouts), count))
        saved = {name: np.zeros((len(layouts), count)) for name in ("forward", "backward")}
        for each in kind.passes:
            into = {"forward": "forward", "loss": "forward", "metric": "forward", "dw": "weights"}
            stage, whole = each.node.stage, parts == 1  # calls of parts are not fused
            table = tables[into.get(stage, "backward")]
            shapes = Shapes(
                tuple(in_parts(local[role], parts) for role in each.inputs),
                tuple(in_parts(local[role], parts) for role in each.outputs),
                dict(each.node.attrs),
            )
            known: dict[tuple[str, str], Array] = {}
            called = self._called(kind, local, (*each.inputs, *each.outputs))
            for at, layout in enumerate(layouts):
                names = legal[stage, layout]
                for name in names:
                    key = (name, self._own(name, layout))
                    if key not in known:
                        known[key] = parts * self._seconds(kind, stage, shapes, name, layout, count) + called
                found = np.array([known[name, self._own(name, layout)] for name in names])
                less = np.zeros_like(found)
                if stage in kind.chains:
                    for at_name, name in enumerate(names):
                        less[at_name] = whole * self.saving(kind, each, local, name, layout, found[at_name])
                    found = found - less
                best = found.argmin(axis=0)
                every, taken = self.rules.workspace is not None, set(np.unique(best).tolist())
                scratch = np.array(
                    [
                        scratch_bytes(kind.operator, stage, shapes, name, layout, count)
                        if every or i in taken
                        else np.zeros(count)
                        for i, name in enumerate(names)
                    ]
                )
                if self.rules.workspace is not None:
                    found = np.where(scratch > self.rules.workspace, np.inf, found)
                    best = found.argmin(axis=0)
                table[at] += np.take_along_axis(found, best[None], axis=0)[0]
                if stage in kind.chains:
                    saved[into.get(stage, "backward")][at] += np.take_along_axis(less, best[None], axis=0)[0]
                workspace[at] = np.maximum(workspace[at], np.take_along_axis(scratch, best[None], axis=0)[0])
        impossible = np.isinf(tables["forward"] + tables["backward"] + tables["weights"])
        for name, table in tables.items():
            table[impossible] = np.inf if name == "forward" else 0.0
        return Spent(
            layouts,
            tables["forward"],
            tables["backward"],
            tables["weights"],
            update,
            workspace,
            np.tile(parts, (len(layouts), 1)),
            saved["forward"],
            saved["backward"],
        )

    def saving(
        self,
        kind: OpKind,
        each: Operands,
        local: Mapping[str, TensorType],
        algorithm: str,
        layout: str,
        taken: Array | float,
    ) -> Array:
        """Seconds that one kernel saves which does what is behind a pass as well; 0 where there is no such kernel."""
        import numpy as np

        chain = kind.chains.get(each.node.stage)
        if chain is None or not self.fused or not chain.known(algorithm, layout, self.device.kernels == "c"):
            return np.zeros(())
        return chain.saving(local[each.outputs[0]], layout, taken, self.device, self.profile)

    def _called(self, kind: OpKind, local: Mapping[str, TensorType], roles: Iterable[str]) -> Array | float:
        """Seconds for which Python looks up what a call of an op is given."""
        if kind.operator.view or self.profile is None or self.profile.own is None:
            return 0.0
        return call_work(sum(local[role].bytes for role in dict.fromkeys(roles)), self.profile)

    def least_scratch(self, kind: OpKind) -> float:
        """Bytes of workspace that an op needs at least: one sample at a time, cut and computed as needs least."""
        local, legal = {role: self._local([kind], role) for role in kind.types}, self.legal(kind)
        parts = _samples(local, len(self.rows[kind.indexing.axes]))
        cut = {role: in_parts(type_, parts) for role, type_ in local.items()}
        needed = dict.fromkeys(kind.layouts, 0.0)
        for each, layout in product(kind.passes, kind.layouts):
            ins, outs = (tuple(cut[role] for role in roles) for roles in (each.inputs, each.outputs))
            shapes, stage = Shapes(ins, outs, dict(each.node.attrs)), each.node.stage
            names = legal[stage, layout]
            sizes = (scratch_bytes(kind.operator, stage, shapes, name, layout, len(parts)).min() for name in names)
            needed[layout] = max(needed[layout], min(map(float, sizes), default=inf))
        return min(needed.values())

    def _own(self, algorithm: str, layout: str) -> str:
        """The layout, where it matters to an algorithm."""
        return layout if by_layout(algorithm, self.device, self.profile) else ""

    def _seconds(self, kind: OpKind, stage: str, shapes: Shapes, algorithm: str, layout: str, count: int) -> Array:
        import numpy as np

        made = seconds_many(kind.operator, stage, shapes, algorithm, layout, self.device, self.profile)
        return np.broadcast_to(made, (count,))

    def legal(self, kind: OpKind) -> dict[tuple[str, str], list[str]]:
        """(pass, layout) -> the algorithms that the rules leave, but for workspaces, which depend on the parts."""
        if kind.index not in self.known_legal:
            operation = Operation(kind.example, tuple(each.node for each in kind.passes), kind.layouts)
            legal: dict[tuple[str, str], list[str]] = {
                (each.node.stage, layout): [] for each in kind.passes for layout in kind.layouts
            }
            for candidate in candidates(self.graph, operation, self.rules.roomy, self.graph.batch):
                if candidate.excluded is None:
                    legal[candidate.node.stage, candidate.layout].append(candidate.algorithm)
            self.known_legal[kind.index] = legal
        return self.known_legal[kind.index]

    def _local(self, kinds: Sequence[OpKind], role: str) -> TensorType:
        """A tensor on the rank with most of it, for all rows of kinds that are alike."""
        import numpy as np

        found = [self.extents(kind, role) for kind in kinds]
        type_, counts = kinds[0].types[role], [len(self.rows[kind.indexing.axes]) for kind in kinds]

        def joined(name: str) -> int | Integers:
            extents = [each[name] for each in found]
            if all(isinstance(extent, int) and extent == extents[0] for extent in extents):
                return extents[0]
            return np.concatenate([np.broadcast_to(e, (n,)) for e, n in zip(extents, counts, strict=True)])

        return TensorType(type_.dtype, tuple(Axis(axis.name, joined(axis.name)) for axis in type_.axes))  # type: ignore[arg-type]

    @cached_property
    def layouts(self) -> Layouts:
        """Those that some kind of op may have."""
        kinds = (kind for kind in self.network.kinds if isinstance(kind, OpKind))
        return tuple(dict.fromkeys(layout for kind in kinds for layout in self.of(kind).layouts if layout))

    @cached_property
    def conversion(self) -> tuple[float, float]:
        """A copy into another layout: (seconds of any, seconds for each byte)."""
        many = 2**20
        fixed, full = (conversion_seconds(tensor("f32", n=count), self.device, self.profile) for count in (0, many))
        return fixed + call_work(4 * many, self.profile), (full - fixed) / (4 * many)

    def call(self) -> float:
        """Seconds of one call besides its work."""
        return overhead(self.device, self.profile)


def _samples(local: Mapping[str, TensorType], count: int) -> Integers:
    """[row]: samples of a microbatch on the rank with most of an op; 1 where it has none."""
    import numpy as np

    extent = next((type_.extent(BATCH) for type_ in local.values() if type_.batched), 1)
    return np.broadcast_to(np.asarray(extent, dtype=np.int64), (count,))


def _of_rows(type_: TensorType, rows: Integers) -> TensorType:
    """A type of many rows for some of them."""
    axes = ((axis.name, axis.extent) for axis in type_.axes)
    return TensorType(type_.dtype, tuple(Axis(name, e if isinstance(e, int) else e[rows]) for name, e in axes))


def _stages(kind: OpKind) -> tuple[str, ...]:
    return tuple(each.node.stage for each in kind.passes)
