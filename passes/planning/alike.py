"""Kinds of ops that are cut alike, with their prices one beside the other: their tables are made together.

They differ in the extents of their tensors, in what their kernels take and in how wide their windows are, not in the
axes that may be split nor in what is communicated inside them. Networks have hundreds of kinds and a dozen of these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dlc.ir.tensor import BATCH, DTYPE_BYTES
from dlc.ops.indexing import fringe
from passes.planning.network import OpKind
from passes.planning.partitions import signature
from passes.planning.sums import Key

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Flags = NDArray[np.bool_]
    Integers = NDArray[np.int64]

    from passes.planning.prices import Prices


def alike(prices: Prices, kinds: Iterable[OpKind]) -> dict[int, Alike]:
    """The kinds that each kind is cut alike with, itself among them, by its number."""
    found: dict[object, list[OpKind]] = {}
    for kind in kinds:
        found.setdefault(_likeness(prices, kind), []).append(kind)
    return {kind.index: group for group in (Alike(prices, tuple(g)) for g in found.values()) for kind in group.kinds}


def _likeness(prices: Prices, kind: OpKind) -> object:
    at = kind.indexing
    exchanges = tuple((each.stage, each.axes, each.along, each.times, each.group) for each in at.exchanges)
    space = signature(kind), tuple(at.tensors.items()), tuple(at.halos), exchanges, at.whole, at.once
    types = tuple((role, type_.dtype, type_.names) for role, type_ in kind.types.items())
    passes = tuple((each.node.stage, each.outputs) for each in kind.passes)
    return space, types, passes, kind.weights, kind.constants, kind.kept, kind.results, prices.of(kind).layouts


@dataclass(slots=True)
class Alike:
    """Kinds that are cut alike. Tables of theirs have the kinds as their first axis."""

    prices: Prices
    kinds: tuple[OpKind, ...]
    _tables: dict[str, Array] = field(default_factory=dict)
    _reach: dict[tuple[str, int], Integers] = field(default_factory=dict)

    @property
    def example(self) -> OpKind:
        """One of them."""
        return self.kinds[0]

    @property
    def layouts(self) -> tuple[str, ...]:
        """Those that they may have."""
        return self.prices.of(self.example).layouts

    def spent(self, name: str) -> Array:
        """Seconds, or bytes of workspaces, by [kind, layout, row] (`Spent`)."""
        return self._once(name, lambda kind: getattr(self.prices.of(kind), name))

    @property
    def update(self) -> Array:
        """Seconds of all updates by [kind, row]."""
        return self.spent("update")

    @property
    def possible(self) -> Flags:
        """[kind, row]: whether there is a way to compute."""
        import numpy as np

        return np.asarray(np.isfinite(self.spent("forward")).any(axis=1))

    def by_kind(self, found: Mapping[Key, float], role: str) -> Array:
        """[kind]: what is found for a role of it; 0 where nothing is."""
        import numpy as np

        return np.array([found.get((kind.index, role), 0.0) for kind in self.kinds])

    def calls(self) -> Array:
        """[kind]: seconds as `UpdatePrices.calls`."""
        import numpy as np

        return self._once("calls", lambda kind: np.array(self.prices.updates.calls(kind)))

    def saved(self) -> Array:
        """Bytes by [kind, row] as `Prices.saved`."""
        return self._once("saved", self.prices.saved)

    def transient(self) -> Array:
        """Bytes by [kind, row] as `Prices.transient`."""
        return self._once("transient", self.prices.transient)

    def _once(self, name: str, found: Callable[[OpKind], Array]) -> Array:
        import numpy as np

        if name not in self._tables:
            tables = [found(kind) for kind in self.kinds]
            self._tables[name] = tables[0][np.newaxis] if len(tables) == 1 else np.stack(tables)
        return self._tables[name]

    def bytes(self, role: str) -> Array:
        """Bytes of a tensor on the rank with most of it, by [kind, row]."""
        return self._once(f"bytes of {role}", lambda kind: self.prices.bytes(kind, role))

    def row_bytes(self, axis: str) -> Array:
        """Bytes of one row of the first operand along an image axis, on one rank, by [kind, row]."""
        return self._once(f"rows along {axis}", lambda kind: self._row_bytes(kind, axis))

    def _row_bytes(self, kind: OpKind, axis: str) -> Array:
        import numpy as np

        operand = next(iter(kind.types))
        name = kind.types[operand].axes[kind.indexing.tensors[operand].index(axis)].name
        return np.asarray(self.prices.bytes(kind, operand) / self.prices.extents(kind, operand)[name])

    def extents(self, samples: int) -> Integers:
        """[kind, iteration axis]: of a microbatch of so many samples."""
        import numpy as np

        rows = [[min(n, samples) if axis == BATCH else n for axis, n in kind.indexing.extents] for kind in self.kinds]
        return np.array(rows, dtype=np.int64).reshape(len(rows), -1)

    def operand_rows(self, axis: str) -> Integers:
        """[kind]: rows of the first operand along an image axis."""
        import numpy as np

        return np.array([_extent(kind, next(iter(kind.types)), axis) for kind in self.kinds], dtype=np.int64)

    def reach(self, axis: str, count: int) -> Integers:
        """[kind]: how many rows the widest of so many parts reads of a neighbour, before or behind its own."""
        import numpy as np

        if (axis, count) not in self._reach:
            found = [max(_fringe(kind, axis, count)) for kind in self.kinds]
            self._reach[axis, count] = np.array(found, dtype=np.int64)
        return self._reach[axis, count]

    def exchanged(self, number: int) -> Array:
        """[kind]: bytes that one of the sums inside the ops adds up, for the whole batch on one rank."""
        import numpy as np

        value = DTYPE_BYTES[next(iter(self.example.types.values())).dtype]
        return np.array([float(kind.indexing.exchanges[number].elements * value) for kind in self.kinds])


def _extent(kind: OpKind, role: str, axis: str) -> int:
    return kind.types[role].axes[kind.indexing.tensors[role].index(axis)].extent


def _fringe(kind: OpKind, axis: str, count: int) -> tuple[int, int]:
    operand, result = (_extent(kind, role, axis) for role in (next(iter(kind.types)), kind.results[0]))
    return fringe(kind.indexing.halos[axis], operand, result, count)
