"""Two criteria as a mixed integer program for HiGHS, through SciPy.

One binary for each option of each variable, of which one is chosen; for each edge and two values a share in [0, 1]
whose sums over either end are the other's binaries. (The local polytope of the graph.)
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING

from passes.planning.criteria import Criteria, Goal, Within
from passes.planning.structure import Structure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from scipy.optimize import LinearConstraint

    from passes.planning.criteria import Costs

    Array = NDArray[np.float64]
    Indices = NDArray[np.int64]

MAX_BINARIES = 4_000
"""Options of all variables together up to which HiGHS is tried."""

MAX_SHARES = 50_000
"""Entries of the tables of all edges together up to which HiGHS is tried."""

MAX_NODES = 10_000
"""Nodes of HiGHS' search, so that it ends, and in the same way each time."""

INFEASIBLE = 2
"""SciPy's status of a program without a solution."""


@dataclass(frozen=True, slots=True)
class Solved:
    """The assignment that HiGHS found, if any, and its bound."""

    values: Indices | None
    bound: float


def small(structure: Structure, costs: Costs) -> bool:
    """Whether HiGHS is likely to solve it in seconds."""
    unary, pair = costs
    binaries = sum(len(unary[kind]) for kind in structure.kinds.tolist())
    return binaries <= MAX_BINARIES and sum(pair[kind].size for kind in structure.edges[:, 2].tolist()) <= MAX_SHARES


def solve_with_highs(criteria: Criteria, goal: Goal, gap: float, seconds: float) -> Solved:
    """As good as HiGHS gets within a relative gap or so many seconds."""
    import numpy as np
    from scipy.optimize import Bounds, LinearConstraint, milp

    structure = criteria.structure
    first, second = (_row(structure, costs) for costs in (criteria.first, criteria.second))
    upper = np.where(np.isinf(first), 0.0, 1.0)
    first, second = (np.where(np.isinf(row), 0.0, row) for row in (first, second))
    if isinstance(goal, Within):
        objective, scale = first, max(1.0, abs(goal.limit))
        wanted = LinearConstraint(second[None] / scale, -inf, goal.limit / scale)
    else:
        # One more column is the larger of both sums.
        objective, upper = np.append(np.zeros(len(first)), 1.0), np.append(upper, inf)
        wanted = LinearConstraint(np.column_stack([np.stack([first, second]), [-1.0, -1.0]]), -inf, 0.0)
    starts = _starts(structure, criteria.first)
    binaries = np.arange(len(objective)) < starts[len(structure.kinds)]
    found = milp(
        objective,
        constraints=[_marginals(structure, criteria.first, len(objective)), wanted],
        integrality=binaries.astype(int),
        bounds=Bounds(np.zeros(len(objective)), upper),
        options={"mip_rel_gap": gap, "node_limit": MAX_NODES, **({"time_limit": seconds} if seconds < inf else {})},
    )
    if found.x is None:
        return Solved(None, inf if found.status == INFEASIBLE else -inf)
    ends = starts[: len(structure.kinds) + 1].tolist()
    values = [int(found.x[a:b].argmax()) for a, b in pairwise(ends)]
    return Solved(np.array(values, dtype=np.int64), float(found.mip_dual_bound))


def _starts(structure: Structure, costs: Costs) -> Indices:
    """The first column of each variable and then of each edge, and the number of columns."""
    import numpy as np

    unary, pair = costs
    counts = [len(unary[kind]) for kind in structure.kinds.tolist()]
    counts += [pair[kind].size for kind in structure.edges[:, 2].tolist()]
    return np.cumsum([0, *counts])


def _row(structure: Structure, costs: Costs) -> Array:
    """The cost of each column."""
    import numpy as np

    unary, pair = costs
    tables = [unary[kind] for kind in structure.kinds.tolist()]
    tables += [pair[kind].ravel() for kind in structure.edges[:, 2].tolist()]
    return np.concatenate([*tables, np.zeros(0)])


def _marginals(structure: Structure, costs: Costs, columns: int) -> LinearConstraint:
    """Each variable takes one option; the shares of an edge sum to the binaries at both of its ends."""
    import numpy as np
    from scipy.optimize import LinearConstraint
    from scipy.sparse import coo_array

    count, starts = len(structure.kinds), _starts(structure, costs)
    options = np.diff(starts[: count + 1])
    rows, places, entries = [np.repeat(np.arange(count), options)], [np.arange(starts[count])], [np.ones(starts[count])]
    used = count
    for edge, (u, v, kind) in enumerate(structure.edges.tolist()):
        shares = starts[count + edge] + np.arange(costs[1][kind].size).reshape(costs[1][kind].shape)
        for end, each in ((u, shares), (v, shares.T)):
            row = used + np.arange(len(each))
            rows += [np.repeat(row, each.shape[1]), row]
            places += [each.ravel(), starts[end] + np.arange(len(each))]
            entries += [np.ones(each.size), -np.ones(len(each))]
            used += len(each)
    right = np.concatenate([np.ones(count), np.zeros(used - count)])
    at = np.concatenate(rows), np.concatenate(places)
    matrix = coo_array((np.concatenate(entries), at), shape=(used, columns)).tocsr()
    return LinearConstraint(matrix, right, right)
