"""How the ranks of a mesh hold a value between them, and what follows from that for exchanges.

For each axis of the mesh a value is split along one of its own axes, whole (the same on all ranks), or in parts of a
sum. Along a split axis a rank may have further rows, those of its neighbours: copies of them, or parts of their sums.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product
from math import prod
from typing import NamedTuple

from dlc.ir.mesh import PARTIAL, REPLICATED, Mesh, Placement, parts, shards
from dlc.ir.tensor import TensorType
from dlc.ops.indexing import Halo

OWN = "|"
"""Begins the placement of what has no axis that runs along a split one, while each rank has made it of its own part:
by-products that only the same rank reads again."""

Rows = tuple[tuple[int, int], ...]
"""(start, stop) of the rows of an axis that each part has."""


LARGEST = "^"
"""Ranks hold candidates, of which the largest is wanted."""


class Fringe(NamedTuple):
    """The rows of an axis that each part has, where these are not just its own; `pending` if they are parts of sums.

    `reads` are these rows as windows see them, with the pads beyond the ends of the axis.
    """

    axis: str
    rows: Rows
    pending: bool
    reads: Rows


class Form(NamedTuple):
    """How the ranks hold a value: its placement, its order in memory ("" without a choice), further rows by axis."""

    placement: Placement
    layout: str = ""
    fringes: tuple[Fringe, ...] = ()

    def along(self, axis: str) -> Fringe | None:
        """The further rows along an axis."""
        return next((fringe for fringe in self.fringes if fringe.axis == axis), None)


@dataclass(slots=True)
class Forms:
    """Small numbers for forms, so that what depends on them is looked up quickly."""

    _numbers: dict[Form, int] = field(default_factory=dict)
    _forms: list[Form] = field(default_factory=list)

    def number(self, form: Form) -> int:
        """The number of a form, the same for equal forms."""
        found = self._numbers.get(form)
        if found is None:
            found = self._numbers[form] = len(self._forms)
            self._forms.append(form)
        return found

    def __getitem__(self, number: int) -> Form:
        return self._forms[number]


@lru_cache(maxsize=4096)
def declared(placement: Placement) -> Placement:
    """The placement that a buffer says for a value held so: each rank's own is not told from the same on all."""
    return tuple(REPLICATED if at.startswith(OWN) else at for at in placement)


def summed(placement: Placement, axes: Sequence[int]) -> Placement:
    """The placement behind a sum (or the largest) over some mesh axes, by their positions."""
    return tuple(REPLICATED if k in axes and at in (PARTIAL, LARGEST) else at for k, at in enumerate(placement))


def place(at: str) -> str:
    """A placement along one mesh axis, in words."""
    if at.startswith(OWN):
        return "each rank's own"
    return {REPLICATED: "whole", PARTIAL: "parts of a sum", LARGEST: "candidates for the largest"}.get(
        at, f"split by {at}"
    )


@lru_cache(maxsize=65536)
def covered(type_: TensorType, mesh: Mesh, source: Placement, target: Placement, over: tuple[int, ...]) -> bool:
    """Whether ranks that differ along the mesh axes `over` have between them what each of them is to have."""
    for axis in type_.axes:
        mine, theirs = (tuple(k for k, at in enumerate(p) if at == axis.name) for p in (source, target))
        if mine and not (mine == theirs and not set(mine).intersection(over)):
            around = tuple(sorted({*mine, *theirs}))
            if not all(_along(axis.extent, mesh.extents, mine, theirs, around, over)):
                return False
    return True


def _along(
    extent: int,
    extents: tuple[int, ...],
    mine: tuple[int, ...],
    theirs: tuple[int, ...],
    around: tuple[int, ...],
    over: tuple[int, ...],
) -> Iterator[bool]:
    """For each place along the mesh axes `around`, whether the rows that it wants are there."""
    for at in product(*(range(extents[k]) for k in around)):
        here = dict(zip(around, at, strict=True))
        start, stop = _shard(extent, extents, theirs, here)
        varied = [k for k in mine if k in over]
        held = sorted(
            _shard(extent, extents, mine, {**here, **dict(zip(varied, other, strict=True))})
            for other in product(*(range(extents[k]) for k in varied))
        )
        for first, last in held:
            if first <= start:
                start = max(start, last)
        yield start >= stop


def _shard(extent: int, extents: tuple[int, ...], axes: tuple[int, ...], at: dict[int, int]) -> tuple[int, int]:
    index = 0
    for k in axes:
        index = index * extents[k] + at[k]
    return shards(extent, prod(extents[k] for k in axes))[index]


def fringe(axis: str, extent: int, halo: Halo, results: int, count: int, pending: bool) -> Fringe:
    """The rows that each of so many parts reads of an axis, for its share of so many results."""
    reads = tuple(halo.reads(*each) for each in shards(results, count))
    return Fringe(axis, tuple((max(0, first), min(extent, last)) for first, last in reads), pending, reads)


def own_rows(type_: TensorType, placement: Placement, mesh: Mesh, axis: str) -> Rows:
    """The rows of an axis that each part has by a placement."""
    return shards(type_.extent(axis), parts(placement, mesh, axis))


def largest(type_: TensorType, form: Form, mesh: Mesh) -> TensorType:
    """What the rank with most of a value holds of it."""
    for axis in dict.fromkeys(at for at in form.placement if at in type_.names):
        further = form.along(axis)
        rows = further.rows if further else own_rows(type_, form.placement, mesh, axis)
        type_ = type_.with_extent(axis, max(stop - start for start, stop in rows))
    return type_
