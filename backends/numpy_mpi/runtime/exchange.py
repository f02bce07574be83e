"""One exchange for every move of a tensor from some parts on the ranks of a group to others.

Each rank sends to each other one what both its source and the other's target hold, all arrays of a move in one message.
Round k goes to the rank k places on and comes from the one k places back, so that no rank is swamped; halos, which are
for neighbours as a rule, go all `at_once`: who begins one and computes meanwhile would not start a second round. Where
targets are sums, a rank adds what comes to its own in the order of the rounds: ranks at the same place of groups that
hold the same get the same bits.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from . import device
from .collectives import Array, Step, Steps
from .spec import Box, Grid, Spec, blocks, extents, view

_ALIGNMENT = 16  # bytes: pieces of a message begin at multiples


class Known(NamedTuple):
    """An array, and what it holds: its spec, of a microbatch with so many samples in all."""

    name: str
    array: Array
    spec: Spec
    samples: int


class Pool:
    """Flat memory for messages, taken and given back; after the first steps nothing new is allocated."""

    def __init__(self, zeros: Callable[[int, npt.DTypeLike], Array] = device.zeros) -> None:
        self._zeros = zeros
        self._free: list[tuple[int, int, Array]] = []
        self.bytes = 0

    def take(self, size: int) -> Array:
        """At least so many bytes: the smallest piece that is large enough."""
        for at, (free, _, memory) in enumerate(self._free):
            if free >= size:
                del self._free[at]
                return memory
        self.bytes += size
        return self._zeros(size, np.uint8)

    def give(self, memory: Array) -> None:
        """It may be taken again."""
        insort(self._free, (memory.size, id(memory), memory))


@dataclass(frozen=True, slots=True)
class Parcel:
    """Blocks of arrays that travel as one message; `direct` where the one block lies in one piece."""

    blocks: tuple[Array, ...]
    size: int
    direct: Array | None

    @staticmethod
    def of(found: Iterable[Array], copied: bool = False) -> Parcel:
        """The message of these blocks; `copied`: it needs room of its own."""
        pieces = tuple(found)
        size = max((stop for _, stop in _places(pieces)), default=0)
        alone = len(pieces) == 1 and not copied and pieces[0].flags.c_contiguous
        return Parcel(pieces, size, pieces[0] if alone else None)

    def views(self, memory: Array) -> Iterator[tuple[Array, Array]]:
        """(block, its place in the memory of a message) of each."""
        for block, (start, stop) in zip(self.blocks, _places(self.blocks), strict=True):
            yield block, memory[start:stop].view(block.dtype).reshape(block.shape)

    def packed(self, pool: Pool) -> tuple[Array | None, Array | None]:
        """(what to send, memory to give back behind that)."""
        if not self.size or self.direct is not None:
            return self.direct, None
        memory = pool.take(self.size)
        for block, place in self.views(memory):
            device.copy(place, block)
        return memory[: self.size], memory

    def room(self, pool: Pool) -> tuple[Array | None, Array | None]:
        """(where to receive, memory to unpack and give back)."""
        if not self.size or self.direct is not None:
            return self.direct, None
        memory = pool.take(self.size)
        return memory[: self.size], memory

    def unpack(self, memory: Array, sums: bool) -> None:
        """What was received to its blocks, or added to them."""
        for block, place in self.views(memory):
            if sums:
                np.add(block, place, out=block)
            else:
                device.copy(block, place)


def _places(blocks: Iterable[Array]) -> Iterator[tuple[int, int]]:
    """(start, stop) in bytes of each block of a message."""
    stop = 0
    for block in blocks:
        start = -(-stop // _ALIGNMENT) * _ALIGNMENT
        stop = start + block.nbytes
        yield start, stop


class _Round(NamedTuple):
    sent: Parcel
    to: int
    received: Parcel
    source: int


@dataclass(frozen=True, slots=True)
class Exchange:
    """What one rank does in a move: copies of its own, and a message to and from each other rank."""

    cleared: tuple[Array, ...]
    own: tuple[tuple[Array, Array], ...]
    rounds: tuple[_Round, ...]
    sums: bool
    at_once: bool = False

    def steps(self, pool: Pool) -> Steps:
        """The move."""
        for target in self.cleared:
            target.fill(0)
        for origin, target in self.own:
            device.copy(target, origin)
        for rounds in (self.rounds,) if self.at_once and self.rounds else ((each,) for each in self.rounds):
            packed = [each.sent.packed(pool) for each in rounds]
            rooms = [each.received.room(pool) for each in rounds]
            along = zip(packed, rooms, rounds, strict=True)
            first, *more = [(given, r.to, room, r.source) for (given, _), (room, _), r in along]
            yield Step(*first, more=(*[Step(*each) for each in more],))
            for (_, taken), each in zip(rooms, rounds, strict=True):
                if taken is not None:
                    each.received.unpack(taken, self.sums)
            for _, memory in (*packed, *rooms):
                if memory is not None:
                    pool.give(memory)


def planned(
    grid: Grid,
    members: Sequence[int],
    me: int,
    pairs: Sequence[tuple[Known, Known]],
    sums: bool = False,
    parts: int = 1,
    at_once: bool = False,
) -> Exchange:
    """The exchange of rank `members[me]` of a group from sources to targets.

    ValueError where an array has not the shape that its spec says, where what a target wants is held by nobody or, of
    sums, by fewer than `parts` ranks, or where what several ranks want is a sum.
    """
    own: list[tuple[Array, Array]] = []
    sent: dict[int, list[Array]] = {}
    received: dict[int, list[Array]] = {}
    cleared: list[Array] = []
    for source, target in pairs:
        have = [grid.box(source.spec, rank, source.samples) for rank in members]
        want = [grid.box(target.spec, rank, target.samples) for rank in members]
        for known, box in ((source, have[me]), (target, want[me])):
            _require_shape(known, box)
        if sums:
            _require_apart(target, want, me)
        gives = _all_give if sums else _Holders(have).gives
        found, kept = 0, 0
        for other in range(len(members)):
            if gives(other, me):
                taken = [target.array[view(place)] for _, place in blocks(have[other], want[me])]
                found += sum(block.size for block in taken)
                received.setdefault(other, []).extend(taken if other != me else ())
            if gives(me, other):
                given = [source.array[view(place)] for place, _ in blocks(have[me], want[other])]
                sent.setdefault(other, []).extend(given if other != me else ())
        if gives(me, me):
            for here, there in blocks(have[me], want[me]):
                kept += target.array[view(there)].size
                if not _same(source.array[view(here)], target.array[view(there)]):
                    own.append((source.array[view(here)], target.array[view(there)]))
        if sums and kept < target.array.size:
            cleared.append(target.array)
        if found < parts * target.array.size:
            raise ValueError(f"the ranks do not hold all of `{target.name}`, which is to be made of `{source.name}`")
    rounds = tuple(_rounds(len(members), me, sent, received, sums))
    return Exchange(tuple(cleared), tuple(own), rounds, sums, at_once)


def _rounds(
    size: int, me: int, sent: dict[int, list[Array]], received: dict[int, list[Array]], sums: bool
) -> Iterator[_Round]:
    for distance in range(1, size):
        to, source = (me + distance) % size, (me - distance) % size
        given, taken = Parcel.of(sent.get(to, ())), Parcel.of(received.get(source, ()), copied=sums)
        if given.size or taken.size:
            yield _Round(given, to, taken, source)


class _Holders:
    """Who gives what several ranks hold alike: whoever wants it has it itself, or gets it from one of them."""

    def __init__(self, have: Sequence[Box]) -> None:
        alike: dict[Box, list[int]] = {}
        for at, box in enumerate(have):
            alike.setdefault(box, []).append(at)
        self._alike = [alike[box] for box in have]

    def gives(self, source: int, target: int) -> bool:
        """Whether one rank's part goes to the other one."""
        alike = self._alike[source]
        return source == (target if target in alike else alike[target % len(alike)])


def _all_give(source: int, target: int) -> bool:
    return True


def _same(source: Array, target: Array) -> bool:
    """Whether both are the same elements of the same memory."""
    return device.pointer(source) == device.pointer(target) and source.strides == target.strides


def _require_shape(known: Known, box: Box) -> None:
    if known.array.shape != extents(box):
        raise ValueError(f"`{known.name}` has shape {known.array.shape}, by its spec it has {extents(box)}")


def _require_apart(target: Known, want: Sequence[Box], me: int) -> None:
    for other, box in enumerate(want):
        if other != me and any(blocks(want[me], box)):
            raise ValueError(f"several ranks want the same sums in `{target.name}`")
