"""Every assignment of options under one strategy, and what each costs by the tables."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from math import inf, prod

import numpy as np
from numpy.typing import NDArray

from passes.planning.elimination import minimise
from passes.planning.homes import HomeTable
from passes.planning.network import HomeKind, OpKind
from passes.planning.objective import Objective, objective
from passes.planning.space import Space
from passes.planning.strategies import Strategy
from tests.passes.planning.reference import Choices, Home

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

Kept = dict[int, set[int]]
"""The cuts, or forms of homes, of each kind of variable."""

MOST = 50_000


@dataclass(frozen=True, slots=True)
class Every:
    """[assignment, variable] and what each assignment costs."""

    values: Integers
    costs: Array  # J: the larger of both sums

    @property
    def least(self) -> float:
        return float(self.costs.min(initial=inf))


def restrict(space: Space, strategy: Strategy, rng: random.Random, most: int = MOST) -> Kept | None:
    """Keep some cuts of every kind, so that there are at most so many assignments, one of them possible.

    None where none is possible, or where layouts alone are too many.
    """
    kept = _possible(space, strategy, rng)
    if kept is None:
        return None
    layouts = {kind.index: len(_layouts(space, strategy, kind.index)) for kind in space.network.kinds}
    counts = np.bincount(space.network.variables, minlength=len(layouts))

    def many(grown: int = -1) -> int:
        options = (((len(cuts) + (kind == grown)) * layouts[kind], int(counts[kind])) for kind, cuts in kept.items())
        return prod(each**often for each, often in options)

    if many() > most:
        return None
    growing = [kind for kind in kept for _ in range(4)]
    rng.shuffle(growing)
    for kind in growing:
        left = [cut for cut in range(_cuts(space, strategy, kind)) if cut not in kept[kind]]
        if left and many(kind) <= most:
            kept[kind].add(rng.choice(left))
    keep(space, strategy, kept)
    return kept


def keep(space: Space, strategy: Strategy, kept: Kept) -> None:
    """Leave a strategy these cuts alone."""
    tables = space.tables(strategy)
    kinds = {index: space.network.kinds[index] for index in kept}
    whole = {i: tables.home(kind) if isinstance(kind, HomeKind) else tables.op(kind) for i, kind in kinds.items()}
    del space.made[strategy]
    tables = space.tables(strategy)  # made anew: what depends on the options that there were is forgotten
    for index, table in whole.items():
        chosen = np.array(sorted(kept[index]))
        if isinstance(table, HomeTable):
            rows = (chosen[:, None] * len(table.layouts) + np.arange(len(table.layouts))).reshape(-1)
            tables.homes[index] = replace(
                table,
                ahead=table.ahead[chosen],
                behind=table.behind[chosen],
                backward=table.backward[rows],
                bytes=table.bytes[chosen],
            )
        else:
            tables.ops[index] = table.of(chosen)


def _possible(space: Space, strategy: Strategy, rng: random.Random) -> Kept | None:
    """The cuts by kind of the best assignment for costs that are drawn by chance."""
    tables = objective(space, space.tables(strategy))
    noise = np.random.default_rng(rng.randrange(2**30))
    unary = [column * noise.uniform(0, 3, column.shape) for column in tables.shown]
    pair = [table * noise.uniform(0, 3, table.shape) for table in tables.pair]
    if any(not len(column) for column in unary):
        return None
    found = minimise(space.structure, unary, pair)
    if found.cost == inf:
        return None
    kept: Kept = {}
    for kind, value in zip(space.network.variables, found.values.tolist(), strict=True):
        kept.setdefault(kind, set()).add(value // len(_layouts(space, strategy, kind)))
    return kept


def _layouts(space: Space, strategy: Strategy, index: int) -> tuple[str, ...]:
    tables, kind = space.tables(strategy), space.network.kinds[index]
    return tables.home(kind).layouts if isinstance(kind, HomeKind) else tables.op(kind).layouts


def _cuts(space: Space, strategy: Strategy, index: int) -> int:
    tables, kind = space.tables(strategy), space.network.kinds[index]
    return len(tables.home(kind).forms) if isinstance(kind, HomeKind) else len(tables.op(kind).partitions)


def every(space: Space, strategy: Strategy) -> Every:
    """All assignments of the options that there are."""
    tables = objective(space, space.tables(strategy))
    values = assignments(space, tables)
    shown, hidden = (_total(space, tables.pair, unary, values) for unary in (tables.shown, tables.hidden))
    return Every(values, np.maximum(shown, hidden))


def assignments(space: Space, tables: Objective) -> Integers:
    """[assignment, variable]."""
    counts = [len(tables.shown[kind]) for kind in space.network.variables]
    assert prod(counts) <= 4 * MOST
    return np.indices(counts).reshape(len(counts), -1).T


def _total(space: Space, pair: list[Array], unary: list[Array], values: Integers) -> Array:
    total = np.zeros(len(values))
    for variable, kind in enumerate(space.network.variables):
        total += unary[kind][values[:, variable]]
    for source, target, kind in space.network.edges:
        total += pair[kind][values[:, source], values[:, target]]
    return total


def column(space: Space, strategy: Strategy, values: Integers, name: str) -> Array:
    """[assignment, op]: a column of the tables of ops."""
    tables, found = space.tables(strategy), []
    for variable, index in enumerate(space.network.variables):
        kind = space.network.kinds[index]
        if isinstance(kind, OpKind):
            found.append(getattr(tables.op(kind), name)[values[:, variable]])
    return np.stack(found, axis=1)


def choices(space: Space, strategy: Strategy, values: Integers) -> Choices:
    """An assignment by address and by value."""
    tables, network = space.tables(strategy), space.network
    ops, homes, count = {}, {}, len(network.addresses)
    for variable, (index, value) in enumerate(zip(network.variables, values.tolist(), strict=True)):
        kind = network.kinds[index]
        if isinstance(kind, HomeKind):
            home = tables.home(kind)
            form = home.forms[value // len(home.layouts)]
            homes[network.homes[variable - count]] = Home(*form, home.layouts[value % len(home.layouts)])
        else:
            table = tables.op(kind)
            ops[network.addresses[variable]] = (
                table.partitions[value // len(table.layouts)],
                table.layouts[value % len(table.layouts)],
            )
    return Choices(ops, homes)
