"""What is left of a graph where every variable has three neighbours or more: tables of several variables.

Variables are eliminated in the order of min-fill (the variable whose neighbours need the fewest new pairs, of equals
the one that needs the smallest table, then the first). Where a table would grow beyond `MAX_ENTRIES`, the most
connected variables are held. Few ways to hold them are all tried, which is exact; otherwise they are improved one at a
time from several starts, and a bound is found by letting every table choose held variables for itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

MAX_ENTRIES = 2**20
"""Entries of the largest table that elimination may make: 8 MiB."""

MAX_TRIALS = 64
"""Ways to hold the most connected variables up to which all are tried."""

ROUNDS = 3
"""How often each held variable is freed and chosen anew."""


@dataclass(frozen=True, slots=True)
class Factor:
    """A cost that depends on some variables: one axis of `table` for each of `scope`, which is in rising order."""

    scope: tuple[int, ...]
    table: Array


@dataclass(frozen=True, slots=True)
class Bucket:
    """One elimination: all tables that mentioned the variable then, which together mention `neighbours` besides."""

    variable: int
    neighbours: tuple[int, ...]
    factors: tuple[Factor, ...]

    def costs(self, around: Sequence[Array]) -> Array:
        """The sum of the tables: one axis for each axis of the neighbours' values `around`, then the variable's.

        `around[i]` are values of the i-th neighbour; they are broadcast against each other.
        """
        import numpy as np

        at = dict(zip(self.neighbours, around, strict=True))
        total: Array = np.zeros(())
        for factor in sorted(self.factors, key=lambda factor: factor.table.size):
            rows = np.moveaxis(factor.table, factor.scope.index(self.variable), -1)
            total = total + rows[tuple(at[v] for v in factor.scope if v != self.variable)]
        return total

    def least(self, sizes: Sequence[int]) -> Factor:
        """The minimum over the variable: a table over its neighbours."""
        import numpy as np

        best: Array = np.full([sizes[v] for v in self.neighbours], np.inf)
        slices = [self._slices(factor, sizes) for factor in sorted(self.factors, key=lambda factor: factor.table.size)]
        for parts in zip(*slices, strict=True):
            total = parts[0]
            for part in parts[1:]:
                total = total + part
            np.minimum(best, total, out=best)
        return Factor(self.neighbours, best)

    def _slices(self, factor: Factor, sizes: Sequence[int]) -> Array:
        """A table with the variable's axis first, and an axis for each neighbour."""
        import numpy as np

        table = np.ascontiguousarray(np.moveaxis(factor.table, factor.scope.index(self.variable), 0))
        return table.reshape([len(table), *(sizes[v] if v in factor.scope else 1 for v in self.neighbours)])


@dataclass(frozen=True, slots=True)
class Found:
    """A value for each variable and their cost; no values cost less than `bound`.

    `buckets` are the eliminations in order; there are none where variables were held.
    """

    values: tuple[int, ...]
    cost: float
    bound: float
    exact: bool = True
    buckets: tuple[Bucket, ...] = ()


def solve_core(unary: Sequence[Array], pairs: Sequence[tuple[int, int, Array]]) -> Found:
    """The cheapest values of variables 0, 1, … with a table each, and tables over pairs (a, b), a < b."""
    if not unary:
        return Found((), 0.0, 0.0)
    sizes = tuple(len(table) for table in unary)
    factors = [Factor((v,), table) for v, table in enumerate(unary)]
    factors += [Factor((a, b), table) for a, b, table in pairs]
    order, held = elimination_order(sizes, [(a, b) for a, b, _ in pairs])
    if not held:
        buckets, cost = _forward(sizes, factors, order)
        return Found(_backward(buckets), cost, cost, True, buckets)
    if prod(sizes[v] for v in held) <= MAX_TRIALS:
        trials = product(*(range(sizes[v]) for v in held))
        values, cost = min((_held(sizes, factors, order, dict(zip(held, t, strict=True))) for t in trials), key=_cost)
        return Found(values, cost, cost)
    values, cost = _descend(sizes, factors, order, held)
    bound = _relaxed(sizes, factors, order, held)
    return Found(values, cost, min(bound, cost), bound >= cost)


