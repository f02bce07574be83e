"""Recomputation of everything: a line of ops in segments of which only the first operands are kept.

A segment keeps what crosses into it and computes the rest a second time. Segments of about √(S·c) bytes, for S saved
bytes and c bytes that cross a good border, need the least memory: about 2·√(S·c) (T. Chen et al., "Training deep nets
with sublinear memory cost", 2016, arXiv:1604.06174). A border stands where least crosses within reach.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from passes.planning.evaluate import Line

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


def checkpointed(costs: Line) -> tuple[Line, frozenset[int]]:
    """The line with every op but those before borders computed again: its bytes and seconds, and which ops they are."""
    import numpy as np

    begins = (*borders(costs), len(costs.forward))
    saved, transient, backward = np.zeros_like(costs.saved), costs.transient.copy(), costs.backward.copy()
    again = list[int]()
    for first, end in pairwise(begins):
        saved[first] = costs.crossing[first - 1] if first else 0.0
        transient[first:end] += costs.saved[first:end].sum()
        backward[first:end] += costs.forward[first:end]
        again.extend(range(first, end))
    return replace(costs, saved=saved, transient=transient, backward=backward), frozenset(again)
