"""The objective of a choice under one strategy: what each option, and each pair on an edge, counts in J."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from passes.planning.columns import Columns
from passes.planning.evaluate import Scale
from passes.planning.network import EdgeKind, HomeKind, OpKind
from passes.planning.space import Space
from passes.planning.strategies import Strategy
from passes.planning.tables import Tables

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Objective:
    """J as the larger of two sums of tables: `shown` with all sums of gradients hidden, `hidden` with what computing
    hides taken off the sums. Tables by kind, and by edge kind for both; `once` are those of one microbatch or step."""

    shown: list[Array]
    hidden: list[Array]
    pair: list[Array]
    once: list[Array]


def objective(found: Space, tables: Tables) -> Objective:
    """The tables of J; those of pairs are made last, and take longest."""
    shown, hidden = unary_tables(found, tables)
    once = tables.edges(found.network.edge_kinds, tables.moves(found.network.edge_kinds))
    return Objective(shown, hidden, counted(found, tables.strategy, once), once)


def counted(found: Space, strategy: Strategy, once: Sequence[Array]) -> list[Array]:
    """Tables of edges as often as they count in J."""
    weight, edges = found.scale(strategy), found.network.edge_kinds
    often = [weight.step if kind.weight else weight.microbatch * _times(found, strategy, kind) for kind in edges]
    return [table * n for table, n in zip(once, often, strict=True)]


def _times(found: Space, strategy: Strategy, kind: EdgeKind) -> float:
    """How often moves on an edge count in a microbatch: where what makes the tensor is computed again, their forward
    half twice (`evaluate.Line`)."""
    source = found.network.kinds[kind.source]
    again = found.repeats(source, strategy) if isinstance(source, OpKind) else strategy.recompute == "all"
    return 1.0 if not again else 1.5 if kind.gradient else 2.0


def unary_tables(found: Space, tables: Tables) -> tuple[list[Array], list[Array]]:
    """(shown, hidden): what each option of each kind counts in J by itself."""
    columns, weight = tables.columns, found.scale(tables.strategy)
    pairs: dict[int, tuple[Array, Array]] = dict(
        zip(columns.kinds, zip(*map(columns.split, unary_columns(found, tables)), strict=True), strict=True)
    )
    for kind in found.network.kinds:
        if isinstance(kind, HomeKind):
            pairs[kind.index] = _of_home(tables, kind, weight)
    every = [pairs[kind.index] for kind in found.network.kinds]
    return [shown for shown, _ in every], [hidden for _, hidden in every]


def unary_columns(found: Space, tables: Tables) -> tuple[Array, Array]:
    """The same for all ops in one row; once for a strategy."""
    columns = tables.columns
    if tables.strategy not in columns.unary:
        columns.unary[tables.strategy] = _unary(found, tables, columns)
    return columns.unary[tables.strategy]


def _unary(found: Space, tables: Tables, columns: Columns) -> tuple[Array, Array]:
    weight, exposure, kinds = found.scale(tables.strategy), tables.exposure, list(columns.kinds)
    late, hiding = columns.spread(exposure.late[kinds]), columns.spread(exposure.hiding[kinds])
    behind = columns.column("backward") + columns.column("weights")
    forward = columns.column("forward") * columns.spread(1.0 + repeated(found, tables.strategy))
    shown = weight.microbatch * (forward + behind) + weight.step * columns.column("update")
    hidden = shown + weight.step * (late * columns.column("sums") - hiding * behind)
    return shown if exposure.hides else hidden, hidden


def repeated(found: Space, strategy: Strategy) -> Array:
    """[kind of op]: 1 where it is computed again, else 0."""
    import numpy as np

    if strategy.recompute == "none" and not found.orders.again:
        return np.zeros(len(found.ops))
    return np.array([float(found.repeats(kind, strategy)) for kind, _ in found.ops])


def _of_home(tables: Tables, kind: HomeKind, weight: Scale) -> tuple[Array, Array]:
    adding, hiding = tables.home(kind).backward, float(tables.exposure.hiding[kind.index])
    hidden = (weight.microbatch - hiding * weight.step) * adding
    return weight.microbatch * adding if tables.exposure.hides else hidden, hidden
