"""Cuts that are good to begin with: the cheapest sends among all whose longest stage is short enough.

For a bound τ on the longest stage, the stage that ends at position e may begin in a window of positions, whose lower
end rises with e; so each stage of the dynamic programme is one sliding minimum. The least τ comes from going as far as
possible stage by stage; larger ones pay only while they save as much in sends as they cost in m − 1 microbatches.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from functools import cached_property
from itertools import accumulate, pairwise
from math import inf
from typing import TYPE_CHECKING

from passes.planning.pipeline_line import Line, Pipeline

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Places = NDArray[np.int64]

SLACK = (1.0, 1.005, 1.01, 1.02, 1.05, 1.1, 1.2, 1.5, 2.0, 4.0, 16.0, inf)
"""How much longer than necessary the longest stage may be, where that makes sends cheaper."""


DIRECT = 20_000
"""So many values are compared one by one rather than by tables of minima."""


def candidates(pipe: Pipeline) -> list[tuple[int, ...]]:
    """Positions 0 to the end of good cuts, by rising estimate of the makespan."""
    found = dict.fromkeys(_even(pipe))
    free = max(pipe.limits) == inf or pipe.chunks > 1
    if free:
        found |= dict.fromkeys(_shortest(pipe, None))
    if min(pipe.limits) < inf:
        for shares in _shares(pipe, next(reversed(found))):
            reaches = _reaches(pipe, shares)
            if reaches is not None or not free:
                found |= dict.fromkeys(_shortest(pipe, reaches))
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


def _shortest(pipe: Pipeline, reaches: list[_Reach] | None) -> Iterator[tuple[int, ...]]:
    """Cuts with the cheapest sends for the least longest stage, and for some longer ones."""
    at, m = pipe.line, pipe.microbatches
    least = _least(pipe, reaches)
    free = 2 * sum(sorted(at.send[1:-1])[: pipe.parts - 1])
    saving = inf
    for slack in SLACK:
        tau = least * slack
        if least == inf or (slack > 1 and (m - 1) * (tau - least) > saving * (1 + 1e-9)):
            return
        bounds = _cheapest(pipe, tau, reaches)
        if bounds is None:
            continue
        yield bounds
        saving = min(saving, 2 * sum(at.send[i] for i in bounds[1:-1]) - free)
        if saving <= 0:
            return


def _least(pipe: Pipeline, reaches: list[_Reach] | None) -> float:
    """The least bound on the longest stage for which cuts exist, infinite where memory allows none.

    That of any memory is found once for a line; where it does, none is less.
    """
    key = pipe.chunks, pipe.speeds
    if key not in pipe.line.least:
        pipe.line.least[key] = _least_of(pipe, None)
    free = pipe.line.least[key]
    if reaches is None or not _binds(reaches, _firsts(pipe, free)) or _enough(pipe, reaches, free):
        return free
    return _least_of(pipe, reaches)


def _least_of(pipe: Pipeline, reaches: list[_Reach] | None) -> float:
    at = pipe.line
    low, high = at.total[-1] / pipe.chunks / sum(pipe.speeds), at.total[-1] / min(pipe.speeds) * (1 + 1e-9)
    if not _enough(pipe, reaches, high):
        return inf
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if _enough(pipe, reaches, middle) else (middle, high)
    return high


def _enough(pipe: Pipeline, reaches: list[_Reach] | None, tau: float) -> bool:
    """Whether stages that each go as far as `tau` and memory allow reach the end."""
    at, b = pipe.line, 0
    for part in range(pipe.parts):
        e = bisect_right(at.total, at.total[b] + tau * pipe.speeds[part % pipe.stages]) - 1
        b = e if reaches is None else min(e, int(reaches[part].last[b]))
        if b == at.blocks:
            return True
    return False


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
    return pipe.held[part % pipe.stages][part // pipe.stages]


class _Reach:
    """What memory allows a virtual stage that holds so many microbatches: the last position by first block, the first
    block by last position."""

    def __init__(self, line: Line, held: int, limit: float) -> None:
        self.line, self.limit = line, limit
        self.static = line.array("fixed") + held * line.array("saved")
        self.transient = float(line.array("transient").max(initial=0.0))

    @property
    def everything(self) -> bool:
        """Whether all blocks fit."""
        return self.limit == inf or bool(self.static[-1] - self.static[0] + self.transient <= self.limit)

    def binds(self, first: Places) -> bool:
        """Whether memory does not allow all stages that begin with these blocks, by the position that they end at."""
        if self.everything or (self.static - self.static[first] + self.transient <= self.limit).all():
            return False
        return bool((self.first > first).any())

    @cached_property
    def first(self) -> Places:
        """The first block by last position."""
        import numpy as np

        return np.searchsorted(self.last, np.arange(self.line.blocks + 1), side="left")

    @cached_property
    def last(self) -> Places:
        """The last position by first block."""
        import numpy as np

        at, static, limit = self.line, self.static, self.limit
        ends, transient = np.arange(at.blocks + 1), at.array("transient")
        if self.everything:
            return np.full(at.blocks + 1, at.blocks)
        # What fits with the largest transient fits, what does not with the smallest does not.
        low, far = (
            np.maximum(np.searchsorted(static, static + (limit - size), side="right") - 1, ends)
            for size in (self.transient, transient.min(initial=0.0))
        )
        peaks = _sparse(-transient)
        while np.any(low < far):
            middle = (low + far + 1) // 2
            b = np.minimum(ends, middle - 1)
            fits = static[middle] - static[b] - _minima(peaks, b, middle) <= limit
            open_ = low < far
            low, far = np.where(open_ & fits, middle, low), np.where(open_ & ~fits, middle - 1, far)
        return low


def _reaches(pipe: Pipeline, shares: tuple[float, ...]) -> list[_Reach] | None:
    """What fits each virtual stage's share of a device; None where anything fits all of them."""
    wanted = [
        (_most(pipe, part), pipe.limits[part % pipe.stages] * shares[part // pipe.stages]) for part in range(pipe.parts)
    ]
    found = {pair: _Reach(pipe.line, *pair) for pair in dict.fromkeys(wanted)}
    return None if all(reach.everything for reach in found.values()) else [found[pair] for pair in wanted]


def _cheapest(pipe: Pipeline, tau: float, reaches: list[_Reach] | None) -> tuple[int, ...] | None:
    """The cuts with the least sum of stages and sends among those with no stage longer than `tau`; found once for a
    line where memory allows all such stages."""
    import numpy as np

    firsts = _firsts(pipe, tau)
    if reaches is not None and _binds(reaches, firsts):
        later = {(id(a), id(b)): (a, b) for a, b in zip(firsts, reaches, strict=True)}
        made = {key: np.maximum(first, reach.first) for key, (first, reach) in later.items()}
        return _window(pipe, tau, [made[id(a), id(b)] for a, b in zip(firsts, reaches, strict=True)], reaches)
    key = pipe.chunks, pipe.speeds, tau
    if key not in pipe.line.windows:
        pipe.line.windows[key] = _window(pipe, tau, firsts, None)
    return pipe.line.windows[key]


def _firsts(pipe: Pipeline, tau: float) -> list[Places]:
    """For each virtual stage, the first block that it may begin with if it is no longer than `tau`, by the position
    that it ends at."""
    import numpy as np

    total = pipe.line.array("total")
    by_speed = {speed: np.searchsorted(total, total - tau * speed, side="left") for speed in set(pipe.speeds)}
    return [by_speed[pipe.speeds[part % pipe.stages]] for part in range(pipe.parts)]


def _binds(reaches: list[_Reach], firsts: list[Places]) -> bool:
    """Whether memory does not allow all stages that begin with these blocks."""
    pairs = {(id(a), id(b)): (a, b) for a, b in zip(firsts, reaches, strict=True)}
    return any(reach.binds(first) for first, reach in pairs.values())


def _window(pipe: Pipeline, tau: float, firsts: list[Places], reaches: list[_Reach] | None) -> tuple[int, ...] | None:
    """The same by dynamic programming: `firsts` is for each virtual stage the first block that it may begin with, by
    the position that it ends at.

    Behind each stage only those positions count that can be reached and from which the end can be.
    """
    import numpy as np

    at = pipe.line
    total, sends = at.array("total"), 2 * at.array("send")
    taken = {speed: total / speed for speed in set(pipe.speeds)}
    spans = _spans(pipe, tau, reaches, firsts)
    if spans is None:
        return None
    ranges = _ranges(firsts, spans)
    cost = np.zeros(1)
    values: list[Floats] = []
    for part, ((low, high), (start, end)) in enumerate(pairwise(spans)):
        seconds, (starts, stops, none) = taken[pipe.speeds[part % pipe.stages]], ranges[part]
        value = cost - seconds[low : high + 1]
        values.append(value)
        cost = _least_within(value, starts, stops) + seconds[start : end + 1] + sends[start : end + 1]
        cost[none] = np.inf
    if not np.isfinite(cost[-1]):
        return None
    bounds = [at.blocks]
    for part, value in reversed(list(enumerate(values))):
        (starts, stops, _), low, e = ranges[part], spans[part][0], bounds[-1] - spans[part + 1][0]
        bounds.append(low + int(starts[e] + np.argmin(value[starts[e] : stops[e]])))
    return tuple(reversed(bounds))


def _ranges(firsts: list[Places], spans: list[tuple[int, int]]) -> list[tuple[Places, Places, Places]]:
    """For each virtual stage, by the position that it ends at: where the range of positions that it may begin at
    starts and stops, counted from the first one that counts; and the ends for which there is none."""
    import numpy as np

    lows, highs = np.array(spans[:-1]).T
    starts, ends = np.array(spans[1:]).T
    sizes = ends - starts + 1
    split = np.cumsum(sizes)
    end = np.arange(split[-1]) + np.repeat(starts - split + sizes, sizes)
    low, high = np.repeat(lows, sizes), np.repeat(highs, sizes)
    first = np.concatenate([each[a : b + 1] for each, (a, b) in zip(firsts, spans[1:], strict=True)])
    begin, behind = np.maximum(first, low) - low, np.minimum(end, high + 1) - low
    some = begin < behind
    begin, behind = np.where(some, begin, 0), np.where(some, behind, 1)
    made = zip(*(np.split(each, split[:-1]) for each in (begin, behind, ~some)), strict=True)
    return list(made)


def _spans(
    pipe: Pipeline, tau: float, reaches: list[_Reach] | None, firsts: list[Places]
) -> list[tuple[int, int]] | None:
    """The first and last positions that count before the first stage and behind each one; None where one has none."""
    import numpy as np

    total, lows, highs = pipe.line.array("total"), [pipe.line.blocks], [0]
    for first in reversed(firsts):
        lows.append(int(first[lows[-1]]))
    if lows[-1] > 0:
        return None
    reduced = {speed: total - tau * speed for speed in set(pipe.speeds)}
    for part in range(pipe.parts):
        b = highs[-1]
        e = int(np.searchsorted(reduced[pipe.speeds[part % pipe.stages]], total[b], side="right")) - 1
        e = e if reaches is None else min(e, int(reaches[part].last[b]))
        highs.append(min(e, pipe.line.blocks - (pipe.parts - 1 - part)))
    found = list(zip(reversed(lows), highs, strict=True))
    return found if all(low <= high for low, high in found) else None


def _least_within(values: Floats, starts: Places, stops: Places) -> Floats:
    """The least value of each range, which is not empty: few and short ones directly."""
    import numpy as np

    longest = int((stops - starts).max())
    if len(starts) * longest > DIRECT:
        return _minima(_sparse(values, longest), starts, stops)
    pairs = np.stack([starts, stops], axis=1).ravel()
    least: Floats = np.minimum.reduceat(np.append(values, np.inf), pairs)[::2]
    return least


def _sparse(values: Floats, longest: int | None = None) -> Floats:
    """Entry [k, i] is the least of the 2^k values from i on, for ranges of up to `longest` values."""
    import numpy as np

    most = len(values) if longest is None else max(1, min(longest, len(values)))
    levels = np.full((most.bit_length(), len(values)), np.inf)
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
