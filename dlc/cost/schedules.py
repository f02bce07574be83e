"""Schedules of pipelines: the order in which each device computes its microbatches.

A pipeline has p devices and v chunks a device: virtual stage c·p + d is chunk c of device d. For every microbatch a
virtual stage computes F (forward), B (backward by inputs) and W (backward by weights); where a table has no W, B does
both. A table says for each device the order of these cells; `makespan` says how long it takes.

| schedule | order | most microbatches held | bubble of even stages |
|---|---|---|---|
| `gpipe` | all F, then all B (Huang et al. 2019) | m | (p−1)(f+b) |
| `one_f_one_b` | F and B in turn (Narayanan et al. 2019) | p−d on device d | (p−1)(f+b) |
| `interleaved` | the same with v chunks (Narayanan et al. 2021) | p + (p−1)/v on device 0 | (p−1)(f+b)/v |
| `zero_bubble` | ZB-H1: W fills gaps (Qi et al. 2024) | p | (p−1)(f+b−w), b by inputs, w ≤ f and w ≤ b |

f, b and w are a whole device's seconds for one microbatch, sends take no time, and the last two want m ≥ p. The last
bubble is the (S−1)(F + B − 2W) of cost-models.md §5, whose B is the whole backward pass, b + w.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from heapq import heappop, heappush
from itertools import chain
from math import inf
from typing import Literal, get_args

from dlc.cost.makespan import (
    Cell,
    Layers,
    Phase,
    Rows,
    Work,
    in_flight,
    layers,
    makespan,
    needs_nonblocking,
    occupancy,
    occupied,
    sends_under_way,
    separate,
    slots,
)
from dlc.ir.mesh import shards

__all__ = [
    "MOST_FILLED",
    "SCHEDULES",
    "Cell",
    "Rows",
    "Schedule",
    "Work",
    "even_seconds",
    "in_flight",
    "makespan",
    "needs_nonblocking",
    "occupancy",
    "occupied",
    "sends_under_way",
    "separate",
    "slots",
    "step_seconds",
    "table",
]

Schedule = Literal["gpipe", "one_f_one_b", "interleaved", "zero_bubble"]
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)

MOST_FILLED = 12_000
"""Cells of the largest table that is fitted to its stages: 50 ms. With more microbatches it gains little."""


def table(
    schedule: Schedule,
    stages: int,
    microbatches: int,
    chunks: int = 1,
    works: Sequence[Work] | None = None,
    sends: Sequence[float] = (),
) -> Rows:
    """The cells of each of `stages` devices, in order. Only `interleaved` has more than one chunk a device.

    `works` (and `sends` between them) matter to `zero_bubble` only, which then takes the shorter of ZB-H1's own order
    and, up to `MOST_FILLED` cells, one that fills gaps as they come with these stages. Backward passes go by rising
    microbatch in every schedule, so that gradients are summed in the same order.
    """
    if stages < 1 or microbatches < 1 or chunks < 1:
        raise ValueError(f"a pipeline of {stages} stages, {microbatches} microbatches and {chunks} chunks")
    if chunks > 1 and schedule != "interleaved":
        raise ValueError(f"{schedule} has one chunk a device")
    rows = _table(schedule, stages, microbatches, chunks)
    if schedule != "zero_bubble" or works is None or 3 * stages * microbatches > MOST_FILLED:
        return rows
    boundaries = tuple(sends) or (0.0,) * (stages - 1)
    return min(rows, _filled(works, boundaries, microbatches), key=lambda found: makespan(found, works, boundaries))


@lru_cache(maxsize=256)
def _table(schedule: Schedule, p: int, m: int, v: int) -> Rows:
    match schedule:
        case "gpipe":
            return (_alternate(_forwards([range(m)], 1), _backwards([range(m)], 1), m),) * p
        case "one_f_one_b":
            forwards, backwards = _forwards([range(m)], 1), _backwards([range(m)], 1)
            return tuple(_alternate(forwards, backwards, p - d - 1) for d in range(p))
        case "interleaved":
            return _interleaved(p, m, v)
        case "zero_bubble":
            return tuple(_zero_bubble(p, m, row) for row in _table("one_f_one_b", p, m, 1))


@lru_cache(maxsize=32)
def _layers(schedule: Schedule, p: int, m: int, v: int) -> Layers:
    return layers(_table(schedule, p, m, v))


WIDE = 16
"""From so many devices on a table's cells are evaluated layer by layer: one by one takes longer."""


def _forwards(groups: Sequence[range], chunks: int) -> list[Cell]:
    return [Cell("F", i, chunk) for group in groups for chunk in range(chunks) for i in group]


def _backwards(groups: Sequence[range], chunks: int) -> list[Cell]:
    return [Cell("B", i, chunk) for group in groups for chunk in reversed(range(chunks)) for i in group]


def _alternate(forwards: list[Cell], backwards: list[Cell], ahead: int) -> tuple[Cell, ...]:
    """`ahead` forward passes, then forward and backward in turn, then the backward passes that are left."""
    ahead = min(ahead, len(forwards))
    pairs = chain.from_iterable(zip(forwards[ahead:], backwards, strict=False))
    return (*forwards[:ahead], *pairs, *backwards[len(backwards) - ahead :])


