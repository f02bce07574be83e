"""Cuts that are good to begin with: the cheapest sends among all whose longest stage is short enough.

For a bound τ on the longest stage, the stage that ends at position e may begin in a window of positions, whose lower
end rises with e; so each stage of the dynamic programme is one sliding minimum. The least τ comes from going as far as
possible stage by stage; larger ones pay only while they save as much in sends as they cost in m − 1 microbatches.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import accumulate, pairwise
from math import inf
from typing import TYPE_CHECKING

from passes.planning.pipeline_line import Pipeline

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Places = NDArray[np.int64]

SLACK = (1.0, 1.005, 1.01, 1.02, 1.05, 1.1, 1.2, 1.5, 2.0, 4.0, 16.0, inf)
"""How much longer than necessary the longest stage may be, where that makes sends cheaper."""


def candidates(pipe: Pipeline) -> list[tuple[int, ...]]:
    """Positions 0 to the end of good cuts, by rising estimate of the makespan."""
    found = dict.fromkeys(_even(pipe))
    if max(pipe.limits) == inf or pipe.chunks > 1:
        found |= dict.fromkeys(_shortest(pipe, None))
    if min(pipe.limits) < inf:
        for shares in _shares(pipe, next(reversed(found))):
            found |= dict.fromkeys(_shortest(pipe, _reaches(pipe, shares)))
    if pipe.windows:
        found = dict.fromkeys(_confined(pipe, bounds) for bounds in found)
    return sorted(found, key=lambda bounds: estimate(pipe, bounds))


def _confined(pipe: Pipeline, bounds: tuple[int, ...]) -> tuple[int, ...]:
    """The nearest cuts within their windows, one block apart at least."""
    moved = [0]
    for b, (low, high) in zip(bounds[1:-1], pipe.windows, strict=True):
        moved.append(max(min(max(b, low), high), moved[-1] + 1))
    return (*moved, bounds[-1])


def estimate(pipe: Pipeline, bounds: tuple[int, ...]) -> float:
    """One microbatch's way, and the longest stage or cut once for each other microbatch."""
    devices = [0.0] * pipe.stages
    for part, (b, e) in enumerate(pairwise(bounds)):
        devices[part % pipe.stages] += pipe.work(part, b, e).total
    sends = [pipe.line.send[i] for i in bounds[1:-1]]
    return sum(devices) + 2 * sum(sends) + (pipe.microbatches - 1) * max(*devices, 2 * max(sends, default=0.0))


def _even(pipe: Pipeline) -> Iterator[tuple[int, ...]]:
    """Stages as near to equal seconds as the places of cuts allow."""
    at, parts = pipe.line, pipe.parts
    speeds = list(accumulate((pipe.speeds[part % pipe.stages] for part in range(parts)), initial=0.0))
    bounds = [0]
    for part in range(1, parts):
        aim = at.total[-1] * speeds[part] / speeds[-1]
        e = bisect_left(at.total, aim)
        e -= e > 0 and aim - at.total[e - 1] < at.total[e] - aim
        bounds.append(min(max(e, bounds[-1] + 1), at.blocks - (parts - part)))
    yield (*bounds, at.blocks)


def _shortest(pipe: Pipeline, reaches: list[Places] | None) -> Iterator[tuple[int, ...]]:
    """Cuts with the cheapest sends for the least longest stage, and for some longer ones."""
    at, m = pipe.line, pipe.microbatches
    least = _least(pipe, reaches)
    free = 2 * sum(sorted(at.send[1:-1])[: pipe.parts - 1])
    saving = inf
    for slack in SLACK:
        tau = least * slack
        if least == inf or (slack > 1 and (m - 1) * (tau - least) > saving * (1 + 1e-9)):
            return
        bounds = _window(pipe, tau, reaches)
        if bounds is None:
            continue
        yield bounds
        saving = min(saving, 2 * sum(at.send[i] for i in bounds[1:-1]) - free)
        if saving <= 0:
            return


