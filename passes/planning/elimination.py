"""The least sum of tables over the variables of a graph, exact, by eliminating one variable after another.

`structure` finds once a graph which tables come of which (passes/planning/structure.py); `minimise` computes their
entries, each distinct table once, and reads off the cheapest values backwards. Where the graph is reduced to nothing by
variables with at most two neighbours, as chains, trees, residual blocks and branches are, the largest table has two
axes; what is left otherwise is solved by `passes.planning.core`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from passes.planning.core import Found, solve_core
from passes.planning.dominance import undominated
from passes.planning.structure import Given, Least, Structure, Sum, structure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Indices = NDArray[np.int64]

__all__ = ["Assignment", "Structure", "least_cost", "minimise", "structure", "total"]

FEW = 8
"""Equal variables up to which each is looked up by itself, whether or not others have the same neighbours."""

SMALL = 2**16
"""Sums of a product of tables that are made at once rather than value by value."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """A value for each variable and their cost; no assignment costs less than `bound`.

    `exact` where this one is the cheapest. The cost is infinite where every assignment's is.
    """

    cost: float
    values: Indices
    exact: bool
    bound: float


def minimise(structure: Structure, unary: Sequence[Array], pair: Sequence[Array]) -> Assignment:
    """The cheapest assignment: each variable costs `unary[its kind]`, each edge `pair[its kind]`, oriented as the edge.

    Entries may be infinite, not negative infinity; of values that cost the same the first is taken. Where tables of
    three variables and more are needed, options that cannot be better than another one are removed first.
    """
    if not structure.core.variables:
        return least(structure, unary, pair)
    kept = undominated(structure, [(unary, pair)])
    found = least(structure, *restricted(structure, kept, unary, pair))
    return replace(found, values=original(structure, kept, found.values))


def least(structure: Structure, unary: Sequence[Array], pair: Sequence[Array]) -> Assignment:
    """As `minimise`, with every option as it is."""
    import numpy as np

    if any(len(unary[kind]) == 0 for kind in np.unique(structure.kinds)):
        return Assignment(float("inf"), np.zeros(len(structure.kinds), dtype=np.int64), True, float("inf"))
    found = evaluate(structure, unary, pair)
    values = found.values()
    cost = total(structure, unary, pair, values)
    return Assignment(cost, values, found.core.exact, cost if found.core.exact else min(cost, found.bound))


def least_cost(structure: Structure, unary: Sequence[Array], pair: Sequence[Array]) -> float:
    """What no assignment costs less than: the cost of the cheapest one, where `minimise` is exact."""
    if structure.core.variables:
        return minimise(structure, unary, pair).bound
    if any(len(column) == 0 for column in unary):
        return float("inf")
    return evaluate(structure, unary, pair).bound


def total(structure: Structure, unary: Sequence[Array], pair: Sequence[Array], values: Indices) -> float:
    """What an assignment costs."""
    return float(variable_costs(structure, unary, values).sum() + edge_costs(structure, pair, values, values).sum())


def variable_costs(structure: Structure, unary: Sequence[Array], values: Indices) -> Array:
    """The cost of each variable by itself."""
    import numpy as np

    starts = np.cumsum([0, *(len(table) for table in unary)])
    entries = np.concatenate([*unary, np.zeros(0)])
    return np.asarray(entries[starts[structure.kinds] + values])


def edge_costs(structure: Structure, pair: Sequence[Array], first: Indices, second: Indices) -> Array:
    """The cost of each edge (u, v), where u has its value of `first` and v its value of `second`."""
    import numpy as np

    u, v, kinds = structure.edges.T
    starts = np.cumsum([0, *(table.size for table in pair)])
    widths = np.array([table.shape[1] for table in pair], dtype=np.int64)
    entries = np.concatenate([*(table.ravel() for table in pair), np.zeros(0)])
    return np.asarray(entries[starts[kinds] + first[u] * widths[kinds] + second[v]])


def restricted(
    structure: Structure, kept: Sequence[Indices], unary: Sequence[Array], pair: Sequence[Array]
) -> tuple[list[Array], list[Array]]:
    """The tables of the options that are kept: `kept[k]` are option numbers of kind k."""
    import numpy as np

    ends = structure.ends_of_edges
    return (
        [np.asarray(table, dtype=float)[keep] for table, keep in zip(unary, kept, strict=False)],
        [
            np.asarray(table, dtype=float)[np.ix_(kept[ends[kind][0]], kept[ends[kind][1]])]
            if kind in ends
            else np.zeros((0, 0))
            for kind, table in enumerate(pair)
        ],
    )


def original(structure: Structure, kept: Sequence[Indices], values: Indices) -> Indices:
    """Values among the options that were kept as numbers among all options."""
    import numpy as np

    starts = np.cumsum([0, *(len(keep) for keep in kept)])
    entries = np.concatenate([*kept, np.zeros(1, dtype=np.int64)])
    return np.asarray(entries[np.minimum(starts[structure.kinds] + values, len(entries) - 1)])


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The table of every symbol of a structure, and what was found for its core."""

    structure: Structure
    tables: Sequence[Array]
    core: Found

    @property
    def bound(self) -> float:
        """No assignment costs less; the least cost itself where the core is exact."""
        scalars = (count * float(self.tables[symbol]) for symbol, count in self.structure.scalars)
        return float(sum(scalars)) + self.core.bound

    def values(self) -> Indices:
        """The cheapest assignment: the core's, then back through the groups."""
        import numpy as np

        values = np.zeros(len(self.structure.kinds), dtype=np.int64)
        values[list(self.structure.core.variables)] = self.core.values
        for group in reversed(self.structure.groups):
            around = values[group.neighbours]
            if len(around) <= FEW:
                values[group.variables] = self.costs(group.symbol, around).argmin(axis=1)
                continue
            _, one, places = np.unique(row_numbers(around), return_index=True, return_inverse=True)
            values[group.variables] = self.costs(group.symbol, around[one]).argmin(axis=1)[places]
        return values

    def costs(self, symbol: int, around: Indices) -> Array:
        """[i, value]: the cost of a variable eliminated by a `Least`, and of all before it, at its neighbours' values.

        `around[i, j]` is the value of its j-th neighbour.
        """
        import numpy as np

        step = self.structure.definitions[symbol]
        assert isinstance(step, Least)
        costs = np.broadcast_to(self.tables[step.unary], (len(around), len(self.tables[step.unary])))
        for axis, pair in enumerate(step.pairs):
            costs = costs + oriented(self.tables, pair).T[around[:, axis]]
        return costs


