"""The exact choice of options under one strategy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING

from passes.planning.bounds import at_least
from passes.planning.elimination import Assignment, Structure, least_cost, minimise, total
from passes.planning.evaluate import Line, line
from passes.planning.limited import Largest, minimise_max
from passes.planning.objective import Objective, counted, unary_columns, unary_tables
from passes.planning.space import Space
from passes.planning.strategies import Strategy
from passes.planning.tables import Tables

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Integers = NDArray[np.int64]

    from passes.planning.criteria import Costs


@dataclass(frozen=True, slots=True)
class Solved:
    """The best choice under one strategy: option numbers of all variables, J of even stages, and no choice under it is
    below `bound`."""

    strategy: Strategy
    tables: Tables
    values: Integers
    objective: float
    bound: float
    line: Line


def solve(found: Space, strategy: Strategy, below: float = inf) -> Solved | None:
    """The best choice under one strategy; None where it surely costs more than `below`.

    An option that would cost more even if every other op took its cheapest one is left out, which most are, once a
    good plan is known. Then the choice is made without layouts, whose tables are much smaller; only where that is
    cheaper, it is made with them. Where as few ops as must be are computed again, it is made as if none were.
    """
    if strategy.stages > 1 and found.spares(strategy):
        solved = solve(found, strategy.with_(recompute="none"), below)
        return None if solved is None else replace(solved, strategy=strategy)
    tables, edges = _pruned(found, found.tables(strategy), below * (1 + ROUNDING)), found.network.edge_kinds
    if tables is None:
        return None
    shown, hidden = unary_tables(found, tables)
    moves = tables.moves(edges)
    if below < inf and _without_layouts(found, tables, (shown, hidden), moves, below) >= below * (1 - ROUNDING):
        return None
    once = tables.edges(edges, moves)
    sums = Objective(shown, hidden, counted(found, strategy, once), once)
    best = _least(found.structure, (sums.shown, sums.pair), (sums.hidden, sums.pair))
    costs = line(found.network, tables, best.values, sums.once)
    return Solved(strategy, tables, best.values, best.cost, best.bound, costs)


ROUNDING = 1e-9


def _without_layouts(
    found: Space, tables: Tables, unary: Sequence[list[Array]], moves: list[Array], enough: float
) -> float:
    """No choice costs less than the best one where layouts need no conversion; or a bound that is `enough`."""
    pair, bound = counted(found, tables.strategy, moves), 0.0
    count = [len(tables.layouts_of(kind.index)) for kind in found.network.kinds]
    for columns in unary:
        best = [column.reshape(-1, n).min(axis=1) for column, n in zip(columns, count, strict=True)]
        bound = max(bound, least_cost(found.structure, best, pair))
        if bound >= enough:
            break
    return bound


def _pruned(found: Space, tables: Tables, below: float) -> Tables | None:
    """The tables without the cuts of ops that no plan below a cost has; None where an op has no other."""
    if below == inf:
        return tables
    columns = tables.columns
    if not columns.counts.all():
        return None
    shown, hidden = (
        columns.near(column, below - at_least(found, tables, column)) for column in unary_columns(found, tables)
    )
    kept = columns.of(shown & hidden)
    return None if kept is None else tables.of(kept)


def _least(graph: Structure, first: Costs, second: Costs) -> Assignment | Largest:
    """The least of the larger sum: where one sum's best choice is no dearer by the other, that is it."""
    for one, other in ((first, second), (second, first)):
        best = minimise(graph, *one)
        if total(graph, *other, best.values) <= best.cost:
            return best
    return minimise_max(graph, first, second, gap=GAP)


GAP = 1e-4
"""The relative gap at which the choice between sums that are hidden and sums that are not is good enough."""
