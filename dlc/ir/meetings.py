"""Where classes of ranks meet, and how far each of them has come."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from typing import NamedTuple

from dlc.ir.program import Collective, Copy, Instruction, Receive, Send
from dlc.ir.ranks import RankClass
from dlc.ir.stretches import History, Part

TICKS = 2.0**44
"""Ticks in a second: times are whole numbers of them, so that up to 512 s a sum does not depend on its order."""

Meets = Collective | Send | Receive | Copy
"""What takes part in a meeting; a copy is one of a class with itself."""


def ticked(seconds: float) -> float:
    """Seconds rounded to whole ticks: 6e-14 s, far less than any price is worth."""
    return round(seconds * TICKS) / TICKS


class Channel(NamedTuple):
    """Where classes meet: a group and the classes in it; of messages (sender, receiver) and how far they go."""

    group: str
    classes: tuple[int, ...]
    offset: int = 0

    def other(self, index: int) -> int:
        """Whom a class sends messages to or receives them from."""
        return self.classes[1] if index == self.classes[0] else self.classes[0]

    def stream(self, index: int) -> str:
        """What a class calls it."""
        if not self.offset:
            return self.group
        sends = index == self.classes[0]
        return f"{self.group} to {self.offset:+d}" if sends else f"{self.group} from {-self.offset:+d}"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A class that has come to a meeting, with the instruction that brought it."""

    instruction: Instruction
    time: float
    step: int
    samples: int


@dataclass(slots=True, eq=False)
class Meeting:
    """A collective, a transfer of one message or a copy: complete when all its classes have arrived."""

    channel: Channel
    size: int
    arrivals: dict[int, Arrival] = field(default_factory=dict)
    ready: float = 0.0
    seconds: float = 0.0

    @property
    def complete(self) -> bool:
        """Whether all its classes have arrived."""
        return len(self.arrivals) == self.size


@dataclass(slots=True, eq=False)
class Actor:
    """A class of ranks on its way through the schedule."""

    index: int
    ranks: RankClass
    samples: int = 0  # of the row at hand
    time: float = 0.0
    step: int = -1
    parts: Iterator[Part] = iter(())
    history: History = field(default_factory=History)
    rows: list[float] = field(default_factory=list)
    exposed: float = 0.0
    joined: Counter[tuple[Channel, bool]] = field(default_factory=Counter)
    begun: dict[str, deque[Meeting]] = field(default_factory=dict)  # non-blocking ones of a name, oldest first
    pending: dict[Channel, deque[Meeting]] = field(default_factory=dict)  # joined and not over, in order
    flying: int = 0  # how many are pending
    over: dict[Channel, float] = field(default_factory=dict)  # when its last meeting was over
    idle: list[tuple[float, float]] = field(default_factory=list)  # when it waited while others were pending, ascending
    waits: tuple[Meeting, Instruction] | None = None
    ended: bool = False

    def finish(self, start: float, seconds: float, overlap: float) -> float:
        """When communication that begins at `start` is over, for a rank that waits from now on."""
        left = seconds
        for begin, end in self._idle_after(start):
            hidden = ticked(overlap * max(0.0, begin - start))
            if hidden >= left:
                return min(begin, start + ticked(left / overlap)) if left else start
            left -= hidden
            start = max(start, begin)
            if end - start >= left:
                return start + left
            left -= end - start
            start = end
        return start + left

    def go_on(self, time: float) -> None:
        """Wait until then."""
        if time > self.time:
            if self.flying:
                self.idle.append((self.time, time))
            self.time = time
        if not self.flying:
            self.idle.clear()

    def _idle_after(self, start: float) -> Iterator[tuple[float, float]]:
        for i in range(bisect_right(self.idle, start, key=itemgetter(1)), len(self.idle)):
            yield self.idle[i]
        yield self.time, float("inf")
