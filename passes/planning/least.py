"""The plans that need least memory, or send least: what objectives begin with, and what is said where nothing fits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import inf
from typing import TYPE_CHECKING

from passes.planning.elimination import minimise, original, restricted
from passes.planning.evaluate import line
from passes.planning.finish import Finished, finish
from passes.planning.network import HomeKind, OpKind
from passes.planning.segments import checkpointed
from passes.planning.space import Solved, Space, least_bytes, objective
from passes.planning.strategies import Strategy
from passes.planning.traffic import least_sent, sent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from passes.planning.tables import Tables

    Array = NDArray[np.float64]
    Integers = NDArray[np.int64]

PASSING = 0.1
"""What of the bytes that an op saves and needs for a while counts, where all are computed again in segments."""

ROUNDS = 12
"""How often the largest transient is lowered."""

HALVINGS = 8
"""Steps of the bisection for the least peak of a pipeline: to a 256th of the range."""


def smallest(space: Space, strategies: Iterable[Strategy], enough: float = -inf) -> Finished | None:
    """The step with the lowest peak under any of these strategies; None where none can be had at all.

    With `enough` it is one of at most so many bytes, if there is any.
    """
    best: Finished | None = None
    bounds = sorted((least_bytes(space, each), i, each) for i, each in enumerate(extremes(space, strategies)))
    for bound, _, strategy in bounds:
        if bound == inf or (best is not None and (bound >= best.peak or best.peak <= enough)):
            break
        made = _least_peak(space, strategy, best.peak if best is not None else inf, enough)
        if made is not None and (best is None or (made.peak, made.objective) < (best.peak, best.objective)):
            best = made
    return best


def extremes(space: Space, strategies: Iterable[Strategy]) -> tuple[Strategy, ...]:
    """The variants that need least: all sharded, nothing or all computed again, where the request leaves it open."""
    request = space.context.request
    shard = "weights" if request.span("shard") is None else None
    variants = list[Strategy]()
    for each in strategies:
        sharded = each if shard is None or each.inner.ranks == 1 else each.with_(shard=shard)
        variants.append(sharded)
        if request.recompute == "auto" and sharded.recompute == "none":
            variants.append(sharded.with_(recompute="all"))
    return tuple(variants)


def _least_peak(space: Space, strategy: Strategy, below: float, enough: float) -> Finished | None:
    """The lowest peak under one strategy, but for what many ops compute again, which is estimated; of a pipeline None
    where it is neither `enough` nor lower than `below`."""
    tables = space.tables(strategy)
    if strategy.stages == 1:
        solved = [_solved(space, tables, values) for values in _assignments(space, tables)]
        sparing = least_sent(space, strategy) if space.bound_of("communication") < inf else None
        solved += [] if sparing is None else [sparing]
        steps = [finish(space, each, max(_peak(space, each), enough)) for each in solved]
        found = [step for step in steps if step is not None]
        return min(found, key=lambda step: (step.peak, step.objective), default=None)
    if space.bound_of("communication") < inf:
        sparing = least_sent(space, strategy)
        return None if sparing is None else _lowered(space, sparing, below, enough)
    values = next(_assignments(space, tables), None)
    return None if values is None else _lowered(space, _solved(space, tables, values), below, enough)


def _peak(space: Space, solved: Solved) -> float:
    """The peak without a pipeline where all is computed again that may be."""
    costs = solved.line
    if solved.strategy.recompute == "all" or space.orders.again:
        costs, _ = checkpointed(costs, space.orders.repeated(solved.strategy))
    return float(costs.fixed.sum() + costs.saved.sum() + costs.transient.max(initial=0.0))


def _lowered(space: Space, solved: Solved, below: float, enough: float) -> Finished | None:
    """The cuts whose largest peak of a stage is least, by bisection; the first that are `enough`."""
    best = finish(space, solved, max(below, enough), inf if enough == inf else -inf)
    low = 0.0
    for _ in range(HALVINGS):
        if best is None or best.peak <= enough:
            break
        middle = 0.5 * (low + best.peak)
        made = finish(space, solved, middle, -inf)
        low, best = (middle, best) if made is None else (low, made)
    return best


def _solved(space: Space, tables: Tables, values: Integers) -> Solved:
    costs = line(space.network, tables, values)
    whole = float((costs.forward + costs.backward + costs.weights + costs.update + costs.sums).sum())
    return Solved(tables.strategy, tables, values, whole, 0.0, costs)


def _assignments(space: Space, tables: Tables) -> Iterator[Integers]:
    """Choices of least bytes, each with a lower largest transient than the one before."""
    import numpy as np

    graph, kinds = space.structure, space.network.kinds
    pair = [np.where(np.isinf(table), inf, 0.0) for table in objective(space, tables).pair]
    held = [_held(space, tables, kind) for kind in kinds]
    transient = [_transient(tables, kind) for kind in kinds]
    cap = inf
    for _ in range(ROUNDS):
        kept = [np.flatnonzero(column < cap) for column in transient]
        if any(not len(kept[kind]) for kind in space.network.variables):
            return
        best = minimise(graph, *restricted(graph, kept, held, pair))
        if best.cost == inf:
            return
        values = original(graph, kept, best.values)
        yield values
        cap = max(
            float(transient[kind][value]) for kind, value in zip(space.network.variables, values.tolist(), strict=True)
        )


def _held(space: Space, tables: Tables, kind: OpKind | HomeKind) -> Array:
    import numpy as np

    if isinstance(kind, HomeKind):
        return np.zeros(len(tables.home(kind).backward))
    table = tables.op(kind)
    repeated = space.repeats(kind, tables.strategy)
    return np.asarray(table.fixed + (PASSING * (table.saved + table.transient) if repeated else table.saved))


def _transient(tables: Tables, kind: OpKind | HomeKind) -> Array:
    import numpy as np

    if isinstance(kind, HomeKind):
        return np.zeros(len(tables.home(kind).backward))
    return np.asarray(tables.op(kind).transient)


def frugal(space: Space, strategies: Iterable[Strategy], limit: float) -> Finished | None:
    """The step on devices of `limit` bytes in which the device that sends most sends least; None where none fits."""
    best: Finished | None = None
    least = inf
    for strategy in dict.fromkeys((*strategies, *extremes(space, strategies))):
        solved = least_sent(space, strategy)
        made = None if solved is None else finish(space, solved, limit, -inf)
        if made is None:
            continue
        size = sent(space, made)
        if best is None or (size, made.objective) < (least, best.objective):
            best, least = made, size
    return best
