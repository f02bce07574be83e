"""The plans that need least memory, or send least: what objectives begin with, and what is said where nothing fits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heappush
from math import inf
from typing import TYPE_CHECKING

from passes.planning.bounds import least_bytes
from passes.planning.elimination import minimise, original, restricted
from passes.planning.evaluate import Line, line
from passes.planning.finish import finish
from passes.planning.network import HomeKind, OpKind
from passes.planning.objective import objective
from passes.planning.segments import checkpointed
from passes.planning.solve import Solved
from passes.planning.space import Space
from passes.planning.step import Finished
from passes.planning.strategies import SHARDS, Strategy
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

HALVINGS = 24
"""Steps of the bisection for the least peak of a pipeline."""

LOOSER = (1.0, 1.004, 1.02, 1.1, 1.5)
"""Multiples of that peak within which cuts are looked for, where pins of stages or of schedules ask for more."""

REPORTED = 8
"""Strategies that are solved at most only to say what the smallest plan needs, when it is proved that none fits."""


def smallest(space: Space, strategies: Iterable[Strategy], enough: float = -inf) -> Finished | None:
    """The step with the lowest peak under any of these strategies; None where none can be had at all.

    With `enough` it is one of at most so many bytes, if there is any; if all are proved to need more, one of the
    smallest. Strategies whose bounds leave hope are tried first, the likeliest of them before the others.
    """
    best: Finished | None = None
    tried, solved = extremes(space, strategies), 0
    queue = [(*_hope(floor(space, each), 0.0, enough), 0, i) for i, each in enumerate(tried)]
    heapify(queue)
    while queue:
        proved, least, level, number = heappop(queue)
        below = inf if best is None else best.peak
        if least == inf or (best is not None and (below <= enough or (proved and least >= below))):
            break
        if proved and -inf < enough and solved >= REPORTED and best is not None:
            break
        if level == 0:
            bound = least_bytes(space, tried[number])
            heappush(queue, (*_hope(bound, likely(space, tried[number]), enough), 1, number))
            continue
        made = _least_peak(space, tried[number], below, enough)
        solved += 1
        if made is not None and (best is None or (made.peak, made.objective) < (best.peak, best.objective)):
            best = made
    return best


def _hope(bound: float, likely: float, enough: float) -> tuple[bool, float]:
    """(whether it is proved that more than enough is needed, by what to order): the bound, or else what is likely."""
    return (True, bound) if bound > enough else (False, likely)


def likely(space: Space, strategy: Strategy) -> float:
    """About what the device with most holds; no bound."""
    tables, slots = space.tables(strategy), (min(strategy.microbatches, strategy.stages) + 1) / 2
    total = largest = 0.0
    for kind, count in space.ops:
        table = tables.op(kind)
        share = PASSING if space.repeats(kind, strategy) else 1.0
        total += count * float((table.fixed + slots * share * table.saved).min(initial=inf))
        largest = max(largest, float((table.saved + table.transient).min(initial=inf)))
    return total / strategy.stages + largest


def extremes(space: Space, strategies: Iterable[Strategy]) -> tuple[Strategy, ...]:
    """The variants that need least: all sharded, nothing or all computed again, where the request leaves it open."""
    variants = list[Strategy]()
    for each in finest(space.graph.batch, strategies):
        least = extreme(space, each)
        variants += [least.with_(recompute=each.recompute), least]
    return tuple(dict.fromkeys(variants))


def extreme(space: Space, strategy: Strategy) -> Strategy:
    """A strategy with all sharded and all computed again, as far as the request leaves it open."""
    request = space.context.request
    open_ = request.span("shard") is None and strategy.inner.ranks > 1
    return strategy.with_(
        shard="weights" if open_ else strategy.shard,
        recompute="all" if request.recompute == "auto" else strategy.recompute,
    )


def finest(batch: int, strategies: Iterable[Strategy]) -> tuple[Strategy, ...]:
    """The strategies without those that others with smaller microbatches stand for: ops may be cut in the same ways.

    Whatever way an op is cut, a smaller microbatch needs no more memory: a device of a pipeline then holds more of
    them, but in proportion at most. But the smaller it is, the fewer are the ranks that its samples can be split over.
    """
    kept: dict[object, Strategy] = {}
    for each in strategies:
        samples = each.samples(batch)
        counts = {1}
        for extent in each.inner.extents:
            counts |= {extent * count for count in counts}
        ways = tuple(sorted((count, samples % count == 0) for count in counts if count <= samples))
        key = each.with_(microbatches=1, effective=0), ways
        if key not in kept or samples < kept[key].samples(batch):
            kept[key] = each
    return tuple(kept.values())


def even_share(space: Space, ranks: int) -> float:
    """What weights, gradients and states take on each of so many devices if all are shared out evenly: less than any
    plan needs, whatever is ordered and however the batch is cut."""
    tables = space.tables(Strategy(()))
    held = (
        count * kind.types[role].bytes * sum(tables.copies(kind.types[role]))
        for kind, count in space.ops
        for role in kind.weights
    )
    return sum(held) / ranks


def scarce(space: Space, strategies: Iterable[Strategy], limit: float) -> bool:
    """Whether memory may be short under each of these strategies: a rough answer, found soon."""
    return limit < inf and all(floor(space, each) > limit / 2 for each in strategies)


def floor(space: Space, strategy: Strategy) -> float:
    """No device with most memory holds less under a strategy, however its ops are cut: the mean over all devices.

    A weight, a gradient and a state that are sharded cannot be less than an even share; others, and what is kept of a
    microbatch, are as small as any cut makes them.
    """
    key = strategy.inner.ranks, strategy.samples(space.graph.batch), strategy.shard, strategy.recompute
    if key not in space.floors:
        space.floors[key] = sum(count * _floor(space, strategy, kind) for kind, count in space.ops)
    return space.floors[key] / strategy.stages


def _floor(space: Space, strategy: Strategy, kind: OpKind) -> float:
    import numpy as np

    tables, prices, ranks = space.tables(strategy), space.prices, strategy.inner.ranks
    rows = prices.rows[kind.indexing.axes]
    cuts = np.flatnonzero((rows[:, -1] == strategy.samples(space.graph.batch)) & (rows[:, :-1].prod(axis=1) <= ranks))
    held = np.zeros(len(cuts)) if space.repeats(kind, strategy) else prices.saved(kind)[cuts]
    level = SHARDS.index(strategy.shard)
    for role in kind.weights:
        size, even = prices.bytes(kind, role)[cuts], kind.types[role].bytes / ranks
        for parts, sharded in zip(tables.copies(kind.types[role]), (3, 2, 1), strict=True):
            held = held + parts * (even if level >= sharded else size)
    for role in kind.constants:
        held = held + prices.bytes(kind, role)[cuts]
    return float(held.min(initial=inf))


def _least_peak(space: Space, strategy: Strategy, below: float, enough: float) -> Finished | None:
    """The lowest peak under one strategy, but for what many ops compute again, which is estimated; None where it is
    neither `enough` nor lower than `below`."""
    tables = space.tables(strategy)
    solved = [_solved(space, tables, values) for values in _assignments(space, tables)]
    sparing = least_sent(space, strategy) if space.bound_of("communication") < inf else None
    solved = [*solved, *([] if sparing is None else [sparing])]
    ranked = sorted(((_peak(space, each), i, each) for i, each in enumerate(solved)), key=lambda entry: entry[:2])
    for least, _, each in ranked:
        if least > enough and strategy.stages == 1 and float(each.line.fixed.sum()) < enough:
            made = finish(space, each, enough)  # less may be held than where all is computed again in segments
            if made is not None:
                return made
        for looser in LOOSER:
            limit = max(least * looser, enough)
            if limit >= below and limit > enough:
                break
            made = finish(space, each, limit, inf if enough == inf else -inf)
            if made is not None:
                return made
    return None


def _peak(space: Space, solved: Solved) -> float:
    """The peak where all is computed again that may be; of a pipeline with the cuts whose largest stage is least."""
    costs = solved.line
    if solved.strategy.recompute == "all" or space.orders.again:
        costs, _ = checkpointed(costs, space.orders.repeated(solved.strategy))
    if solved.strategy.stages > 1:
        return _least_stages(costs, solved.strategy)
    return float(costs.fixed.sum() + costs.saved.sum() + costs.transient.max(initial=0.0))


def _least_stages(costs: Line, strategy: Strategy) -> float:
    """The least bytes within which a line can be cut into stages, by bisection: each goes as far as it can.

    Exact for stages by 1F1B, GPipe and zero bubble wherever cuts may be, and a bound for several chunks a device.
    """
    import numpy as np

    m, p, count = strategy.microbatches, strategy.stages, len(costs.fixed)
    slots = [{"gpipe": m, "zero_bubble": min(m, p)}.get(strategy.schedule, min(m, p - stage)) for stage in range(p)]
    fixed, saved = (np.append(0.0, column.cumsum()) for column in (costs.fixed, costs.saved))

    def fits(limit: float) -> bool:
        at = 0
        for stage, held in enumerate(slots):
            largest = np.maximum.accumulate(costs.transient[at:])
            bytes_ = fixed[at + 1 :] - fixed[at] + held * (saved[at + 1 :] - saved[at]) + largest
            reach = int(np.searchsorted(bytes_, limit, side="right"))
            if reach == 0:
                return False
            at += min(reach, count - at - (p - stage - 1))  # every stage behind it has an op
            if at == count:
                return True
        return False

    high = float(fixed[-1] + max(slots) * saved[-1] + costs.transient.max(initial=0.0))
    low = high / (p * max(slots) + 1) if high else 0.0
    if count < p or not fits(high):
        return inf
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def _solved(space: Space, tables: Tables, values: Integers) -> Solved:
    costs = line(space.network, tables, values)
    whole = float((costs.forward + costs.backward + costs.weights + costs.update + costs.sums).sum())
    return Solved(tables.strategy, tables, values, whole, 0.0, costs)


def _assignments(space: Space, tables: Tables) -> Iterator[Integers]:
    """Choices of least bytes, each with a lower largest transient than the one before."""
    import numpy as np

    graph, kinds = space.structure, space.network.kinds
    pair = [np.where(np.isinf(table), inf, 0.0) for table in objective(space, tables).pair]
    slots = (min(tables.strategy.microbatches, tables.strategy.stages) + 1) / 2
    held = [_held(space, tables, kind, slots) for kind in kinds]
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


def _held(space: Space, tables: Tables, kind: OpKind | HomeKind, slots: float) -> Array:
    """Bytes throughout a step, where so many microbatches are on their way."""
    import numpy as np

    if isinstance(kind, HomeKind):
        return np.zeros(len(tables.home(kind).backward))
    table = tables.op(kind)
    repeated = space.repeats(kind, tables.strategy)
    return np.asarray(table.fixed + slots * (PASSING * (table.saved + table.transient) if repeated else table.saved))


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
