"""Where to cut a line of units into the stages of a pipeline: the least makespan of a schedule under memory limits.

Good cuts first: those with the cheapest sends among all whose longest stage is at most τ, for the least τ and some
larger ones (a window of a dynamic programme), and those on which the lower bound rests; they are improved by moving one
cut at a time, by the exact makespan. Then a search through all cuts, stage by stage, which leaves out what a lower
bound excludes. If it ends within its work, or a lower bound equals the makespan found, the cuts are the best there are
(`exact`); if not, `lower_bound` says how far from the best they can be. All limits count steps, none is by the clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from math import comb, inf

from dlc.cost.schedules import MOST_FILLED, SCHEDULES, Schedule
from passes.planning.cut_candidates import candidates
from passes.planning.pipeline_bounds import EQUAL, Before, after, lower_bound, stage_bound
from passes.planning.pipeline_line import Pipeline, Unit, line

__all__ = ["Cuts", "Unit", "best_schedule", "cut"]

WORK = 40_000
"""Steps, of about a microsecond, that may be spent on improving cuts, and once more on the search through all."""


@dataclass(frozen=True, slots=True)
class Cuts:
    """Virtual stage i has the units bounds[i] to bounds[i + 1] − 1; `bytes` is the peak of each device."""

    bounds: tuple[int, ...]
    makespan: float
    bytes: tuple[float, ...]
    exact: bool
    lower_bound: float


def cut(
    units: Sequence[Unit],
    stages: int,
    microbatches: int,
    schedule: Schedule,
    *,
    limit: float | Sequence[float] | None = None,
    speeds: Sequence[float] = (),
    chunks: int = 1,
    work: int = WORK,
) -> Cuts | None:
    """The cuts into `stages · chunks` parts of at least one unit each with the least makespan; None where none fits.

    `limit` is the memory of a device in bytes, or one for each; `speeds` are relative, one for each device, all 1 if
    there are none; `work` is what may be spent. None may also mean that none was found: with several chunks a device
    and little memory.
    """
    pipe = pipeline(units, stages, microbatches, schedule, limit=limit, speeds=speeds, chunks=chunks)
    if pipe.line.blocks < pipe.parts:
        return None
    search = _Search(pipe, work)
    search.improve(candidates(pipe))
    bound = lower_bound(pipe, search.seconds) if search.found else 0.0
    exact = search.seconds <= bound * (1 + EQUAL) or search.exhaust()
    if not search.found:
        return None
    places = tuple(pipe.line.units[i] for i in search.bounds)
    bound = search.seconds if exact else min(bound, search.seconds)
    return Cuts(places, search.seconds, pipe.all_bytes(search.bounds), exact, bound)


def pipeline(
    units: Sequence[Unit],
    stages: int,
    microbatches: int,
    schedule: Schedule,
    *,
    limit: float | Sequence[float] | None = None,
    speeds: Sequence[float] = (),
    chunks: int = 1,
) -> Pipeline:
    """The problem of `cut`, with one limit and one speed for each device."""
    limits = (limit,) * stages if isinstance(limit, int | float) else tuple(limit or (inf,) * stages)
    if len(limits) != stages or (speeds and len(speeds) != stages):
        raise ValueError(f"{len(limits)} limits and {len(speeds)} speeds for {stages} stages")
    return Pipeline(line(units), schedule, stages, microbatches, chunks, tuple(speeds) or (1.0,) * stages, limits)


def best_schedule(
    units: Sequence[Unit],
    stages: int,
    microbatches: int,
    *,
    limit: float | Sequence[float] | None = None,
    speeds: Sequence[float] = (),
    schedules: Sequence[Schedule] = SCHEDULES,
    chunks: Sequence[int] = (2, 4),
    work: int = WORK,
) -> tuple[Schedule, int, Cuts] | None:
    """The schedule and its chunks with the least makespan that fits; of equal ones the first. None where none fits."""
    best: tuple[Schedule, int, Cuts] | None = None
    for schedule in schedules:
        for count in chunks if schedule == "interleaved" else (1,):
            found = cut(units, stages, microbatches, schedule, limit=limit, speeds=speeds, chunks=count, work=work)
            if found and (best is None or found.makespan < best[2].makespan * (1 - EQUAL)):
                best = (schedule, count, found)
    return best


class _Search:
    """The best cuts so far, and how much may still be done. Cuts that exceed the memory less are better than others."""

    def __init__(self, pipe: Pipeline, work: int) -> None:
        self.pipe = pipe
        self.bounds: tuple[int, ...] = ()
        self.excess = self.seconds = inf
        self.seen: set[tuple[int, ...]] = set()
        cells = pipe.parts * pipe.microbatches
        fitted = 12 if 3 * cells <= MOST_FILLED else 3
        self.cells = cells * {"gpipe": 0, "zero_bubble": fitted}.get(pipe.schedule, 2)
        self.work = self.left = work

    @property
    def found(self) -> bool:
        """Whether the best cuts so far fit."""
        return self.excess == 0

    def price(self, bounds: tuple[int, ...]) -> None:
        """Keep these cuts if they are better; their makespan matters only if they fit."""
        if bounds in self.seen:
            return
        self.seen.add(bounds)
        excess = self.pipe.excess(bounds)
        self.left -= 2 * self.pipe.parts + (0 if excess else self.cells)
        if excess > self.excess:
            return
        seconds = inf if excess else self.pipe.seconds(bounds)
        if excess < self.excess or seconds < self.seconds * (1 - EQUAL):
            self.bounds, self.excess, self.seconds = bounds, excess, seconds

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
        if comb(self.pipe.line.blocks - 1, self.pipe.parts - 1) > 100 * self.work:
            return False
        self.left = self.work
        self._descend((0,), Before())
        return self.left >= 0

    def _descend(self, bounds: tuple[int, ...], before: Before) -> None:
        pipe, part, b = self.pipe, len(bounds) - 1, bounds[-1]
        if part == pipe.parts - 1:
            self.price((*bounds, pipe.line.blocks))
            return
        device = part % pipe.stages
        pairs = list(pairwise(bounds))[device :: pipe.stages]
        for e in range(b + 1, pipe.line.blocks - (pipe.parts - part - 1) + 1):
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
