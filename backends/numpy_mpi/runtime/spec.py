"""Which part of a tensor each rank of a mesh holds, as specs such as "N/data 3*64/model 7" say.

A spec lists the axes of an array in the order of memory. An axis is

* `64`: an extent; `3*64`: three tensors of 64 one behind the other;
* `N`: the samples of a microbatch; `N:8`: one row for every 8 of them;

and, behind slashes, what splits it: `64/model`, or `64/data+model` by both, the major one first. Shards are
consecutive, their extents differ by at most one, the larger ones come first. Of stacked tensors a rank has its shard of
each. The cut of samples is that of a full microbatch; of fewer samples each rank has what its part has of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from math import prod
from typing import Any

Runs = tuple[tuple[int, int], ...]
"""(start, stop) of the indices that a rank holds of an axis, in order, none of them empty or beside the next."""

Box = tuple[Runs, ...]
"""The indices of each axis."""

Shape = tuple[int, ...]

N = -1
"""Stands in a shape for the samples of a microbatch."""


@dataclass(frozen=True, slots=True)
class Halo:
    """The rows of an axis (a number, in the order of memory) that a window's results read, more or other than a shard.

    A rank has of the axis what result rows a to b - 1 read, its shard of `results`: rows a·stride/step - before to
    (b/step - 1)·stride + after, as far as there are any. `window` is the number of the window's axis.
    """

    axis: int
    results: int
    before: int
    after: int
    stride: int = 1
    step: int = 1
    window: int = 0

    def reads(self, start: int, stop: int) -> tuple[int, int]:
        """The first row that result rows start … stop - 1 read, and the one behind the last: not clipped."""
        first, last = start // self.step * self.stride, (stop // self.step - 1) * self.stride
        return first - self.before, last + self.after + 1

    def inner(self, own: tuple[int, int], results: tuple[int, int], extent: int) -> tuple[int, int]:
        """(start, stop) of those of a rank's result rows that read just its own rows of an axis of this extent."""
        start, stop = results
        if own[0] > 0:
            start = max(start, -(-(own[0] + self.before) // self.stride) * self.step)
        if own[1] < extent:
            stop = min(stop, ((own[1] - 1 - self.after) // self.stride + 1) * self.step)
        start = min(start, results[1])
        return start, max(start, stop)


@dataclass(frozen=True, slots=True)
class Axis:
    """`count` tensors of `extent`, or, with `per`, a row for every `per` samples; split over mesh axes `over`."""

    extent: int
    count: int = 1
    per: int = 0
    over: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Spec:
    """The axes of an array in the order of memory, and the halos that it has."""

    axes: tuple[Axis, ...]
    halos: tuple[Halo, ...] = ()

    @property
    def batch(self) -> int | None:
        """The number of the axis of samples."""
        return next((at for at, axis in enumerate(self.axes) if axis.per == 1), None)


def spec_of(shape: str | Shape, halo: Halo | tuple[Halo, ...] = ()) -> Spec:
    """Reads a spec; a tuple of extents, N among them, is split by nothing. ValueError where it cannot be read."""
    found = parse(shape) if isinstance(shape, str) else Spec(tuple(map(_axis_of_extent, shape)))
    halos = (halo,) if isinstance(halo, Halo) else halo
    return replace(found, halos=halos) if halos else found


@lru_cache(maxsize=4096)
def parse(text: str) -> Spec:
    """Reads a spec's text."""
    return Spec(tuple(map(_axis, text.split())))


def _axis_of_extent(extent: int) -> Axis:
    return Axis(0, per=1) if extent == N else Axis(extent)


def _axis(text: str) -> Axis:
    extent, _, split = text.partition("/")
    over = tuple(split.split("+")) if split else ()
    try:
        if extent.startswith("N"):
            return Axis(0, per=int(extent[2:] or 1), over=over)
        count, star, each = extent.rpartition("*")
        return Axis(int(each), int(count) if star else 1, over=over)
    except ValueError as cause:
        raise ValueError(f"`{text}` is no axis such as `64`, `3*64/model`, `N/data` or `N:8`") from cause


@dataclass(frozen=True)
class Grid:
    """A mesh of ranks, numbered from 0, the last axis fastest; `batch` is the samples of a full microbatch."""

    mesh: tuple[tuple[str, int], ...]
    batch: int

    @property
    def size(self) -> int:
        """How many ranks it has."""
        return prod(extent for _, extent in self.mesh)

    def index(self, over: Iterable[str], rank: int) -> tuple[int, int]:
        """(number of parts, which one is the rank's) of what is split over these axes, the major one first."""
        extents, coordinates = dict(self.mesh), self.coordinates(rank)
        count, index = 1, 0
        for name in over:
            count, index = count * extents[name], index * extents[name] + coordinates[name]
        return count, index

    def coordinates(self, rank: int) -> dict[str, int]:
        """Where a rank stands along each axis."""
        return _coordinates(self.mesh, rank)

    def group(self, axes: Iterable[str], rank: int) -> tuple[int, ...]:
        """The ranks that differ from this one along these axes only, in the order of the mesh."""
        chosen, own = set(axes), self.coordinates(rank)
        ranges = [range(extent) if name in chosen else (own[name],) for name, extent in self.mesh]
        extents = [extent for _, extent in self.mesh]
        return (*[_number(at, extents) for at in product(*ranges)],)

    def box(self, spec: Spec, rank: int, samples: int) -> Box:
        """What a rank holds of an array, of a microbatch with so many samples in all."""
        return _box(self, spec, rank, samples)

    def shape(self, spec: Spec, rank: int, samples: int) -> Shape:
        """The shape of what a rank holds."""
        return extents(self.box(spec, rank, samples))

    def whole(self, spec: Spec, samples: int = 0) -> Shape:
        """The shape of the tensor that all ranks have together."""
        return (*[-(-samples // axis.per) if axis.per else axis.count * axis.extent for axis in spec.axes],)

    def samples(self, over: Iterable[str], rank: int, samples: int) -> tuple[int, int]:
        """(start, stop) of a rank's samples of a microbatch that is split over these axes."""
        start, stop = shard(self.batch, *self.index(over, rank))
        return min(start, samples), min(stop, samples)


@lru_cache(maxsize=65536)
def _coordinates(mesh: tuple[tuple[str, int], ...], rank: int) -> dict[str, int]:
    found = {}
    for name, extent in reversed(mesh):
        rank, found[name] = divmod(rank, extent)
    return found


def _number(at: Iterable[int], extents: Iterable[int]) -> int:
    found = 0
    for place, extent in zip(at, extents, strict=True):
        found = found * extent + place
    return found


@lru_cache(maxsize=65536)
def _box(grid: Grid, spec: Spec, rank: int, samples: int) -> Box:
    found = [_runs(grid, axis, rank, samples) for axis in spec.axes]
    for halo in spec.halos:
        axis = spec.axes[halo.axis]
        first, last = unclipped(grid, spec, halo, rank)
        start = min(max(0, first), axis.extent)
        found[halo.axis] = joined([(start, max(start, min(last, axis.extent)))])
    return tuple(found)


def unclipped(grid: Grid, spec: Spec, halo: Halo, rank: int) -> tuple[int, int]:
    """The rows that a rank's windows would read if the axis had no ends: (first, the one behind the last)."""
    return halo.reads(*shard(halo.results, *grid.index(spec.axes[halo.axis].over, rank)))


def _runs(grid: Grid, axis: Axis, rank: int, samples: int) -> Runs:
    part = grid.index(axis.over, rank)
    if axis.per:
        start, stop = shard(-(-grid.batch // axis.per), *part)
        rows = -(-samples // axis.per)
        return joined([(min(start, rows), min(stop, rows))])
    start, stop = shard(axis.extent, *part)
    return joined((at * axis.extent + start, at * axis.extent + stop) for at in range(axis.count))


def joined(runs: Iterable[tuple[int, int]]) -> Runs:
    """Runs in order without those that are empty; neighbours are one."""
    found: list[tuple[int, int]] = []
    for start, stop in runs:
        if start < stop and found and found[-1][1] == start:
            found[-1] = (found[-1][0], stop)
        elif start < stop:
            found.append((start, stop))
    return tuple(found)


def shard(extent: int, parts: int, index: int) -> tuple[int, int]:
    """(start, stop) of one of so many shards: extents differ by at most one, the larger ones come first."""
    share, more = divmod(extent, parts)
    start = index * share + min(index, more)
    return start, start + share + (index < more)


def extents(box: Box) -> Shape:
    """The shape of a box."""
    return (*[sum(stop - start for start, stop in runs) for runs in box],)


Slices = tuple[slice, ...]


def view(place: Slices) -> Any:
    """As an index, which gives a view of what has no axes, too."""
    return (*place, Ellipsis)


def blocks(held: Box, wanted: Box) -> Iterator[tuple[Slices, Slices]]:
    """Where the common part of two boxes lies in the arrays of the one and of the other, block by block."""
    along = [(*_common(ours, theirs),) for ours, theirs in zip(held, wanted, strict=True)]
    for found in product(*along):
        yield (
            (*[slice(here, here + length) for here, _, length in found],),
            (*[slice(there, there + length) for _, there, length in found],),
        )


def together(held: Runs, wanted: Runs) -> slice | None:
    """Where wanted indices lie among those held, one behind the other; None where they are apart, or not all there."""
    found, length = (*_common(held, wanted),), sum(stop - start for start, stop in wanted)
    first = found[0][0] if found else 0
    whole = sum(each for _, _, each in found) == length and all(here == first + there for here, there, _ in found)
    return slice(first, first + length) if whole else None


def _common(held: Runs, wanted: Runs) -> Iterator[tuple[int, int, int]]:
    """(place in the one, place in the other, length) of each common run."""
    here = 0
    for start, stop in held:
        there = 0
        for first, last in wanted:
            low, high = max(start, first), min(stop, last)
            if low < high:
                yield here + low - start, there + low - first, high - low
            there += last - first
        here += stop - start
