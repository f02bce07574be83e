"""A mesh of ranks with named axes, and how a tensor is placed on it.

Ranks are row-major over the axes, major first. A placement says for each mesh axis what it does to a tensor:
the name of the tensor axis that it splits, REPLICATED where every rank along it holds the same, PARTIAL where the
ranks along it hold parts of a sum. Extents differ by at most one: the first n mod p shards have one more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, product
from math import prod

from dlc.ir.tensor import TensorType

REPLICATED, PARTIAL = "", "+"

Placement = tuple[str, ...]
"""One entry for each axis of the mesh: a tensor axis, REPLICATED or PARTIAL."""


@dataclass(frozen=True, slots=True)
class Mesh:
    """Named axes, major first, over the ranks from `first` on."""

    axes: tuple[tuple[str, int], ...]
    first: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The axes' names, major first."""
        return tuple(name for name, _ in self.axes)

    @property
    def extents(self) -> tuple[int, ...]:
        """The axes' extents, major first."""
        return tuple(extent for _, extent in self.axes)

    @property
    def ranks(self) -> int:
        """How many ranks it has."""
        return prod(self.extents)

    def extent(self, name: str) -> int:
        """The extent of an axis; 1 for one that it does not have."""
        return dict(self.axes).get(name, 1)

    def stride(self, name: str) -> int:
        """How many ranks lie between neighbours along an axis."""
        return prod(self.extents[self.names.index(name) + 1 :])

    def coordinate(self, rank: int, name: str) -> int:
        """Where a rank stands along an axis."""
        return (rank - self.first) // self.stride(name) % self.extent(name)

    def groups(self, names: tuple[str, ...]) -> tuple[tuple[int, ...], ...]:
        """The ranks cut into groups that differ along these axes only, each row-major, by their first rank."""
        return _groups(self, names)

    def without(self, name: str) -> Mesh:
        """The mesh of the other axes, for the ranks at the origin of that axis (which is the major one)."""
        return Mesh(tuple(axis for axis in self.axes if axis[0] != name), self.first)


@lru_cache(maxsize=256)
def _groups(mesh: Mesh, names: tuple[str, ...]) -> tuple[tuple[int, ...], ...]:
    strides = {name: mesh.stride(name) for name in mesh.names}

    def offsets(chosen: tuple[str, ...]) -> Iterator[int]:
        for at in product(*(range(mesh.extent(name)) for name in chosen)):
            yield sum(c * strides[name] for c, name in zip(at, chosen, strict=True))

    inside = tuple(offsets(tuple(name for name in mesh.names if name in names)))
    bases = offsets(tuple(name for name in mesh.names if name not in names))
    return tuple(tuple(mesh.first + base + offset for offset in inside) for base in bases)


def parts(placement: Placement, mesh: Mesh, axis: str) -> int:
    """Into how many shards a placement cuts a tensor axis."""
    return prod(extent for at, extent in zip(placement, mesh.extents, strict=True) if at == axis)


def largest(type_: TensorType, placement: Placement, mesh: Mesh) -> TensorType:
    """What the rank with most of a tensor holds of it: each split extent over its shards, rounded up."""
    for axis in dict.fromkeys(at for at in placement if at not in (REPLICATED, PARTIAL)):
        type_ = type_.with_extent(axis, -(-type_.extent(axis) // parts(placement, mesh, axis)))
    return type_


def shards(extent: int, count: int) -> tuple[tuple[int, int], ...]:
    """(start, stop) of each of `count` shards: consecutive, extents differ by at most one, the larger ones first."""
    small, larger = divmod(extent, count)
    return tuple(pairwise(at * small + min(at, larger) for at in range(count + 1)))
