"""The least sum of tables over variables with few values each: exact, by variable elimination.

Eliminating a variable adds up the tables that mention it and minimises over its values; what is left is one table over
its neighbours. The order is min-fill (the variable whose neighbours need the fewest new pairs, of equals the first), so
the tables stay small on networks, whose graphs are near to trees. Where a table would still grow beyond `MAX_ENTRIES`,
the most connected variables are held until the rest is small. If there are few ways to hold them, each is tried, which
is exact too; if there are many, they are improved one at a time from several starts, and the solution says `exact =
False`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

MAX_ENTRIES = 2**20
"""Entries of the largest table that elimination may make: 8 MiB."""

MAX_TRIALS = 100
"""Ways to hold the most connected variables up to which all are tried."""


@dataclass(frozen=True, slots=True)
class Factor:
    """A cost that depends on some variables: one axis of `table` for each of `scope`, which is in rising order."""

    scope: tuple[int, ...]
    table: Array


@dataclass(frozen=True, slots=True)
class Problem:
    """`sizes[v]` is the number of values of variable v; the cost is the sum of the factors and `constant`."""

    sizes: tuple[int, ...]
    factors: tuple[Factor, ...]
    constant: float = 0.0


@dataclass(frozen=True, slots=True)
class Solution:
    """A value for each variable, and the cost; `exact` where no assignment costs less."""

    values: tuple[int, ...]
    cost: float
    exact: bool = True


def solve(problem: Problem) -> Solution:
    """The cheapest assignment; of equal ones the variable eliminated last takes its first value."""
    cutset, order = _cutset(problem)
    if prod(problem.sizes[v] for v in cutset) <= MAX_TRIALS:
        trials = product(*(range(problem.sizes[v]) for v in cutset))
        found = min((_held(problem, dict(zip(cutset, t, strict=True)), order) for t in trials), key=_cost)
    else:
        found = _descend(problem, cutset, order)
    if found.cost == float("inf"):
        raise ValueError("every assignment has an infinite cost")
    return found


def _cost(solution: Solution) -> float:
    return solution.cost


def _held(problem: Problem, held: Mapping[int, int], order: tuple[int, ...]) -> Solution:
    """The cheapest assignment with some variables at given values."""
    found = _eliminate(_fixed(problem, held), order)
    return Solution(tuple(held.get(v, value) for v, value in enumerate(found.values)), found.cost)


def _descend(problem: Problem, cutset: tuple[int, ...], order: tuple[int, ...]) -> Solution:
    """Hold a set of variables at one value, the best one, then free each in turn, at most three rounds."""
    starts = range(max(problem.sizes[v] for v in cutset))
    alike = ({v: min(start, problem.sizes[v] - 1) for v in cutset} for start in starts)
    best = min((_held(problem, values, order) for values in alike), key=_cost)
    for _ in range(3):
        before = best.cost
        for free in cutset:
            tried = _held(problem, {v: best.values[v] for v in cutset if v != free}, order)
            best = min(best, tried, key=_cost)
        if best.cost == before:
            break
    return replace(best, exact=False)


def _cutset(problem: Problem) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(the most connected variables, an order of elimination that has them last).

    They are as many as leave a rest that can be eliminated with one of them free.
    """
    held, rest, (order, largest) = list[int](), problem, min_fill(problem)
    while max(rest.sizes, default=1) > 1 and largest > MAX_ENTRIES // (max(problem.sizes) if held else 1):
        for _ in range(1 + len(held) // 4):
            held.append(_most_connected(rest))
            rest = _fixed(rest, {held[-1]: 0})
        order, largest = min_fill(rest)
    return tuple(held), (*(v for v in order if v not in held), *held)


def min_fill(problem: Problem) -> tuple[tuple[int, ...], int]:
    """(elimination order, entries of the largest table on the way)."""
    neighbours: list[set[int]] = [set() for _ in problem.sizes]
    for factor in problem.factors:
        for variable in factor.scope:
            neighbours[variable].update(factor.scope)
            neighbours[variable].discard(variable)
    fill = [_missing(variable, neighbours) for variable in range(len(problem.sizes))]
    left, order, largest = set(range(len(problem.sizes))), list[int](), 1
    while left:
        variable = min(left, key=lambda v: (fill[v], v))
        around = neighbours[variable]
        largest = max(largest, prod(problem.sizes[v] for v in around) * problem.sizes[variable])
        for other in around:
            neighbours[other] |= around
            neighbours[other] -= {other, variable}
        left.discard(variable)
        order.append(variable)
        for touched in around.union(*(neighbours[other] for other in around)):
            fill[touched] = _missing(touched, neighbours)
    return tuple(order), largest


def _missing(variable: int, neighbours: list[set[int]]) -> int:
    """How many pairs of its neighbours are not neighbours of each other."""
    around = neighbours[variable]
    return sum(len(around - neighbours[other]) - 1 for other in around) // 2


@dataclass(frozen=True, slots=True)
class _Bucket:
    """One elimination: the sum of all tables that mentioned the variable, and what was handed on without it."""

    variable: int
    total: Factor
    rest: Factor


def _forward(problem: Problem, order: tuple[int, ...]) -> tuple[tuple[_Bucket, ...], float]:
    """(the eliminations in order, the least cost)."""
    place = {variable: i for i, variable in enumerate(order)}
    waiting: dict[int, list[Factor]] = {variable: [] for variable in order}
    for factor in problem.factors:
        waiting[min(factor.scope, key=place.__getitem__)].append(factor)
    made, constant = list[_Bucket](), problem.constant
    for variable in order:
        total = _sum(waiting[variable], problem.sizes, variable)
        axis = total.scope.index(variable)
        rest = Factor(total.scope[:axis] + total.scope[axis + 1 :], total.table.min(axis=axis))
        made.append(_Bucket(variable, total, rest))
        if rest.scope:
            waiting[min(rest.scope, key=place.__getitem__)].append(rest)
        else:
            constant += float(rest.table)
    return tuple(made), constant


def _eliminate(problem: Problem, order: tuple[int, ...]) -> Solution:
    """Forward through the order making tables, backward through it reading off the cheapest values."""
    import numpy as np

    made, cost = _forward(problem, order)
    values = [0] * len(problem.sizes)
    for bucket in reversed(made):
        scope, table = bucket.total.scope, bucket.total.table
        row = table[tuple(slice(None) if v == bucket.variable else values[v] for v in scope)]
        values[bucket.variable] = int(np.argmin(row))
    return Solution(tuple(values), cost)


def second_best(problem: Problem, best: Solution, variables: int) -> Solution | None:
    """The cheapest assignment that differs from the best in one or more of the first `variables` variables.

    Some variable has another value in it, so it exceeds the best by the least that any min-marginal (the cheapest cost
    with one variable held at one value) at another value exceeds that at the best one. None where there is no other, or
    where elimination would make a table beyond `MAX_ENTRIES`.
    """
    order, largest = min_fill(problem)
    if largest > MAX_ENTRIES:
        return None
    marginals = _min_marginals(problem, order)
    others = [
        (float(marginals[v][value] - marginals[v].min()), v, value)
        for v in range(variables)
        for value in range(problem.sizes[v])
        if value != best.values[v]
    ]
    if not others:
        return None
    _, variable, value = min(others)
    found = _eliminate(_fixed(problem, {variable: value}), order)
    return Solution((*found.values[:variable], value, *found.values[variable + 1 :]), found.cost)


def _min_marginals(problem: Problem, order: tuple[int, ...]) -> dict[int, Array]:
    """For each variable the least cost at each of its values, constants of other components apart.

    A bucket's table lacks what comes after it. The one that its rest was handed to knows: its own table and what it
    lacks itself, less the rest that was handed to it.
    """
    import numpy as np

    made, _ = _forward(problem, order)
    place = {variable: i for i, variable in enumerate(order)}
    lacking: dict[int, Factor] = {}
    marginals: dict[int, Array] = {}
    for bucket in reversed(made):
        whole = bucket.total
        if bucket.rest.scope:
            after = made[min(place[v] for v in bucket.rest.scope)]
            outside = _less(lacking[after.variable], bucket.rest)
            needed = tuple(i for i, v in enumerate(outside.scope) if v not in bucket.rest.scope)
            handed = Factor(bucket.rest.scope, outside.table.min(axis=needed))
            whole = _sum([bucket.total, handed], problem.sizes, bucket.variable)
        lacking[bucket.variable] = whole
        axes = tuple(i for i, v in enumerate(whole.scope) if v != bucket.variable)
        marginals[bucket.variable] = np.asarray(whole.table.min(axis=axes))
    return marginals


def _less(whole: Factor, part: Factor) -> Factor:
    """A sum without one of its terms; infinite where the sum is."""
    import numpy as np

    sizes = [size if v in part.scope else 1 for v, size in zip(whole.scope, whole.table.shape, strict=True)]
    term = np.where(np.isinf(part.table), 0.0, part.table).reshape(sizes)
    return Factor(whole.scope, whole.table - term)


def _sum(factors: list[Factor], sizes: tuple[int, ...], variable: int) -> Factor:
    """The sum of tables, as one table over all variables that they mention."""
    import numpy as np

    scope = tuple(sorted({variable}.union(*(factor.scope for factor in factors))))
    total = np.zeros([sizes[v] for v in scope])
    for factor in factors:
        total += factor.table.reshape([sizes[v] if v in factor.scope else 1 for v in scope])
    return Factor(scope, total)


def _most_connected(problem: Problem) -> int:
    """The variable with several values that shares factors with most others, of equals the first."""
    around: list[set[int]] = [set() for _ in problem.sizes]
    for factor in problem.factors:
        for variable in factor.scope:
            around[variable].update(v for v in factor.scope if problem.sizes[v] > 1)
    return max((v for v, size in enumerate(problem.sizes) if size > 1), key=lambda v: (len(around[v]), -v), default=0)


def _fixed(problem: Problem, held: Mapping[int, int]) -> Problem:
    """The problem with some variables given their values: they keep their numbers and have one value."""
    sizes = tuple(1 if v in held else size for v, size in enumerate(problem.sizes))
    factors, constant = list[Factor](), problem.constant
    for factor in problem.factors:
        if held.keys().isdisjoint(factor.scope):
            factors.append(factor)
            continue
        table = factor.table[tuple(held.get(v, slice(None)) for v in factor.scope)]
        scope = tuple(v for v in factor.scope if v not in held)
        if scope:
            factors.append(Factor(scope, table))
        else:
            constant += float(table)
    return Problem(sizes, tuple(factors), constant)
