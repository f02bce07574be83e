"""Groups of samples that batch norm goes over, how their values lie in memory (bn.cu), and launches for one of them."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any, NamedTuple

from .cu_sums import columns_of_blocks, parts_of_rows, parts_of_values
from .launch import MOST_COUNTED, Array, Launch, Room, Steps, each, reciprocal, rows


class Group(NamedTuple):
    """The samples of a group that are at hand, and how they lie in memory (bn.cu)."""

    row: int  # of the group in tables
    first: bool  # whether its first sample is at hand
    adds: bool  # whether the first sample of one before it is, too
    share: float  # of the pixels of whole images that is at hand
    values: int  # of a channel in the whole group
    size: int  # elements at hand
    samples: slice
    inmost: bool  # samples lie along the last axis
    runs: tuple[int, ...]  # () for rows [row, channel]
    places: tuple[int, ...]
    channels: int

    def of(self, x: Array) -> Array:
        """The group's part of an array like x, from its first element on."""
        return x[..., self.samples] if self.inmost else x[self.samples]

    def sums(self, kernel: str, width: int, *arrays: Array) -> tuple[Steps, Room, int]:
        """The launch that sums up parts into [part, channel] of so many numbers each, its result and the parts."""
        values = self.size // max(1, self.channels)
        if self.runs:
            columns, parts = self.channels, parts_of_values(self.channels, values)
        else:
            columns, parts = columns_of_blocks(self.channels), parts_of_rows(self.channels, values)
        room = Room(width * parts * self.channels)
        numbers = self.runs or (values, self.channels)
        name = kernel if self.runs else f"{kernel}_rows"
        return (Launch((*arrays, room, *numbers), (columns, parts), kernel=name),), room, parts

    def finish(self, kernel: str, *arguments: Any) -> Steps:
        """A warp a channel."""
        return rows(self.channels, *arguments, kernel=kernel, threads=32)

    def each_channel(self, kernel: str, *arrays: Array | Room, numbers: tuple[float, ...]) -> Steps:
        """A thread a channel."""
        return each(self.channels, *arrays, numbers=numbers, kernel=kernel)

    def each_value(self, kernel: str, *arrays: Array | Room | None, more: float) -> Steps:
        """A thread an element."""
        return each(self.size, *arrays, numbers=(*self.places, more), kernel=kernel)


def shape_of(x: Array, layout: str) -> tuple[int, int, int]:
    """(samples, channels, pixels)."""
    if x.ndim == 4 and layout == "NHWC":
        return x.shape[0], x.shape[3], x.shape[1] * x.shape[2]
    if x.ndim == 4 and layout == "CHWN":
        return x.shape[3], x.shape[0], x.shape[1] * x.shape[2]
    return x.shape[0], x.shape[1], prod(x.shape[2:])


def channels_of(x: Array, layout: str = "NCHW", **_: object) -> int:
    """How many there are."""
    return shape_of(x, layout)[1]


def groups_of(
    x: Array,
    group: int,
    count: int,
    position: int = 0,
    first: int = 0,
    pixels: int | None = None,
    layout: str = "NCHW",
    **_: object,
) -> list[Group] | None:
    """The groups that the samples of x belong to, in order; None where there are too many elements to be counted."""
    return list(_groups(x, group, count, position, first, pixels, layout)) if x.size < MOST_COUNTED else None


def _groups(
    x: Array, group: int, count: int, position: int, first: int, pixels: int | None, layout: str
) -> Iterator[Group]:
    samples, channels, here = shape_of(x, layout)
    start, end, inmost, adds = position, position + samples, x.ndim == 4 and layout == "CHWN", False
    while start < end:
        row = (start - first) // group
        begin = first + row * group
        stop = min(end, begin + group)
        size = (stop - start) * channels * here
        runs: tuple[int, ...] = ()
        inner, length, whole = 1, max(1, size), 0
        if inmost:
            runs = ((stop - start) * here, stop - start, samples, here * samples, reciprocal(stop - start))
            inner, length, whole = here * (stop - start), stop - start, samples
        elif layout != "NHWC" or x.ndim != 4:
            runs = ((stop - start) * here, here, channels * here, here, reciprocal(here)) if here > 1 else ()
            inner = here
        places = (length, whole, reciprocal(length), channels, reciprocal(inner), reciprocal(channels))
        part = slice(start - position, stop - position)
        values = max(1, min(group, count - begin) * (here if pixels is None else pixels))
        share = 1.0 if pixels is None else here / pixels
        yield Group(row, start == begin, adds, share, values, size, part, inmost, runs, places, channels)
        start, adds = stop, adds or start == begin


def zeros(groups: list[Group], channels: int, *tables: Array) -> Steps:
    """The rows of tables that no group at hand fills."""
    filled = {group.row for group in groups}
    empty = [table[row] for table in tables for row in range(len(table)) if row not in filled]
    return tuple(step for table in empty for step in each(channels, table, kernel="bn_forward_zero"))


def zero_unless_begun(groups: list[Group], *sums: Array) -> Steps:
    """Zeros where no group begins here that would write."""
    if any(group.first for group in groups):
        return ()
    return tuple(step for array in sums for step in each(array.size, array, kernel="bn_forward_zero"))
