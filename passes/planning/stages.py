"""Pipelines under a memory limit: whether stages can fit at all, and choices of options that need fewer bytes.

What a stage takes at least under a limit is bounded op by op, with a price on bytes: for every price λ ≥ 0 no options
of the ops of a stage that fit take less than Σ min (seconds + λ · bytes) - λ · limit. Under 1F1B stage s of p holds
min(m, p - s) microbatches; GPipe and ZB-H1 hold no fewer, and others are tried only where 1F1B fits. So if stages that
each go as far as these bounds let them do not reach the end of the line, no plan that fits is faster. An op that may be
computed again has every option twice: kept, and computed again at the price of a forward pass, for no bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING

from passes.planning.elimination import minimise, total
from passes.planning.evaluate import line
from passes.planning.finish import finish
from passes.planning.network import HomeKind
from passes.planning.objective import objective, unary_tables
from passes.planning.solve import Solved
from passes.planning.space import Space
from passes.planning.sparing import Problem, sparing
from passes.planning.step import Finished
from passes.planning.strategies import Strategy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

PRICES = 20
"""Prices of a byte that a bound tries."""

SPARING = (0.25, 2.0)
"""The same where ops may be computed again."""

DEARER = (0.125, 0.5, 2.0, 8.0, 32.0)
"""Prices of a byte that choices are made with, as multiples of a step's seconds by the bytes of all devices."""


def hopeless(found: Space, strategy: Strategy, limit: float, below: float) -> bool:
    """Whether no plan of a pipeline whose stages fit `limit` bytes takes less than `below` seconds a step.

    False may also mean that nothing is known: where devices differ.
    """
    import numpy as np

    if limit == inf or found.speeds:
        return False
    ops = np.array(found.network.variables[: len(found.network.addresses)])
    seconds, fixed, saved = _columns(found, strategy)
    whole = _whole(seconds, ops)
    if not whole < inf:
        return True
    prices = np.append(0.0, whole / (limit * strategy.stages) * np.geomspace(1e-2, 1e3, PRICES))
    at = 0
    sums: dict[int, tuple[Array, Array]] = {}
    for stage in range(strategy.stages):
        slots = min(strategy.microbatches, strategy.stages - stage)
        if slots not in sums:
            sums[slots] = _sums(
                seconds, [one + slots * each for one, each in zip(fixed, saved, strict=True)], ops, prices
            )
        priced, bytes_ = sums[slots]
        taken = priced[:, at + 1 :] - priced[:, at : at + 1] - (prices * limit)[:, None]
        fits = (taken < below).all(axis=0) & (bytes_[at + 1 :] - bytes_[at] <= limit)
        at += int(fits.argmin()) if not fits.all() else len(fits)
        if at == len(ops):
            return False
    return True


def bound_stages(found: Space, strategy: Strategy, limit: float) -> float:
    """No options of a pipeline whose stages all fit `limit` bytes have a smaller J.

    For any prices of the bytes of each stage's device, the ops of all stages take no less than the cheapest of all
    ways to cut them: each op in a stage its best option, and what the devices have to spare is worth its price.
    """
    import numpy as np

    if limit == inf:
        return 0.0
    ops = np.array(found.network.variables[: len(found.network.addresses)])
    columns = unary_tables(found, found.tables(strategy.with_(recompute="none")))
    whole, number = max((_whole(column, ops), i) for i, column in enumerate(columns))
    if not whole < inf:
        return inf
    seconds = _doubled(found, strategy, columns[number])
    fixed, saved = _columns(found, strategy)[1:]
    prices = whole / (limit * strategy.stages) * np.geomspace(1e-2, 1e2, PRICES)
    least, room = np.zeros((len(prices), len(ops) + 1)), np.zeros(len(prices))
    for stage in range(strategy.stages):
        slots = min(strategy.microbatches, strategy.stages - stage)
        rates = prices / slots**POWER
        held = [one + slots * each for one, each in zip(fixed, saved, strict=True)]
        sums, _ = _sums(seconds, held, ops, rates)
        # up to each place: the best place for the stage to begin, and its ops from there on
        least = np.minimum.accumulate(least - sums, axis=1) + sums if stage else sums
        room += rates * limit
    return max(whole, float((least[:, -1] - room).max()))


POWER = 0.5
"""The price of a byte of a stage that holds h microbatches is divided by h to this power: the best one was near it."""


def _doubled(found: Space, strategy: Strategy, columns: list[Array]) -> list[Array]:
    """What options count in J, where some may be computed again as `_columns` has them."""
    import numpy as np

    tables, again = found.tables(strategy), found.scale(strategy).microbatch
    made: list[Array] = []
    for kind, column in zip(found.network.kinds, columns, strict=True):
        if not isinstance(kind, HomeKind) and found.spares(strategy) and found.repeats(kind, strategy):
            column = np.concatenate([column, column + again * tables.op(kind).forward])
        made.append(column)
    return made


def _whole(seconds: list[Array], ops: Array) -> float:
    """Every op by its cheapest option."""
    return sum(float(seconds[kind].min(initial=inf)) for kind in ops.tolist())