def elimination_order(
    sizes: Sequence[int], pairs: Sequence[tuple[int, int]]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(all variables in an order of elimination, those that must be held, which are the last ones).

    One of the held variables may be free: room is left for it in every table.
    """
    around: list[set[int]] = [set() for _ in sizes]
    for a, b in pairs:
        around[a].add(b)
        around[b].add(a)
    left, order, held = dict.fromkeys(range(len(sizes))), list[int](), list[int]()
    fill = {v: _missing(v, around) for v in left}
    entries = {v: _entries(v, around, sizes) for v in left}
    while left:
        room = MAX_ENTRIES // (max(sizes) if held else 1)
        fits = [v for v in left if entries[v] <= room]
        v = min(fits, key=lambda v: (fill[v], entries[v] * sizes[v], v)) if fits else _most_connected(left, around)
        del left[v]
        near = around[v]
        for w in near:
            around[w].discard(v)
            if fits:
                around[w] |= near
                around[w].discard(w)
        (order if fits else held).append(v)
        for w in near.union(*(around[w] for w in near)):
            fill[w], entries[w] = _missing(w, around), _entries(w, around, sizes)
    return (*order, *held), tuple(held)


def _missing(variable: int, around: Sequence[set[int]]) -> int:
    """How many pairs of its neighbours are not neighbours of each other."""
    near = around[variable]
    return sum(len(near - around[w]) - 1 for w in near) // 2


def _entries(variable: int, around: Sequence[set[int]], sizes: Sequence[int]) -> int:
    """How many entries the table has that its elimination makes."""
    return prod(sizes[w] for w in around[variable])


def _most_connected(left: Mapping[int, None], around: Sequence[set[int]]) -> int:
    return max(left, key=lambda v: (len(around[v]), -v))


def _cost(found: tuple[tuple[int, ...], float]) -> float:
    return found[1]


def _held(
    sizes: Sequence[int], factors: Sequence[Factor], order: Sequence[int], held: Mapping[int, int]
) -> tuple[tuple[int, ...], float]:
    """The cheapest values with some variables at given ones."""
    rest = [1 if v in held else size for v, size in enumerate(sizes)]
    fixed = [
        Factor(f.scope, f.table[tuple(slice(held[v], held[v] + 1) if v in held else slice(None) for v in f.scope)])
        for f in factors
    ]
    values, cost = _eliminate(rest, fixed, order)
    return tuple(held.get(v, value) for v, value in enumerate(values)), cost


def _descend(
    sizes: Sequence[int], factors: Sequence[Factor], order: Sequence[int], held: Sequence[int]
) -> tuple[tuple[int, ...], float]:
    """Hold all at one number, the best of these; then free each in turn, while it helps."""
    starts = range(max(sizes[v] for v in held))
    alike = ({v: min(start, sizes[v] - 1) for v in held} for start in starts)
    best = min((_held(sizes, factors, order, values) for values in alike), key=_cost)
    for _ in range(ROUNDS):
        before = best
        for free in held:
            tried = _held(sizes, factors, order, {v: best[0][v] for v in held if v != free})
            best = min(best, tried, key=_cost)
        if best[1] == before[1]:
            break
    return best


def _relaxed(sizes: Sequence[int], factors: Sequence[Factor], order: Sequence[int], held: Sequence[int]) -> float:
    """A lower bound: a held variable may have another value in each table.

    Its own table is shared among the others that mention it.
    """
    rest = [1 if v in held else size for v, size in enumerate(sizes)]
    own = {f.scope[0]: f.table for f in factors if len(f.scope) == 1 and f.scope[0] in held}
    shares = {v: sum(v in f.scope and len(f.scope) > 1 for f in factors) for v in held}
    bound, relaxed = 0.0, list[Factor]()
    for f in factors:
        if len(f.scope) == 1 and f.scope[0] in held:
            bound += float(f.table.min()) if not shares[f.scope[0]] else 0.0
            continue
        table = f.table
        for axis, v in enumerate(f.scope):
            if v in held:
                shape = [-1 if i == axis else 1 for i in range(len(f.scope))]
                table = (table + own[v].reshape(shape) / shares[v]).min(axis=axis, keepdims=True)
        relaxed.append(Factor(f.scope, table))
    return bound + _eliminate(rest, relaxed, order)[1]


def _eliminate(sizes: Sequence[int], factors: Sequence[Factor], order: Sequence[int]) -> tuple[tuple[int, ...], float]:
    """The cheapest values and their cost."""
    buckets, cost = _forward(sizes, factors, order)
    return _backward(buckets), cost


def _forward(sizes: Sequence[int], factors: Sequence[Factor], order: Sequence[int]) -> tuple[tuple[Bucket, ...], float]:
    """Through the order making tables: (the buckets, the least cost)."""
    place = {variable: i for i, variable in enumerate(order)}
    waiting: list[list[Factor]] = [[] for _ in order]
    for factor in factors:
        waiting[min(place[v] for v in factor.scope)].append(factor)
    made, cost = list[Bucket](), 0.0
    for variable, known in zip(order, waiting, strict=True):
        neighbours = dict.fromkeys(v for factor in known for v in factor.scope if v != variable)
        made.append(Bucket(variable, tuple(sorted(neighbours)), tuple(known)))
        rest = made[-1].least(sizes)
        if rest.scope:
            waiting[min(place[v] for v in rest.scope)].append(rest)
        else:
            cost += float(rest.table)
    return tuple(made), cost


def _backward(buckets: Sequence[Bucket]) -> tuple[int, ...]:
    """Back through the buckets reading off the cheapest values."""
    import numpy as np

    values = [0] * len(buckets)
    for bucket in reversed(buckets):
        row = bucket.costs([np.asarray(values[v]) for v in bucket.neighbours])
        values[bucket.variable] = int(row.argmin())
    return tuple(values)
