"""Pipelines whose stages have different numbers of ranks, each doing its share of a microbatch's samples.

PipeDream's idea (Narayanan et al. 2019): long stages with few weights get many ranks. A stage of r ranks is r times as
fast and holds 1/r of the activations; after the flush it sums its gradients over them. All ways to give ranks to stages
are tried where they are few, each with the exact search for cuts. Where they are many, those tried are the equal ones
and the one of the shortest longest stage, by dynamic programming over (units, ranks).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from math import inf
from typing import TYPE_CHECKING

from dlc.cost.schedules import Schedule
from passes.planning.cut_candidates import candidates
from passes.planning.cut_search import WORK, Search
from passes.planning.pipeline_line import Line, Pipeline, Unit, line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FEW = 10
"""Ranks up to which all 2^(ranks − 1) ways to give them to stages are tried."""

PLACES = 96
"""Places of cuts that the dynamic programme for more ranks looks at."""


@dataclass(frozen=True, slots=True)
class ReplicatedCuts:
    """Stage i has the units bounds[i] to bounds[i + 1] − 1 on ranks[i] ranks; `seconds` is the makespan and the longest
    sum of gradients after it, `bytes` the peak of a rank of each stage."""

    bounds: tuple[int, ...]
    ranks: tuple[int, ...]
    seconds: float
    bytes: tuple[float, ...]
    exact: bool


def cut_replicated(
    units: Sequence[Unit],
    ranks: int,
    microbatches: int,
    allreduce: Callable[[int, int, int], float],
    schedule: Schedule = "one_f_one_b",
    *,
    limit: float = inf,
    work: int = WORK,
) -> ReplicatedCuts | None:
    """The stages, and their ranks, `ranks` in all, with the shortest step; None where none fits a rank's `limit` bytes.

    `allreduce(b, e, r)` is the seconds in which r ranks sum the gradients of the units b to e − 1.
    """
    at, best = line(units), None
    exact = few = ranks <= FEW
    for given in _all_ways(ranks) if few else _some_ways(at, ranks):
        if len(given) > at.blocks:
            continue
        pipe = _pipeline(at, given, microbatches, allreduce, schedule, limit)
        search = Search(pipe, work, best.seconds if best and few else inf)
        search.improve(candidates(pipe))
        exact &= search.exhaust()
        if search.found and (best is None or search.seconds < best.seconds):
            places = tuple(at.units[i] for i in search.bounds)
            best = ReplicatedCuts(places, given, search.seconds, pipe.all_bytes(search.bounds), False)
    return best and ReplicatedCuts(best.bounds, best.ranks, best.seconds, best.bytes, exact)


def _pipeline(
    at: Line,
    ranks: tuple[int, ...],
    microbatches: int,
    allreduce: Callable[[int, int, int], float],
    schedule: Schedule,
    limit: float,
) -> Pipeline:
    def after(stage: int, b: int, e: int) -> float:
        return allreduce(at.units[b], at.units[e], ranks[stage])

    stages, speeds = len(ranks), tuple(map(float, ranks))
    return Pipeline(at, schedule, stages, microbatches, 1, speeds, (limit,) * stages, ranks, after)


def _all_ways(ranks: int) -> Iterator[tuple[int, ...]]:
    """Every sequence of positive numbers with this sum, short ones first."""
    for stages in range(1, ranks + 1):
        for inner in combinations(range(1, ranks), stages - 1):
            yield tuple(b - a for a, b in pairwise((0, *inner, ranks)))


def _some_ways(at: Line, ranks: int) -> list[tuple[int, ...]]:
    """Equal numbers for each number of stages that divides the ranks, and those of the shortest longest stage."""
    equal = [(ranks // stages,) * stages for stages in range(1, ranks + 1) if ranks % stages == 0]
    return list(dict.fromkeys([*equal, _shortest(at, ranks)]))


def _shortest(at: Line, ranks: int) -> tuple[int, ...]:
    """The ranks of the stages whose longest, or whose longest cut, is shortest (PipeDream's recurrence)."""
    import numpy as np

    places = sorted({round(k * at.blocks / PLACES) for k in range(PLACES + 1)})
    total = np.asarray([at.total[i] for i in places])
    sends = np.asarray([2 * at.send[i] for i in places])
    best: NDArray[np.float64] = np.full((ranks + 1, len(places)), np.inf)  # longest stage of the units up to a place
    best[0, 0] = 0.0
    chosen: dict[tuple[int, int], tuple[int, int]] = {}
    for used in range(1, ranks + 1):
        for own in range(1, used + 1):
            stage = np.maximum((total[None, :] - total[:, None]) / own, best[used - own][:, None])
            stage = np.where(np.tri(len(places), dtype=bool), np.inf, np.maximum(stage, sends[:, None]))
            first = np.argmin(stage, axis=0)
            least = stage[first, np.arange(len(places))]
            for e in map(int, np.flatnonzero(least < best[used])):
                best[used, e] = least[e]
                chosen[used, e] = (own, int(first[e]))
    given: list[int] = []
    left, e = ranks, len(places) - 1
    while left:
        own, e = chosen[left, e]
        given.append(own)
        left -= own
    return tuple(reversed(given))