def _least(pipe: Pipeline, reaches: list[Places] | None) -> float:
    """The least bound on the longest stage for which cuts exist, infinite where memory allows none."""
    at = pipe.line

    def enough(tau: float) -> bool:
        b = 0
        for part in range(pipe.parts):
            e = bisect_right(at.total, at.total[b] + tau * pipe.speeds[part % pipe.stages]) - 1
            b = e if reaches is None else min(e, int(reaches[part][b]))
            if b == at.blocks:
                return True
        return False

    low, high = at.total[-1] / pipe.chunks / sum(pipe.speeds), at.total[-1] / min(pipe.speeds) * (1 + 1e-9)
    if not enough(high):
        return inf
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _shares(pipe: Pipeline, bounds: tuple[int, ...]) -> list[tuple[float, ...]]:
    """Ways to share a device's memory among its chunks: evenly, and as these cuts would need it."""
    even = (1.0 / pipe.chunks,) * pipe.chunks
    if pipe.chunks == 1:
        return [even]
    needs = [0.0] * pipe.chunks
    for part, (b, e) in enumerate(pairwise(bounds)):
        fixed, saved = (sums[e] - sums[b] for sums in (pipe.line.fixed, pipe.line.saved))
        needs[part // pipe.stages] += fixed + _most(pipe, part) * saved
    return [even, tuple(need / sum(needs) for need in needs)] if sum(needs) > 0 else [even]


def _most(pipe: Pipeline, part: int) -> int:
    """The most microbatches that a virtual stage holds."""
    return max(counts[part // pipe.stages] for counts in pipe.held[part % pipe.stages])


def _reaches(pipe: Pipeline, shares: tuple[float, ...]) -> list[Places]:
    """For each virtual stage and first block b, the last position e at which it fits its share of a device."""
    wanted = [
        (_most(pipe, part), pipe.limits[part % pipe.stages] * shares[part // pipe.stages]) for part in range(pipe.parts)
    ]
    found = {pair: _reach(pipe, *pair) for pair in dict.fromkeys(wanted)}
    return [found[pair] for pair in wanted]


def _reach(pipe: Pipeline, held: int, limit: float) -> Places:
    import numpy as np

    at = pipe.line
    static = np.asarray(at.fixed) + held * np.asarray(at.saved)
    low = np.arange(at.blocks + 1)
    far: Places = np.searchsorted(static, static + limit, side="right") - 1
    if limit == inf or not any(at.transient):
        return far
    peaks = _sparse(-np.asarray(at.transient))
    while np.any(low < far):
        middle = (low + far + 1) // 2
        b = np.minimum(np.arange(at.blocks + 1), middle - 1)
        fits = static[middle] - static[b] - _minima(peaks, b, middle) <= limit
        open_ = low < far
        low, far = np.where(open_ & fits, middle, low), np.where(open_ & ~fits, middle - 1, far)
    return low


def _window(pipe: Pipeline, tau: float, reaches: list[Places] | None) -> tuple[int, ...] | None:
    """The cuts with the least sum of stages and sends among those with no stage longer than `tau`."""
    import numpy as np

    at = pipe.line
    total, sends = np.asarray(at.total), 2 * np.asarray(at.send)
    ends = np.arange(at.blocks + 1)
    cost = np.where(ends == 0, 0.0, np.inf)
    steps: list[tuple[Floats, Places]] = []
    for part in range(pipe.parts):
        speed = pipe.speeds[part % pipe.stages]
        first = np.searchsorted(total, total - tau * speed, side="left")
        if reaches is not None:
            first = np.maximum(first, np.searchsorted(reaches[part], ends, side="left"))
        value = cost - total / speed
        steps.append((value, first))
        some = first < ends
        best = _minima(_sparse(value), np.where(some, first, 0), np.where(some, ends, 1))
        cost = np.where(some, best, np.inf) + total / speed + sends
    if not np.isfinite(cost[-1]):
        return None
    bounds = [at.blocks]
    for value, first in reversed(steps):
        e, b = bounds[-1], int(first[bounds[-1]])
        bounds.append(b + int(np.argmin(value[b:e])))
    return tuple(reversed(bounds))


def _sparse(values: Floats) -> Floats:
    """Entry [k, i] is the least of the 2^k values from i on."""
    import numpy as np

    levels = np.full((len(values).bit_length(), len(values)), np.inf)
    levels[0] = values
    for k in range(1, len(levels)):
        step = 1 << (k - 1)
        stop = len(values) - 2 * step + 1
        np.minimum(levels[k - 1, :stop], levels[k - 1, step : step + stop], out=levels[k, :stop])
    return levels


def _minima(levels: Floats, starts: Places, stops: Places) -> Floats:
    """The least value of each range, which is not empty."""
    import numpy as np

    level = np.frexp((stops - starts).astype(np.float64))[1] - 1
    least: Floats = np.minimum(levels[level, starts], levels[level, stops - (1 << level)])
    return least