def _columns(found: Space, strategy: Strategy) -> tuple[list[Array], list[Array], list[Array]]:
    """By kind: seconds of all microbatches and an update, bytes that are fixed, and those of a microbatch.

    Of ops that may be computed again, but need not, first for all options that are kept, then for all that are not.
    """
    import numpy as np

    tables, often = found.tables(strategy), strategy.microbatches * found.batches
    seconds: list[Array] = []
    fixed: list[Array] = []
    saved: list[Array] = []
    for kind in found.network.kinds:
        if isinstance(kind, HomeKind):
            nothing = np.zeros(len(tables.home(kind).backward))
            columns = nothing, nothing, nothing
        else:
            table, again = tables.op(kind), found.repeats(kind, strategy)
            once = often * (table.forward + table.backward + table.weights) + table.update
            kept, twice = (once, table.fixed, table.saved), (once + often * table.forward, table.fixed, 0 * table.saved)
            columns = twice if again else kept
            if again and found.spares(strategy):
                every, held, passing = (np.concatenate(pair) for pair in zip(kept, twice, strict=True))
                columns = every, held, passing
        for into, column in zip((seconds, fixed, saved), columns, strict=True):
            into.append(column)
    return seconds, fixed, saved


def _sums(seconds: list[Array], bytes_: list[Array], ops: Array, prices: Array) -> tuple[Array, Array]:
    """[price, place] and [place]: the least of all ops before a place, seconds and priced bytes, and bytes alone."""
    import numpy as np

    kinds = np.unique(ops).tolist()
    priced, least = np.zeros((len(prices), len(seconds))), np.zeros(len(seconds))
    for kind in kinds:
        possible = np.isfinite(seconds[kind])
        cost = seconds[kind][possible] + prices[:, None] * bytes_[kind][possible]
        priced[:, kind], least[kind] = cost.min(axis=1, initial=inf), bytes_[kind][possible].min(initial=inf)
    start = np.zeros((len(prices), 1))
    return np.hstack([start, priced[:, ops].cumsum(axis=1)]), np.append(0.0, least[ops].cumsum())


def fit_sparing(
    found: Space, strategy: Strategy, limit: float, below: float, known: dict[tuple[object, ...], Strategy]
) -> tuple[Finished | None, float]:
    """A step of a pipeline that computes as much again as it must, and what no step under the strategy costs less than.

    Options are chosen with some prices on bytes; those are taken with which it is estimated to take least. None also
    where that is `below` or more, or the line is `known` as that of another strategy: the same, by another name.
    """
    bound = bound_stages(found, strategy, limit)
    if bound >= below or hopeless(found, strategy, limit, below):
        return None, max(bound, below)
    problems: list[Problem] = []
    for solved in _dearer(found, strategy, limit, below):
        problems.append(Problem(found, solved, limit, below))
        bound = max(bound, solved.bound)
        if bound >= below or known.get(problems[0].key, strategy) != strategy:
            return None, bound
    if not problems:
        return None, bound
    known[problems[0].key] = strategy
    best = min(problems, key=lambda each: each.least)
    made = sparing(best)
    return (None if made is None else replace(made, bound=min(bound, made.objective))), bound


def _dearer(found: Space, strategy: Strategy, limit: float, below: float) -> Iterator[Solved]:
    """Choices of options at prices of a byte, each once, as long as they cost less than `below` where all is kept."""
    tables, sums = found.tables(strategy), objective(found, found.tables(strategy.with_(recompute="none")))
    _, fixed, saved = _columns(found, strategy)
    shown, slots = _doubled(found, strategy, sums.shown), (min(strategy.microbatches, strategy.stages) + 1) / 2
    held = [one + slots * each for one, each in zip(fixed, saved, strict=True)]
    chosen, least = set[bytes](), 0.0
    for price in (0.0, *SPARING):
        rate = price * least / (limit * strategy.stages)
        priced = (column + rate * size for column, size in zip(shown, held, strict=True))
        unary = [each.reshape(-1, len(once)).min(axis=0) for each, once in zip(priced, sums.shown, strict=True)]
        best = minimise(found.structure, unary, sums.pair)
        values, least = best.values, least or best.cost
        cost = max(total(found.structure, each, sums.pair, values) for each in (sums.shown, sums.hidden))
        if least == inf or (chosen and cost >= below):
            return
        if values.tobytes() not in chosen:
            costs = line(found.network, tables, values, sums.once)
            yield Solved(strategy, tables, values, cost, 0.0 if chosen else least, costs)
        chosen.add(values.tobytes())


def fit_stages(found: Space, strategy: Strategy, limit: float, bound: float, below: float) -> Finished | None:
    """A step of a pipeline whose options were chosen with a price on bytes: the lowest one at which all stages fit."""
    if limit == inf or bound <= 0.0:
        return None
    tables, sums = found.tables(strategy), objective(found, found.tables(strategy))
    _, fixed, saved = _columns(found, strategy)
    slots = (min(strategy.microbatches, strategy.stages) + 1) / 2
    held = [one + slots * each for one, each in zip(fixed, saved, strict=True)]
    for price in DEARER:
        rate = price * bound / (limit * strategy.stages)
        unary = [column + rate * size for column, size in zip(sums.shown, held, strict=True)]
        values = minimise(found.structure, unary, sums.pair).values
        cost = max(total(found.structure, each, sums.pair, values) for each in (sums.shown, sums.hidden))
        if cost >= below:
            return None
        costs = line(found.network, tables, values, sums.once)
        made = finish(found, Solved(strategy, tables, values, cost, cost, costs), limit, below)
        if made is not None:
            return replace(made, bound=min(bound, made.objective))
    return None
