"""What plans under a strategy take and hold at least, before any is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from passes.planning.objective import repeated, unary_columns
from passes.planning.space import Space
from passes.planning.strategies import Strategy
from passes.planning.tables import Tables

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


def work_bound(found: Space, strategy: Strategy) -> float:
    """Every op cut as it computes fastest, nothing communicated: no choice under the strategy costs less."""
    key = ranks, samples = strategy.inner.ranks, strategy.samples(found.graph.batch)
    if key not in found.least:
        found.least[key] = sum(count * found.prices.cheapest(kind, ranks, samples) for kind, count in found.ops)
    return found.scale(strategy).microbatch * found.least[key]


def lower_bound(found: Space, strategy: Strategy) -> float:
    """Every op by its cheapest option, tensors where they are wanted: no choice under the strategy costs less.

    What need not be computed again costs nothing more.
    """
    least = strategy.with_(recompute="none") if strategy.stages == 1 or found.spares(strategy) else strategy
    tables = found.tables(least)
    return max(at_least(found, tables, column) for column in unary_columns(found, tables))


def at_least(found: Space, tables: Tables, column: Array) -> float:
    """The sum of the least entries of all ops."""
    least = tables.columns.least(column)
    return sum(count * entry for (_, count), entry in zip(found.ops, least, strict=True))


def least_bytes(found: Space, strategy: Strategy) -> float:
    """What the device with most holds at least under a strategy: the mean over stages of each op's least bytes."""
    tables = found.tables(strategy)
    columns = tables.columns
    saved = columns.column("saved") * columns.spread(1.0 - repeated(found, strategy))
    total = at_least(found, tables, columns.column("fixed") + saved)
    return total / strategy.stages + (least_transient(found, strategy) if strategy.stages == 1 else 0.0)


def likely_bytes(found: Space, strategy: Strategy) -> float:
    """What a device of a pipeline holds if stages are even and ops take the options of least bytes: 1F1B keeps up to p
    microbatches on the first of p stages, one on the last. An estimate, not a bound."""
    if strategy.stages == 1 or strategy.recompute == "all":
        return 0.0
    tables, slots = found.tables(strategy), (min(strategy.microbatches, strategy.stages) + 1) / 2
    columns = tables.columns
    held = at_least(found, tables, columns.column("fixed") + slots * columns.column("saved"))
    return held / strategy.stages


def least_transient(found: Space, strategy: Strategy) -> float:
    """The bytes of the gradients that the op with most holds at least while its backward pass runs."""
    columns = found.tables(strategy).columns
    return max(columns.least(columns.column("transient")), default=0.0)
