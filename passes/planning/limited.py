"""The cheapest assignment that keeps a limit on its bytes, and the one whose larger of two costs is least.

First the best Lagrangian bound (passes/planning/dual.py), whose assignments lie on either side of the limit; then parts
of the two are joined and single variables changed. What the bound leaves open is closed, where it is asked for and the
problem is not too large, by enumeration with bounds (passes/planning/labels.py), then by HiGHS. What is returned says
how far it may be from the best.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import TYPE_CHECKING

from passes.planning.criteria import Criteria, Goal, Larger, Within, criteria
from passes.planning.dominance import undominated
from passes.planning.dual import Dual, dual
from passes.planning.elimination import minimise, original, restricted
from passes.planning.improve import improved, mixed
from passes.planning.labels import enumerate_labels
from passes.planning.milp import small, solve_with_highs
from passes.planning.structure import Structure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from passes.planning.criteria import Costs

    Array = NDArray[np.float64]
    Indices = NDArray[np.int64]

__all__ = ["Largest", "Limited", "least_bytes", "minimise_limited", "minimise_max"]

ROUNDING = 1e-9
"""A relative gap up to this is none."""

WIDTHS = (200, 2_000, 20_000)
"""Labels kept in turn, until the gap is closed."""

WORK = 2**26
"""Labels times options of all variables that are tried at most, where no time is given."""


@dataclass(frozen=True, slots=True)
class Limited:
    """An assignment within a limit: its cost and bytes. None within it costs less than `bound`.

    `exact` where this one is the cheapest.
    """

    cost: float
    values: Indices
    bytes: float
    bound: float
    exact: bool


@dataclass(frozen=True, slots=True)
class Largest:
    """An assignment and both its costs; of none is the larger one less than `bound`. `exact` where it is the best."""

    cost: float
    values: Indices
    first: float
    second: float
    bound: float
    exact: bool


def minimise_limited(
    structure: Structure,
    unary: Sequence[Array],
    pair: Sequence[Array],
    sizes: Sequence[Array],
    limit: float,
    *,
    gap: float = 0.0,
    seconds: float = inf,
    pair_sizes: Sequence[Array] | None = None,
    work: int = WORK,
) -> Limited | None:
    """The cheapest assignment with at most `limit` bytes; None where none was found within it.

    Bytes are the sum of `sizes[kind]` over the variables and of `pair_sizes[kind]` over the edges. Ends as soon as the
    relative gap to the bound is at most `gap`, or when `seconds` are over; what enumeration may cost is `work`.
    """
    second = sizes, _no_cost(pair) if pair_sizes is None else pair_sizes
    found = _solve(structure, (unary, pair), second, Within(limit), gap, seconds, work)
    if not isfinite(found.cost):
        return None
    return Limited(found.cost, found.values, found.second, found.bound, found.exact)


def minimise_max(
    structure: Structure, first: Costs, second: Costs, *, gap: float = 0.0, seconds: float = inf
) -> Largest:
    """The assignment whose larger one of two costs, each (unary tables, pair tables), is least."""
    return _solve(structure, first, second, Larger(), gap, seconds)


def least_bytes(
    structure: Structure,
    unary: Sequence[Array],
    pair: Sequence[Array],
    sizes: Sequence[Array],
    *,
    pair_sizes: Sequence[Array] | None = None,
) -> Limited | None:
    """The assignment of least bytes, of these the cheapest; None where every assignment's cost is infinite."""
    between = _no_cost(pair) if pair_sizes is None else pair_sizes
    both = criteria(structure, (unary, pair), (sizes, between))
    fewest = minimise(structure, *both.second)
    if not isfinite(fewest.cost):
        return None
    return minimise_limited(structure, unary, pair, sizes, fewest.cost, pair_sizes=between)


def _no_cost(pair: Sequence[Array]) -> list[Array]:
    import numpy as np

    return [np.zeros(np.shape(table)) for table in pair]


def _solve(
    structure: Structure, first: Costs, second: Costs, goal: Goal, gap: float, seconds: float, work: int = WORK
) -> Largest:
    """The best of both criteria for a goal; an infinite cost where nothing was found."""
    until = time.perf_counter() + seconds
    both = criteria(structure, first, second)
    kept = undominated(structure, [both.first, both.second])
    whole = Criteria(structure, restricted(structure, kept, *both.first), restricted(structure, kept, *both.second))
    bounded = dual(whole, goal, max(gap, ROUNDING))
    if not isfinite(bounded.bound):
        return Largest(inf, original(structure, kept, bounded.points[-1].values), inf, inf, inf, True)
    known = _Known(whole, goal, bounded, max(gap, ROUNDING), work)
    known.close(until)
    values, exact = original(structure, kept, known.values), known.gap <= ROUNDING
    return Largest(known.value, values, *both.both(values), known.value if exact else known.bound, exact)


class _Known:
    """The best assignment so far and the best bound."""

    def __init__(self, criteria: Criteria, goal: Goal, bounded: Dual, enough: float, work: int) -> None:
        self.criteria, self.goal, self.multiplier, self.enough = criteria, goal, bounded.multiplier, enough
        self.work = work
        self.bound, self.value, self.values = bounded.bound, inf, bounded.points[-1].values
        for point in bounded.points:
            self.offer(point.values)
        if len(bounded.points) == 2 and not self.good:
            over, under = (point.values for point in bounded.points)
            self.offer(mixed(criteria, goal, over, under))
            self.offer(mixed(criteria, goal, under, over))

    @property
    def gap(self) -> float:
        """How far the value may be from the best, relative to it."""
        if self.value <= self.bound:
            return 0.0
        return (self.value - self.bound) / abs(self.value) if isfinite(self.value) else inf

    @property
    def good(self) -> bool:
        """Whether this is near enough."""
        return self.gap <= self.enough

    def offer(self, values: Indices | None) -> None:
        """Take an assignment if it is better than what is known."""
        import numpy as np

        if values is None:
            return
        first, second = self.criteria.both(values)
        value = float(self.goal.value(np.asarray(first), np.asarray(second)))
        if value < self.value:
            self.value, self.values = value, values

    def close(self, until: float) -> None:
        """Improve the assignment and the bound until the gap is small enough, with ever more work."""
        if self.good or not isfinite(self.value):
            return
        self.offer(improved(self.criteria, self.goal, self.multiplier, self.values))
        options = sum(len(self.criteria.first[0][kind]) for kind in self.criteria.structure.kinds.tolist())
        for width in WIDTHS:
            if self.good or (until == inf and width * options > self.work) or time.perf_counter() > until:
                break
            self.enumerate(width, until)
        if not self.good and small(self.criteria.structure, self.criteria.first) and time.perf_counter() < until:
            found = solve_with_highs(self.criteria, self.goal, self.enough, until - time.perf_counter())
            self.offer(found.values)
            self.bound = max(self.bound, min(found.bound, self.value))

    def enumerate(self, width: int, until: float) -> None:
        """Look for what is better by more than the gap that is good enough."""
        below = self.value - 0.5 * self.enough * abs(self.value)
        found = enumerate_labels(self.criteria, self.goal, self.multiplier, below, width, until)
        if found is not None:
            self.offer(found.values)
            self.bound = max(self.bound, min(found.bound, self.value))
