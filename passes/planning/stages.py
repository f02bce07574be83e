"""Pipelines under a memory limit: whether stages can fit at all, and choices of options that need fewer bytes.

What a stage takes at least under a limit is bounded op by op, with a price on bytes: for every price λ ≥ 0 no options
of the ops of a stage that fit take less than Σ min (seconds + λ · bytes) - λ · limit. Under 1F1B stage s of p holds
min(m, p - s) microbatches; GPipe and ZB-H1 hold no fewer, and others are tried only where 1F1B fits. So if stages that
each go as far as these bounds let them do not reach the end of the line, no plan that fits is faster.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING

from passes.planning.elimination import minimise, total
from passes.planning.evaluate import line
from passes.planning.finish import Finished, finish
from passes.planning.network import HomeKind
from passes.planning.space import Solved, Space, objective
from passes.planning.strategies import Strategy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

PRICES = 20
"""Prices of a byte that a bound tries."""

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
    whole = sum(float(seconds[kind].min(initial=inf)) for kind in ops.tolist())
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


def _columns(found: Space, strategy: Strategy) -> tuple[list[Array], list[Array], list[Array]]:
    """By kind: seconds of all microbatches and an update, bytes that are fixed, and those of a microbatch."""
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
            work = table.forward * (2.0 if again else 1.0) + table.backward + table.weights
            columns = often * work + table.update, table.fixed, (0.0 if again else 1.0) * table.saved
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