def _interleaved(p: int, m: int, v: int) -> Rows:
    """Megatron-LM's order: groups of p microbatches go through chunk after chunk.

    Where p does not divide m, groups of p or more share what is left over: a group smaller than p would leave devices
    idle at each change of chunk, a larger one has the same bubble. The larger ones come first, since the first one
    sets how far forward passes run ahead.
    """
    groups = [range(start, stop) for start, stop in shards(m, max(1, m // p))]
    forwards, backwards = _forwards(groups, v), _backwards(groups, v)
    ahead = [2 * (p - d - 1) + (v - 1) * len(groups[0]) for d in range(p)]
    return tuple(_alternate(forwards, backwards, at) for at in ahead)


def _zero_bubble(p: int, m: int, cells: tuple[Cell, ...]) -> tuple[Cell, ...]:
    """ZB-H1: 1F1B's F and B; a device holds up to p microbatches, and puts W off for as long as that allows."""
    row: list[Cell] = []
    forwards = backwards = weights = 0
    for cell in cells:
        over = cell.phase == "F" and forwards - weights == p
        drained = cell.phase == "B" and forwards == m and weights < backwards and row[-1].phase == "B"
        if over or drained:
            row.append(Cell("W", weights))
            weights += 1
        row.append(cell)
        forwards, backwards = forwards + (cell.phase == "F"), backwards + (cell.phase == "B")
    return (*row, *(Cell("W", i) for i in range(weights, m)))


def _filled(works: Sequence[Work], sends: Sequence[float], m: int) -> Rows:
    """A list schedule under ZB-H1's bound of p microbatches a device, for stages of any lengths.

    A free device takes the next B that has arrived, or else the next F, if it may hold one more, or else W.
    """
    p = len(works)
    bound = min(p, m)
    arrivals = {"F": [[inf] * m for _ in works], "B": [[inf] * m for _ in works]}
    arrivals["F"][0] = [0.0] * m
    done: list[dict[Phase, int]] = [{"F": 0, "B": 0, "W": 0} for _ in works]
    rows: list[list[Cell]] = [[] for _ in works]
    free = [0.0] * p
    links = {"F": [0.0] * p, "B": [0.0] * p}
    wakes = [(0.0, d) for d in range(p)]
    while wakes:
        now, d = heappop(wakes)
        phase = _next_phase(done[d], arrivals, d, now, bound) if now >= free[d] else None
        if phase is None:
            continue
        i = done[d][phase]
        done[d][phase] += 1
        rows[d].append(Cell(phase, i))
        work = works[d]
        free[d] = now + {"F": work.forward, "B": work.backward, "W": work.weights}[phase]
        heappush(wakes, (free[d], d))
        if phase == "F" and d + 1 == p:
            arrivals["B"][d][i] = free[d]
        elif phase != "W" and (to := d + 1 if phase == "F" else d - 1) >= 0:
            links[phase][d] = max(free[d], links[phase][d]) + sends[min(d, to)]
            arrivals[phase][to][i] = links[phase][d]
            heappush(wakes, (links[phase][d], to))
    return tuple(map(tuple, rows))


def _next_phase(
    done: Mapping[Phase, int], arrivals: Mapping[str, list[list[float]]], d: int, now: float, bound: int
) -> Phase | None:
    """What a free device does now; None where it waits for a message."""
    m = len(arrivals["F"][d])
    if done["B"] < m and arrivals["B"][d][done["B"]] <= now:
        return "B"
    if done["F"] < m and done["F"] - done["W"] < bound and arrivals["F"][d][done["F"]] <= now:
        return "F"
    return "W" if done["W"] < done["B"] else None


def even_seconds(schedule: Schedule, stages: int, microbatches: int, work: Work, chunks: int = 1) -> float | None:
    """The makespan where all virtual stages take `work` and sends take no time; None where no formula is exact."""
    ahead, total = stages - 1, work.total
    match schedule:
        case "gpipe" | "one_f_one_b":
            return (microbatches + ahead) * total
        case "interleaved" if microbatches >= stages:
            return (microbatches * chunks + ahead) * total
        case "zero_bubble" if microbatches >= stages and work.weights <= min(work.forward, work.backward):
            return (microbatches + ahead) * total - 2 * ahead * work.weights
    return None


def step_seconds(
    schedule: Schedule, stages: int, microbatches: int, works: Sequence[Work], sends: Sequence[float]
) -> float:
    """The makespan of a schedule's own table, with sends that do not block; by a formula where one is exact.

    GPipe is a flow shop forward and another one backward, with the links as machines between the stages: the time of
    each is one microbatch's way through it, and the longest machine once for each other microbatch.
    """
    if schedule == "gpipe":
        forward = max([work.forward for work in works] + [*sends])
        backward = max([work.backward + work.weights for work in works] + [*sends])
        return sum(work.total for work in works) + 2 * sum(sends) + (microbatches - 1) * (forward + backward)
    chunks = len(works) // stages
    if not any(sends):
        even = all(work == works[0] for work in works)
        seconds = even_seconds(schedule, stages, microbatches, works[0], chunks) if even else None
        if seconds is not None:
            return seconds
        fixed = schedule != "zero_bubble" or 3 * stages * microbatches > MOST_FILLED
        if fixed and stages >= WIDE:
            return _layers(schedule, stages, microbatches, chunks).seconds(works)
    return makespan(table(schedule, stages, microbatches, chunks, works, sends), works, sends)
