"""Bytes that a device sends in a step: what `limit communication` bounds and `objective = communication` minimises.

The tables of a strategy are made a second time with a fabric that counts bytes in place of seconds; all else is free.
Each collective counts as what the rank that sends most has to send at least: of an allreduce of m bytes among P ranks
2m(P-1)/P (cost-models.md §4), as rings, halving and doubling do.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import inf, prod
from typing import TYPE_CHECKING, Any

from dlc.cluster.fabric import Fabric
from dlc.cost.redistribution import Redistributions
from dlc.diagnostics import Span
from dlc.ir.request import Limit
from passes.context import Context
from passes.planning.elimination import minimise, total
from passes.planning.evaluate import line
from passes.planning.limited import minimise_limited
from passes.planning.network import HomeKind, OpKind
from passes.planning.objective import objective
from passes.planning.solve import Solved
from passes.planning.space import Space
from passes.planning.spent import Spent
from passes.planning.step import Finished
from passes.planning.strategies import Strategy
from passes.planning.tables import Tables
from passes.planning.update_rules import widths

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Integers = NDArray[np.int64]

BLENDS = 8
"""Weighted means of memory and communication that are held to a limit, where both are."""


class Volumes(Fabric):
    """A fabric whose figures are bytes that a rank sends."""

    def seconds(self, kind: str, size: Any, axes: tuple[str, ...]) -> Any:
        """Bytes of a collective by its kind; sizes as in `Fabric`."""
        ranks = prod(self.mesh.extent(name) for name in axes)
        share = (ranks - 1) / ranks
        return size * {"allreduce": 2.0 * share, "all_to_all": share / ranks, "broadcast": 1.0}.get(kind, share)

    def neighbours(self, size: Any, axis: str) -> Any:
        """Both neighbours are sent `size` bytes, where there are two."""
        return size * min(2, self.mesh.extent(axis) - 1)


def volumes(space: Space, strategy: Strategy) -> Tables:
    """The tables of a strategy in bytes: with the same options, in the same order."""
    import numpy as np

    prices = space.prices
    free: dict[int, Spent] = {}
    for kind in (kind for kind in space.network.kinds if isinstance(kind, OpKind)):
        spent = prices.of(kind)
        none, possible = np.zeros_like(spent.backward), np.where(np.isinf(spent.forward), inf, 0.0)
        free[kind.index] = replace(spent, forward=possible, backward=none, weights=none, update=0.0 * spent.update)
    device = replace(prices.device, bandwidth=inf, launch=0.0)
    fabric = Volumes(space.cluster, strategy.inner)
    counted = replace(prices, device=device, profile=None, spent=free, least={})
    return Tables(
        counted, strategy, fabric, Redistributions(fabric, device), space.pins, widths(space.graph), space.batches
    )


def sent(space: Space, step: Finished) -> float:
    """Bytes that the device with most sends in a step."""
    strategy, net = step.strategy, space.network
    whole = space.tables(step.solved.strategy.with_(schedule=_schedule(step.solved.strategy), chunks=1))
    costs = line(net, volumes(space, whole.strategy), among(space, step.solved, whole))
    again = step.recomputed
    often, most = strategy.microbatches * space.batches, 0.0
    spans = list(pairwise(step.bounds))
    for device in range(strategy.stages):
        bytes_ = 0.0
        for first, end in spans[device :: strategy.stages]:
            part = slice(first, end)
            repeated = sum(float(costs.forward[op]) for op in range(first, end) if op in again)
            bytes_ += often * (float((costs.forward + costs.backward + costs.weights)[part].sum()) + repeated)
            bytes_ += float((costs.sums + costs.update)[part].sum())
            crossing = step.solved.line.crossing
            bytes_ += often * (float(crossing[end - 1]) if end < step.bounds[-1] else 0.0)
            bytes_ += often * (float(crossing[first - 1]) if first else 0.0)
        most = max(most, bytes_)
    return most


def _schedule(strategy: Strategy) -> str:
    return strategy.schedule and "one_f_one_b"


def among(space: Space, solved: Solved, whole: Tables) -> Integers:
    """The numbers that chosen options have among all options of a strategy, none of them left out."""
    import numpy as np

    values = solved.values.copy()
    variables = np.array(space.network.variables)
    for kind in space.network.kinds:
        if not isinstance(kind, OpKind):
            continue
        kept, every = solved.tables.op(kind), whole.op(kind)
        if kept is every:
            continue
        number = {tuple(code): i for i, code in enumerate(every.codes.tolist())}
        cuts = np.array([number[tuple(code)] for code in kept.codes.tolist()], dtype=np.int64)
        members = np.flatnonzero(variables == kind.index)
        chosen, count = values[members], len(every.layouts)
        values[members] = cuts[chosen // count] * count + chosen % count
    return values


def sending_at_most(context: Context, size: float) -> Context:
    """The same orders, with a limit on what a device sends in a step."""
    span = context.request.span("objective") or Span("", 0, 0, 0, 0)
    limits = (*context.request.limits, Limit("communication", size, span))
    return context.with_(request=replace(context.request, limits=limits))


def least_sent(space: Space, strategy: Strategy) -> Solved | None:
    """The choice under a strategy that sends least; None where there is none."""
    unary, pair = _bytes(space, strategy)
    best = minimise(space.structure, unary, pair)
    return None if best.cost == inf else _solved(space, strategy, best.values, 0.0)


def solve_sending(space: Space, strategy: Strategy, memory: float, gap: float) -> Solved | None:
    """The best choice that keeps the limit on communication and, without a pipeline, that on memory; None where none
    was found.

    Where both bind, weighted means of both are held to one: no choice that keeps both exceeds any mean.
    """
    import numpy as np

    limit = space.bound_of("communication") * strategy.stages
    bytes_ = _bytes(space, strategy)
    tables = space.tables(strategy)
    sums = objective(space, tables)
    columns = sums.hidden if space.overlap == 0.0 else sums.shown
    held = [_held(space, tables, kind) for kind in space.network.kinds]
    low, high, bound = 0.0, 1.0, 0.0
    for blend in range(BLENDS):
        share = 0.0 if blend == 0 else 1.0 if blend == 1 else 0.5 * (low + high)
        if strategy.stages > 1 and share > 0.0:
            return None
        sizes = [
            share * one / memory + (1.0 - share) * other / max(limit, 1.0)
            for one, other in zip(held, bytes_[0], strict=True)
        ]
        between = [
            np.where(np.isinf(table), inf, (1.0 - share) / max(limit, 1.0) * np.where(np.isinf(table), 0.0, table))
            for table in bytes_[1]
        ]
        found = minimise_limited(space.structure, columns, sums.pair, sizes, 1.0 + 1e-9, gap=gap, pair_sizes=between)
        if found is None:
            return None
        bound = max(bound, found.bound)
        kept = total(space.structure, *bytes_, found.values) <= max(limit, 1.0) * (1 + 1e-9)
        made = _solved(space, strategy, found.values, min(bound, found.cost), found.cost)
        fits = (
            strategy.stages > 1
            or float(made.line.fixed.sum() + made.line.saved.sum() + made.line.transient.max()) <= memory
        )
        if kept and fits:
            return made
        low, high = (share, high) if kept else (low, share)
    return None


def _bytes(space: Space, strategy: Strategy) -> tuple[list[Array], list[Array]]:
    """Bytes sent in a step by all stages together: tables by kind, and by edge kind."""
    tables = volumes(space, strategy)
    often = float(strategy.microbatches * space.batches)
    unary = list[Any]()
    for kind in space.network.kinds:
        if isinstance(kind, HomeKind):
            unary.append(0.0 * tables.home(kind).backward)
            continue
        table = tables.op(kind)
        twice = 2.0 if space.repeats(kind, strategy) else 1.0
        unary.append(often * (twice * table.forward + table.backward + table.weights) + table.sums + table.update)
    edges = space.network.edge_kinds
    pair = [table * (1.0 if kind.weight else often) for kind, table in zip(edges, tables.edges(edges), strict=True)]
    return unary, pair


def _held(space: Space, tables: Tables, kind: OpKind | HomeKind) -> Any:
    import numpy as np

    if isinstance(kind, HomeKind):
        return np.zeros(len(tables.home(kind).backward))
    table = tables.op(kind)
    return table.fixed + (0.0 if space.repeats(kind, tables.strategy) else table.saved)


def _solved(space: Space, strategy: Strategy, values: Integers, bound: float, cost: float = 0.0) -> Solved:
    tables = space.tables(strategy)
    costs = line(space.network, tables, values)
    return Solved(strategy, tables, values, cost, bound, costs)
