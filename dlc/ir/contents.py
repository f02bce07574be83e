"""What the bytes of a storage hold: which content, of which microbatch, and whether it is summed over ranks."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from typing import NamedTuple

from dlc.ir.accesses import Use


class Held(NamedTuple):
    """What bytes hold: a content, of which microbatch where each slot has a copy, and whether summed over ranks."""

    content: str
    microbatch: int
    summed: bool = False

    def alike(self, other: Held) -> bool:
        """Whether both are of one content and microbatch."""
        return self.content == other.content and self.microbatch == other.microbatch


@dataclass(slots=True)
class Track:
    """One copy of a storage: pieces of its bytes with what they hold, in order."""

    starts: list[int] = field(default_factory=list)
    pieces: list[tuple[int, int, Held]] = field(default_factory=list)  # (start, stop, what)

    def put(self, start: int, stop: int, held: Held | None, in_place: bool = False) -> None:
        """These bytes hold this from now on, or nothing; `in_place` they stay summed where they held it before."""
        if start >= stop:
            return
        first = bisect_left(self.starts, start)
        if held is not None and self.pieces[first : first + 1] and self.pieces[first][:2] == (start, stop):
            if not (in_place and self.pieces[first][2].alike(held)):
                self.pieces[first] = (start, stop, held)
            return
        if first and self.pieces[first - 1][1] >= start:
            first -= 1
        last = bisect_right(self.starts, stop, first)
        near, made = self.pieces[first:last], list[tuple[int, int, Held]]()
        for begin, end, what in near:
            _append(made, begin, min(end, start), what)
        at = start
        for begin, end, what in near if in_place and held is not None else ():
            if held is not None and what.alike(held) and begin < stop and end > at:
                _append(made, at, begin, held)
                _append(made, max(begin, at), min(end, stop), what)
                at = min(end, stop)
        if held is not None:
            _append(made, at, stop, held)
        for begin, end, what in near:
            _append(made, max(begin, stop), end, what)
        self.starts[first:last] = [begin for begin, _, _ in made]
        self.pieces[first:last] = made

    def at(self, use: Use) -> tuple[Held | None, bool]:
        """What a buffer's first byte holds, and whether all its bytes hold that; summed only if they all are."""
        index = bisect_right(self.starts, use.start) - 1
        if index < 0 or self.pieces[index][1] <= use.start:
            return None, use.start >= use.stop
        _, reached, held = self.pieces[index]
        while reached < use.stop and index + 1 < len(self.pieces):
            index += 1
            begin, end, what = self.pieces[index]
            if begin > reached or not what.alike(held):
                break
            reached, held = end, held if what.summed else what
        return held, reached >= use.stop


def _append(pieces: list[tuple[int, int, Held]], start: int, stop: int, held: Held) -> None:
    """A piece more, joined to the last one where that holds the same."""
    if start >= stop:
        return
    if pieces and pieces[-1][1] == start and pieces[-1][2] == held:
        pieces[-1] = (pieces[-1][0], stop, held)
    else:
        pieces.append((start, stop, held))
