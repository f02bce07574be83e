"""Better assignments from known ones: parts of two of them, and other values of single variables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from passes.planning.criteria import Criteria, Goal
from passes.planning.elimination import edge_costs, variable_costs
from passes.planning.structure import Structure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from passes.planning.criteria import Costs

    Array = NDArray[np.float64]
    Indices = NDArray[np.int64]

ROUNDS = 20
"""How often all single changes are compared."""

TRIED = 4000
"""Of the single changes that help, so many of the best are tried a round."""


def mixed(criteria: Criteria, goal: Goal, front: Indices, back: Indices) -> Indices:
    """The best of: the first k variables in line as in `front`, the others as in `back`, for every k."""
    import numpy as np

    line = _line(criteria.structure)
    one = _prefixes(criteria.structure, criteria.first, line, front, back)
    other = _prefixes(criteria.structure, criteria.second, line, front, back)
    values, first = back.copy(), line[: int(goal.value(one, other).argmin())]
    values[first] = front[first]
    return np.asarray(values)


def _line(structure: Structure) -> Indices:
    """The variables by their numbers, but one without later neighbours right after its earliest one.

    So variables that were numbered after all others, as those of tensors after those of operators, stand where they
    belong.
    """
    import numpy as np

    u, v, _ = structure.edges.T
    places = np.arange(len(structure.kinds), dtype=float)
    latest, earliest = np.full(len(places), -1.0), places.copy()
    np.maximum.at(latest, u, v)
    np.maximum.at(latest, v, u)
    np.minimum.at(earliest, u, v)
    np.minimum.at(earliest, v, u)
    return np.argsort(np.where(latest < places, earliest + 0.5, places), kind="stable")


def _prefixes(structure: Structure, costs: Costs, line: Indices, front: Indices, back: Indices) -> Array:
    """[k]: the cost with the first k variables in line as in `front`."""
    import numpy as np

    unary, pair = costs
    place = np.argsort(line)
    u, v, _ = structure.edges.T
    early, late = np.minimum(place[u], place[v]), np.maximum(place[u], place[v])
    between = np.where(
        place[u] < place[v], edge_costs(structure, pair, front, back), edge_costs(structure, pair, back, front)
    )
    before, after = edge_costs(structure, pair, back, back), edge_costs(structure, pair, front, front)
    steps = np.zeros(len(front) + 1)
    steps[0] = variable_costs(structure, unary, back).sum() + before.sum()
    steps[1:] = (variable_costs(structure, unary, front) - variable_costs(structure, unary, back))[line]
    forbidden = np.isinf(between)
    between = np.where(forbidden, 0.0, between)
    np.add.at(steps, early + 1, between - before)
    np.add.at(steps, late + 1, after - between)
    out = np.zeros(len(front) + 1)
    np.add.at(out, early[forbidden] + 1, 1.0)
    np.add.at(out, late[forbidden] + 1, -1.0)
    return np.where(np.cumsum(out) > 0.0, np.inf, np.cumsum(steps))


def improved(criteria: Criteria, goal: Goal, multiplier: float, values: Indices) -> Indices:
    """Change single variables while that helps: first what costs least of the relaxed cost for what it gains."""
    import numpy as np

    values = values.copy()
    near = _neighbours(criteria.structure)
    for _ in range(ROUNDS):
        first, second = criteria.both(values)
        variables, options, one, other = _changes(criteria, values)
        value = float(goal.value(np.asarray(first), np.asarray(second)))
        gain = value - goal.value(first + one, second + other)
        useful = np.flatnonzero(gain > 1e-12 * abs(value))
        if not len(useful):
            break
        weights = goal.weights(multiplier)
        relaxed = weights[0] * one[useful] + weights[1] * other[useful]
        useful = useful[np.argsort(relaxed / gain[useful], kind="stable")[:TRIED]]
        blocked = np.zeros(len(values), dtype=bool)
        for i in useful.tolist():
            v = int(variables[i])
            if blocked[v]:
                continue
            if goal.value(first + one[i], second + other[i]) < goal.value(np.asarray(first), np.asarray(second)):
                first, second, values[v] = first + float(one[i]), second + float(other[i]), options[i]
                blocked[v] = True
                blocked[near[v]] = True
    return values


def _neighbours(structure: Structure) -> list[list[int]]:
    near: list[list[int]] = [[] for _ in structure.kinds]
    for u, v, _ in structure.edges.tolist():
        near[u].append(v)
        near[v].append(u)
    return near


def _changes(criteria: Criteria, values: Indices) -> tuple[Indices, Indices, Array, Array]:
    """(variable, option, change of the first cost, change of the second) of all single changes that are allowed."""
    import numpy as np

    changes: list[tuple[Indices, Indices, Array, Array]] = []
    ones_of, others_of = (_at_values(criteria.structure, costs, values) for costs in (criteria.first, criteria.second))
    for kind, (one, other) in enumerate(zip(ones_of, others_of, strict=True)):
        members = np.flatnonzero(criteria.structure.kinds == kind)
        own = values[members][:, None]
        row, option = np.nonzero(np.isfinite(one) & (np.arange(one.shape[1]) != own))
        now = row, own[row, 0]
        changes.append((members[row], option, one[row, option] - one[now], other[row, option] - other[now]))
    variables, options, first, second = (np.concatenate(each) for each in zip(*changes, strict=True))
    return variables, options, first, second


def _at_values(structure: Structure, costs: Costs, values: Indices) -> list[Array]:
    """By kind: [i, option] = the cost of the i-th variable of a kind and of its edges, where the others stay."""
    import numpy as np

    unary, pair = costs
    found = [np.repeat(table[None], int((structure.kinds == kind).sum()), axis=0) for kind, table in enumerate(unary)]
    place = np.zeros(len(values), dtype=np.int64)
    for kind in range(len(unary)):
        members = np.flatnonzero(structure.kinds == kind)
        place[members] = np.arange(len(members))
    for kind, (of_u, of_v) in structure.ends_of_edges.items():
        u, v, _ = structure.edges[structure.edges[:, 2] == kind].T
        np.add.at(found[of_u], place[u], pair[kind].T[values[v]])
        np.add.at(found[of_v], place[v], pair[kind][values[u]])
    return found
