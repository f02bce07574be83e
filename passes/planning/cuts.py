"""Where to cut a line of units into the stages of a pipeline: the least makespan of a schedule under memory limits.

Good cuts first: those with the cheapest sends among all whose longest stage is at most τ, for the least τ and some
larger ones (a window of a dynamic programme), and those on which the lower bound rests; they are improved by moving one
cut at a time, by the exact makespan. Then a search through all cuts, stage by stage, which leaves out what a lower
bound excludes. If it ends within its work, or a lower bound equals the makespan found, the cuts are the best there are
(`exact`); if not, `lower_bound` says how far from the best they can be. All limits count steps, none is by the clock.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf

from dlc.cost.schedules import SCHEDULES, Schedule
from passes.planning.cut_candidates import candidates
from passes.planning.cut_search import WORK, Search
from passes.planning.pipeline_bounds import EQUAL, lower_bound
from passes.planning.pipeline_line import Line, Pipeline, Unit, fastest, line

__all__ = ["Cuts", "Unit", "best_schedule", "cut"]


@dataclass(frozen=True, slots=True)
class Within:
    """Virtual stage j + 1 begins at a unit from the first to the last of `windows[j]`; `barred` are (unit, a stage that
    must not have it)."""

    windows: tuple[tuple[int, int], ...]
    barred: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Cuts:
    """Virtual stage i has the units bounds[i] to bounds[i + 1] − 1; `bytes` is the peak of each device."""

    bounds: tuple[int, ...]
    makespan: float
    bytes: tuple[float, ...]
    exact: bool
    lower_bound: float


def cut(
    units: Sequence[Unit] | Line,
    stages: int,
    microbatches: int,
    schedule: Schedule,
    *,
    limit: float | Sequence[float] | None = None,
    speeds: Sequence[float] = (),
    chunks: int = 1,
    work: int = WORK,
    within: Within | None = None,
    ends: int = 0,
    own: Sequence[Sequence[Unit]] = (),
    near: bool = True,
    below: float = inf,
) -> Cuts | None:
    """The cuts into `stages · chunks` parts of at least one unit each with the least makespan; None where none fits, or
    where a lower bound says that none, or none that would be found, takes `below` or less.

    `limit` is the memory of a device in bytes, or one for each; `speeds` are relative, one for each device, all 1 if
    there are none; `work` is what may be spent; `within` are the places that cuts are confined to; of each message so
    many `ends` do nothing else meanwhile (`Pipeline.ends`); `own` are the units as each device takes them, where its
    speed says too little. Of a `Line` of units, what schedules have in common is worked out once. A `lower_bound`
    that is not the makespan may be far from it if it need not be `near`. None may also mean that none was found: with
    several chunks a device and little memory, or units that are barred from stages.
    """
    pipe = pipeline(units, stages, microbatches, schedule, limit=limit, speeds=speeds, chunks=chunks)
    pipe = replace(pipe, ends=ends)
    if within is not None:
        pipe = confined(pipe, within)
    if pipe.line.blocks < pipe.parts or not pipe.possible:
        return None
    alike = pipe
    if own:
        lines = {id(each): line(each) for each in own}
        mine = tuple(lines[id(each)] for each in own)
        pipe = replace(pipe, own=mine, speeds=tuple(fastest(pipe.line, each) for each in mine))
    if below < inf and lower_bound(pipe, below * (1 + 3 * EQUAL), near=False) > below * (1 + EQUAL):
        return None
    first = candidates(alike)
    search = Search(pipe, work)
    if search.hopeless(first, below):
        return None
    search.improve(first)
    bound = lower_bound(pipe, search.seconds, near=near) if search.found else 0.0
    exact = search.seconds <= bound * (1 + EQUAL) or search.exhaust()
    if not search.found:
        return None
    places = tuple(pipe.line.units[i] for i in search.bounds)
    bound = search.seconds if exact else min(bound, search.seconds)
    return Cuts(places, search.seconds, pipe.all_bytes(search.bounds), exact, bound)


def pipeline(
    units: Sequence[Unit] | Line,
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
    blocks = units if isinstance(units, Line) else line(units)
    return Pipeline(blocks, schedule, stages, microbatches, chunks, tuple(speeds) or (1.0,) * stages, limits)


def confined(pipe: Pipeline, within: Within) -> Pipeline:
    """The problem with the places of cuts confined: positions between the blocks, for units."""
    units = pipe.line.units
    windows = tuple((bisect_left(units, low), bisect_right(units, high) - 1) for low, high in within.windows)
    barred = tuple((bisect_right(units, unit) - 1, stage) for unit, stage in within.barred)
    return replace(pipe, windows=windows, barred=barred)


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
