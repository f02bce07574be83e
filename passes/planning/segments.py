"""Recomputation of all or of some ops: a line of ops in segments of which only the first operands are kept.

A segment keeps what crosses into it and computes the rest a second time. Segments of about √(S·c) bytes, for S saved
bytes and c bytes that cross a good border, need the least memory: about 2·√(S·c) (T. Chen et al., "Training deep nets
with sublinear memory cost", 2016, arXiv:1604.06174). A border stands where least crosses within reach.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from passes.planning.evaluate import Line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Segments = tuple[tuple[int, int], ...]
"""Stretches of ops, each the first one and the one behind its last: each is computed again by itself."""

REACH = (0.6, 1.6)
"""A segment's bytes, as multiples of the size aimed at."""


def borders(costs: Line) -> tuple[int, ...]:
    """Where segments begin, 0 first."""
    import numpy as np

    behind = np.cumsum(costs.saved)
    inner = costs.crossing[:-1]
    positive = inner[inner > 0]
    if behind[-1] <= 0 or not len(positive):
        return (0,)
    goal = float(np.sqrt(behind[-1] * np.median(positive)))
    found, start = [0], 0.0
    while True:
        low, high = (int(np.searchsorted(behind, start + share * goal)) for share in REACH)
        if high >= len(behind) - 1:
            return tuple(found)
        high = max(high, low + 1)
        at = low + int(np.argmin(costs.crossing[low:high]))
        if at + 1 <= found[-1]:
            return tuple(found)
        found.append(at + 1)
        start = float(behind[at])


def checkpointed(costs: Line, repeated: Collection[int] | None = None) -> tuple[Line, Segments]:
    """The line with ops computed again, all of them or those in `repeated`: its bytes and seconds, and the segments.

    A segment (first, end) holds the ops first to end - 1. What crosses into it is kept, and, where it ends before an op
    that is computed once, what crosses out of it.
    """
    import numpy as np

    count = len(costs.forward)
    inside = np.ones(count + 1, dtype=bool) if repeated is None else np.isin(np.arange(count + 1), list(repeated))
    inside[count] = False
    begins = {at for at in borders(_only(costs, inside)) if inside[at]}
    begins |= {i for i in range(count) if inside[i] and (i == 0 or not inside[i - 1])}
    saved, transient, backward = (
        np.where(inside[:count], 0.0, costs.saved),
        costs.transient.copy(),
        costs.backward.copy(),
    )
    segments = list[tuple[int, int]]()
    for first in sorted(begins):
        end = next(i for i in range(first + 1, count + 1) if not inside[i] or i in begins)
        segments.append((first, end))
        before = costs.crossing[first - 1] if first else 0.0
        saved[first] += (
            before if first and inside[first - 1] else max(0.0, before - (saved[first - 1] if first else 0.0))
        )
        if end < count and not inside[end]:
            saved[end - 1] += costs.crossing[end - 1]
        transient[first:end] += costs.saved[first:end].sum()
        backward[first:end] += costs.forward[first:end]
    return replace(costs, saved=saved, transient=transient, backward=backward), tuple(segments)


GRID = 4096
"""Cells of the bytes that are shared out among segments that are kept."""


def spared(costs: Line, segments: Segments, room: float) -> Segments:
    """The segments that are computed again where `room` bytes are left beside all of them: the others are kept whole.

    Keeping one saves its forward seconds and takes its bytes less what crosses into it anyway. Which are kept is a
    knapsack, solved by dynamic programming over bytes rounded up to a grid: exact but for that, and never above `room`.
    """
    import numpy as np

    if not segments or room <= 0:
        return segments
    cell = room / GRID
    best = np.zeros(GRID + 1)
    taken = np.zeros((len(segments), GRID + 1), dtype=bool)
    for number, (first, end) in enumerate(segments):
        size = costs.saved[first:end].sum() - (costs.crossing[first - 1] if first else 0.0)
        cells = max(0, int(np.ceil(size / cell)))
        if cells > GRID:
            continue
        with_it = np.full(GRID + 1, -np.inf)
        with_it[cells:] = best[: GRID + 1 - cells] + costs.forward[first:end].sum()
        taken[number] = with_it > best
        best = np.maximum(best, with_it)
    left, kept = int(best.argmax()), set[int]()
    for number in reversed(range(len(segments))):
        if taken[number, left]:
            first, end = segments[number]
            kept.add(number)
            size = costs.saved[first:end].sum() - (costs.crossing[first - 1] if first else 0.0)
            left -= max(0, int(np.ceil(size / cell)))
    return tuple(segment for number, segment in enumerate(segments) if number not in kept)


def without(costs: Line, again: Line, segments: Segments, kept: Segments) -> Line:
    """The line `again`, in which all `segments` are computed again, with all but the `kept` ones held as in `costs`."""
    saved, transient, backward = again.saved.copy(), again.transient.copy(), again.backward.copy()
    for first, end in segments:
        if (first, end) not in kept:
            saved[first:end], transient[first:end] = costs.saved[first:end], costs.transient[first:end]
            backward[first:end] = costs.backward[first:end]
    return replace(again, saved=saved, transient=transient, backward=backward)


def _only(costs: Line, inside: NDArray[np.bool_]) -> Line:
    """The line in which only these ops keep anything."""
    import numpy as np

    return costs if inside[:-1].all() else replace(costs, saved=np.where(inside[:-1], costs.saved, 0.0))