def evaluate(structure: Structure, unary: Sequence[Array], pair: Sequence[Array]) -> Evaluation:
    """The entries of all tables, each distinct one once."""
    tables: list[Array] = []
    for definition in structure.definitions:
        match definition:
            case Given(index, edge):
                tables.append((pair if edge else unary)[index])
            case Sum(terms):
                tables.append(sum((oriented(tables, term) for term in terms[1:]), oriented(tables, terms[0])))
            case Least(own, pairs):
                tables.append(_least(tables[own], [oriented(tables, symbol) for symbol in pairs]))
    core = structure.core
    place = {variable: i for i, variable in enumerate(core.variables)}
    joined = [(place[a], place[b], oriented(tables, symbol)) for a, b, symbol in core.pairs]
    return Evaluation(structure, tables, solve_core([tables[symbol] for symbol in core.unary], joined))


def row_numbers(rows: Indices) -> Indices:
    """A number for each row of small numbers, the same for equal rows."""
    import numpy as np

    numbers = np.zeros(len(rows), dtype=np.int64)
    for column in rows.T:
        size = int(column.max(initial=0)) + 1
        if int(numbers.max(initial=0)) > np.iinfo(np.int64).max // size - 1:
            numbers = np.unique(numbers, return_inverse=True)[1]
        numbers = numbers * size + column
    return numbers


def oriented(tables: Sequence[Array], symbol: int) -> Array:
    """The table of an oriented symbol: `2 * symbol`, plus 1 where it is transposed."""
    table = tables[symbol >> 1]
    return table.T if symbol & 1 else table


def _least(own: Array, pairs: Sequence[Array]) -> Array:
    import numpy as np

    if not pairs:
        return np.asarray(own.min())
    first = own[:, None] + pairs[0]
    return np.asarray(first.min(axis=0)) if len(pairs) == 1 else min_plus(first, pairs[1])


def min_plus(first: Array, second: Array) -> Array:
    """[a, b] = the least over v of first[v, a] + second[v, b]."""
    import numpy as np

    rows, columns = first.shape[1], second.shape[1]
    if second.size * rows <= SMALL:
        return np.asarray((np.ascontiguousarray(first.T)[:, :, None] + second).min(axis=1))
    second = np.ascontiguousarray(second)
    best, sums = np.full((rows, columns), np.inf), np.empty((rows, columns))
    for column, row in zip(np.ascontiguousarray(first), second, strict=True):
        np.add(column[:, None], row, out=sums)
        np.minimum(best, sums, out=best)
    return best
