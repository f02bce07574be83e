"""The search for the best cuts of a pipeline: moves of one cut at a time, then all cuts that no bound excludes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product
from math import comb, inf

from dlc.cost.schedules import MOST_FILLED
from passes.planning.pipeline_bounds import EQUAL, Before, after, longest_path, stage_bound
from passes.planning.pipeline_line import Pipeline

WORK = 40_000
"""Steps, of about a microsecond, that may be spent on improving cuts, and once more on the search through all."""


class Search:
    """The best cuts so far, and how much may still be done. Cuts that exceed the memory less are better than others."""

    def __init__(self, pipe: Pipeline, work: int, known: float = inf) -> None:
        """With `known`, only cuts that take less than it are looked for, and all must fit."""
        self.pipe = pipe
        self.bounds: tuple[int, ...] = ()
        self.excess = inf if known == inf else 0.0
        self.seconds = known
        self.seen: set[tuple[int, ...]] = set()
        cells = pipe.parts * pipe.microbatches
        fitted = 12 if 3 * cells <= MOST_FILLED else 3
        self.cells = cells * {"gpipe": 0, "zero_bubble": fitted}.get(pipe.schedule, 2)
        self.work = self.left = work

    @property
    def found(self) -> bool:
        """Whether there are cuts that fit."""
        return bool(self.bounds) and self.excess == 0

    def price(self, bounds: tuple[int, ...]) -> None:
        """Keep these cuts if they are better; their makespan matters only if they fit."""
        if bounds in self.seen:
            return
        self.seen.add(bounds)
        excess = self.pipe.excess(bounds)
        self.left -= 2 * self.pipe.parts + (0 if excess else self.cells)
        if excess > self.excess:
            return
        longer = self.cells > 0 and longest_path(self.pipe, bounds) >= self.seconds
        seconds = inf if excess or longer else self.pipe.seconds(bounds)
        if excess < self.excess or seconds < self.seconds * (1 - EQUAL):
            self.bounds, self.excess, self.seconds = bounds, excess, seconds

    def hopeless(self, candidates: Sequence[tuple[int, ...]], below: float) -> bool:
        """Whether there is work enough for the first candidate alone, and that takes more than `below`."""
        if below == inf or not self.cells or self.work >= 2 * self.pipe.parts + self.cells or self._few:
            return False
        return self.pipe.excess(candidates[0]) == 0 and longest_path(self.pipe, candidates[0]) > below * (1 + EQUAL)

    def improve(self, candidates: Sequence[tuple[int, ...]]) -> None:
        """Take the best candidate, and move one cut at a time for as long as that helps, in ever smaller steps."""
        for bounds in candidates:
            self.price(bounds)
            if self.left < 0:
                return
        step = 1 << max(0, (self.pipe.line.blocks // self.pipe.parts).bit_length() - 2)
        while self.bounds and self.left > 0:
            before = self.bounds
            for at, move in product(range(1, self.pipe.parts), (-step, step)):
                self._move(at, move)
            if self.bounds == before:
                if step == 1:
                    return
                step //= 2

    def _move(self, at: int, move: int) -> None:
        moved = self.bounds[at] + move
        if self.left > 0 and self.bounds[at - 1] < moved < self.bounds[at + 1]:
            self.price((*self.bounds[:at], moved, *self.bounds[at + 1 :]))

    def exhaust(self) -> bool:
        """Go through all cuts that no bound excludes; False where the work did not suffice, or plainly cannot."""
        if not self._few:
            return False
        self.left = self.work
        self._descend((0,), Before())
        return self.left >= 0

    @property
    def _few(self) -> bool:
        """Whether there are so few cuts that a bound might exclude nearly all."""
        return comb(self.pipe.line.blocks - 1, self.pipe.parts - 1) <= 100 * self.work

    def _descend(self, bounds: tuple[int, ...], before: Before) -> None:
        pipe, part, b = self.pipe, len(bounds) - 1, bounds[-1]
        if part == pipe.parts - 1:
            self.price((*bounds, pipe.line.blocks))
            return
        device = part % pipe.stages
        pairs = list(pairwise(bounds))[device :: pipe.stages]
        low, high = pipe.windows[part] if pipe.windows else (b + 1, pipe.line.blocks)
        for e in range(max(b + 1, low), min(high, pipe.line.blocks - (pipe.parts - part - 1)) + 1):
            self.left -= 8
            if self.left < 0 or pipe.bytes(device, [*pairs, (b, e)]) > pipe.limits[device]:
                return
            if pipe.chunks == 1:
                bound = stage_bound(pipe, part, b, e, before, pipe.line.send[e])
            else:
                bound = _device_bound(pipe, part, (*bounds, e))
            if bound < self.seconds * (1 - EQUAL):
                self._descend((*bounds, e), after(pipe, before, part, b, e))


def _device_bound(pipe: Pipeline, part: int, bounds: tuple[int, ...]) -> float:
    """With several chunks a device no schedule ends earlier: the way to the device, and its chunks up to `part`."""
    device, at = part % pipe.stages, pipe.line
    way = at.total[bounds[device]] / max(pipe.speeds) + 2 * device * at.cheapest
    work = sum(at.total[e] - at.total[b] for b, e in list(pairwise(bounds))[device :: pipe.stages])
    return way + pipe.microbatches * work / pipe.speeds[device]
