"""The best Lagrangian bound of two criteria, and the assignments that support it.

The bound is concave and piecewise linear in the multiplier λ, one line for each assignment. Two assignments on either
side of the goal's excess meet at some λ; either they are the cheapest there, and λ is the best, or a cheaper one takes
the place of one of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite
from typing import TYPE_CHECKING

from passes.planning.criteria import Criteria, Goal
from passes.planning.elimination import least

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Indices = NDArray[np.int64]

ROUNDS = 100
"""Multipliers tried at most; ten are usual."""

EXACT = 1e-12
"""Relative differences below this are rounding."""


@dataclass(frozen=True, slots=True)
class Point:
    """An assignment and its two costs; `relaxed` is what no assignment's weighted cost is below."""

    values: Indices
    first: float
    second: float
    relaxed: float


@dataclass(frozen=True, slots=True)
class Dual:
    """The best multiplier and its bound; the assignments beside it, the last one within the goal if any is."""

    multiplier: float
    bound: float
    points: tuple[Point, ...]


def dual(criteria: Criteria, goal: Goal, gap: float = EXACT) -> Dual:
    """The best multiplier, or one whose bound is within a relative gap of an assignment.

    Where nothing reaches the goal the bound is infinite.
    """
    import numpy as np

    over = _point(criteria, goal, 0.0)
    if not isfinite(over.first) or goal.excess(over.first, over.second) <= 0.0:
        return Dual(0.0, over.relaxed, (over,))
    under = _point(criteria, goal, goal.most)
    if goal.excess(under.first, under.second) > 0.0:
        return Dual(goal.most, under.relaxed if isfinite(goal.most) else inf, (under,))
    best, bound = 0.0, over.relaxed
    for _ in range(ROUNDS):
        multiplier = (under.first - over.first) / (_excess(goal, over) - _excess(goal, under))
        if multiplier <= 0.0:
            break
        found = _point(criteria, goal, multiplier)
        if found.relaxed + goal.offset(multiplier) > bound:
            best, bound = multiplier, found.relaxed + goal.offset(multiplier)
        one, other = goal.weights(multiplier)
        line = one * over.first + other * over.second
        if one * found.first + other * found.second >= line - EXACT * abs(line):
            break
        over, under = (over, found) if _excess(goal, found) <= 0.0 else (found, under)
        if float(goal.value(np.asarray(under.first), np.asarray(under.second))) * (1.0 - gap) <= bound:
            break
    return Dual(best, bound, (over, under))


def _excess(goal: Goal, point: Point) -> float:
    return goal.excess(point.first, point.second)


def _point(criteria: Criteria, goal: Goal, multiplier: float) -> Point:
    found = least(criteria.structure, *criteria.weighted(*goal.weights(multiplier)))
    if not isfinite(found.cost):
        return Point(found.values, inf, inf, inf)
    return Point(found.values, *criteria.both(found.values), found.bound)
