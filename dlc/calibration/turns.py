"""What one thread does, part by part, in passes over all parts.

A machine whose speed changes with what its neighbours do is fast for some seconds and slow for others. A part that is
measured in one go gets the speed of its moment; in passes each part's rounds lie over all the time that there is, and
what each of them took is brought to the speed that the machine had in the median over all of it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from statistics import median

from backends.numpy_mpi.timing import Case, Reading, Timing, Turns, turns_of
from dlc.cost.profile import Usual

LEAST = 2
"""Passes that are made however long they take."""

FREE = 2**32
"""Bytes that are free where the system does not say."""

Watch = Callable[[str], AbstractContextManager[None]]
"""Tells what is being measured."""


@dataclass(slots=True)
class Part:
    """Cases that are measured together, how often in each pass, and what takes their timings."""

    title: str
    cases: Sequence[Case]
    take: Callable[[list[Timing]], None]
    times: int = 1
    turns: list[Turns] = field(default_factory=list)

    def begin(self, opened: ExitStack) -> None:
        """Start the processes."""
        self.turns = [opened.enter_context(each) for each in turns_of(self.cases)]

    def turn(self) -> None:
        """The part's rounds of a pass."""
        for each in self.turns:
            for _ in range(self.times):
                each.turn()

    def end(self, usual: Usual | None) -> None:
        """Hand on what was found, if there is something of all cases."""
        speed = None if usual is None else Reading(usual.products, usual.copies, usual.calls)
        found = [timing for each in self.turns for timing in each.timings(speed)]
        if len(found) == len(self.cases):
            self.take(found)


def passes(
    parts: Sequence[Part],
    rounds: int,
    seconds: float,
    between: Callable[[], None],
    watch: Watch,
    known: Usual | None,
    told: Callable[[Usual | None], None],
) -> None:
    """Make at most so many passes over the parts, for about so many seconds, and `between` two of them something else.

    All figures are brought to how fast the machine is usually, which is `told`: in the median over the passes, or as is
    `known` of other ones. What there is when it is interrupted is handed on; the interrupt too.
    """
    usual, together = known, list(_together(parts))
    for each in together:
        end = time.monotonic() + seconds / len(together)
        try:
            with ExitStack() as opened:
                for part in each:
                    with watch(f"preparing {part.title}"):
                        part.begin(opened)
                for made in range(rounds):
                    if made >= LEAST and time.monotonic() > end:
                        break
                    for part in each:
                        with watch(f"{part.title}, pass {made + 1}"):
                            part.turn()
                    if each is together[0]:
                        between()
        finally:
            usual = usual or usual_of(
                [r for part in each for t in part.turns for one in t.rounds for r in one.readings]
            )
            told(usual)
            for part in each:
                part.end(usual)


def usual_of(readings: Sequence[Reading]) -> Usual | None:
    """The medians of readings, and how far the products lie apart: half of the distance between the quartiles."""
    if not readings:
        return None
    products, copies, calls = (sorted(column) for column in zip(*readings, strict=True))
    quarter, middle = len(products) // 4, median(products)
    spread = (products[-1 - quarter] - products[quarter]) / (2 * middle)
    return Usual(middle, median(copies), median(calls), spread)


def _together(parts: Sequence[Part]) -> Iterator[list[Part]]:
    """Parts in a row whose arrays half of the free memory has room for."""
    room, held, size = _free() / 2, list[Part](), 0
    for part in parts:
        own = sum(t.bytes for case in part.cases for t in (*case.shapes.inputs, *case.shapes.outputs))
        if held and size + own > room:
            yield held
            held, size = [], 0
        held.append(part)
        size += own
    if held:
        yield held


def _free() -> int:
    """Bytes of memory that nobody uses."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return FREE
