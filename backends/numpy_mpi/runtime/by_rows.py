"""A window's results in two goes: rows that read none of other ranks while these are on their way, and the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import device
from .collectives import Array
from .exchange import Known, Pool
from .spec import Grid, Halo, shard

Pads = Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows: what a kernel reads and writes for them, by the place among its arguments.

    `window` is the number of the window's axis, `beyond` how many rows its windows read before and behind the whole.
    """

    read: Mapping[int, Array]
    written: Mapping[int, Array]
    window: int
    beyond: tuple[int, int]

    def call(
        self, kernel: Callable[..., None], arguments: Sequence[Any], attrs: Mapping[str, Any], pads: Pads, pool: Pool
    ) -> None:
        """The kernel for these rows. Results that it could not write where they belong are put there behind it.

        Of the arguments a list has room for a padded image, which kernels take where there are pads.
        """
        told, given = dict(attrs), list[Any]()
        if pads:
            before, behind = pads[self.window]
            cut = (min(before, self.beyond[0]), min(behind, self.beyond[1]))
            told["pad"] = (*pads[: self.window], cut, *pads[self.window + 1 :])
        rooms = {at: pool.take(view.nbytes) for at, view in self.written.items() if not _lies_well(view, attrs)}
        made = {at: _shaped(room, self.written[at]) for at, room in rooms.items()}
        for at, argument in enumerate(arguments):
            if isinstance(argument, list):
                given += argument if any(map(any, told["pad"])) else []
            else:
                given.append(self.read.get(at, made.get(at, self.written.get(at, argument))))
        kernel(*given, **told)
        for at, room in rooms.items():
            device.copy(self.written[at], made[at])
            pool.give(room)


def rows_of(grid: Grid, rank: int, known: Mapping[int, Known], inner: bool) -> tuple[Rows, ...]:
    """A rank's inner rows, or its first ones and its last, where there are any.

    `known` has those arguments of a kernel that are arrays of a table. One of them has a halo; the last one of this
    counts. Those that are split along the same axis as it is, but have none, are results.
    """
    wide = next(each for each in known.values() if each.spec.halos)
    halo = wide.spec.halos[-1]
    axis = wide.spec.axes[halo.axis]
    part = grid.index(axis.over, rank)
    results, own = shard(halo.results, *part), shard(axis.extent, *part)
    start, stop = halo.inner(own, results, axis.extent)
    runs = ((start, stop),) if inner else ((results[0], start), (stop, results[1]))
    return tuple(_rows(grid, rank, known, halo, run, results[0]) for run in runs if run[0] < run[1])


def _rows(grid: Grid, rank: int, known: Mapping[int, Known], halo: Halo, run: tuple[int, int], begin: int) -> Rows:
    wide = next(each for each in known.values() if each.spec.halos)
    axis, box = wide.spec.axes[halo.axis], grid.box(wide.spec, rank, wide.samples)[halo.axis]
    first, last = halo.reads(*run)
    low = min(max(0, first), axis.extent)
    high = max(low, min(last, axis.extent))
    here = box[0][0] if box else low
    read = {at: _part(each.array, halo.axis, low - here, high - here) for at, each in known.items() if each is wide}
    alike = {at: each.array for at, each in known.items() if _is_split_alike(each, wide, halo.axis)}
    written = {at: _part(array, halo.axis, run[0] - begin, run[1] - begin) for at, array in alike.items()}
    return Rows(read, written, halo.window, (max(0, -first), max(0, last - axis.extent)))


def _is_split_alike(each: Known, wide: Known, at: int) -> bool:
    axes = each.spec.axes
    return not each.spec.halos and len(axes) == len(wide.spec.axes) and axes[at].over == wide.spec.axes[at].over


def _part(array: Array, axis: int, start: int, stop: int) -> Array:
    part: Array = array[(slice(None),) * axis + (slice(start, stop),)]
    return part


def _lies_well(view: Array, attrs: Mapping[str, Any]) -> bool:
    """Whether kernels may write into a view: they take its pixels as one axis."""
    if view.ndim == 4 and attrs.get("layout", "NCHW") != "NCHW":
        return view.flags.c_contiguous
    return view[:1, :1].flags.c_contiguous


def _shaped(room: Array, like: Array) -> Array:
    array: Array = room[: like.nbytes].view(like.dtype).reshape(like.shape)
    return array
