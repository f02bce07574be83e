"""The best choice without a pipeline that fits the memory: all that is held throughout, and the largest transient.

What is held adds up over the ops, so a Lagrangian bound and enumeration find the best choice within a limit on it
(`limited.py`). The transient is that of one op, the largest. So choices are divided by what their largest transient is:
where it lies between two figures, no op takes an option above the upper one, and what is held leaves room for the lower
one. The range with the least bound is solved; where what is found has a larger transient than there was room for, the
range is cut there.

Where ops may be computed again, every option of them comes twice: kept, and computed again at the price of one more
forward pass. What such an op reads is kept, or its maker is computed again as well. What is computed again needs no
bytes itself, which is a little less than it does; so this bounds every choice of runs (`runs.py`), and what it chooses
is tried with runs. Where they do not fit, a share of the bytes is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from math import inf
from typing import TYPE_CHECKING, Any

from passes.planning.elimination import original, restricted, total
from passes.planning.evaluate import line
from passes.planning.finish import finish
from passes.planning.limited import minimise_limited
from passes.planning.network import EdgeKind, HomeKind
from passes.planning.objective import objective, unary_tables
from passes.planning.solve import Solved
from passes.planning.space import Space
from passes.planning.step import Finished
from passes.planning.strategies import Strategy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from passes.planning.criteria import Costs
    from passes.planning.structure import Structure

    Array = NDArray[np.float64]
    Integers = NDArray[np.int64]
    Flags = NDArray[np.bool_]

RANGES = 24
"""Ranges of the largest transient that are solved at most."""

BLENDS = 6
"""Weighted means of both sums of J that are tried at most."""

WORK = 2**22
"""Labels times options of all variables that are enumerated at most for one weighted mean: others need no more."""

TRIES = 6
"""Choices that are tried at most where activations are computed again."""

GROWTH = 2.0
"""How much more of the bytes of what is computed again is asked for at least, as long as nothing fits."""


FIRST = 0.1
"""The share of these bytes that is asked for first, where none was not enough."""


def fit_within(found: Space, strategy: Strategy, limit: float, gap: float, below: float = inf) -> Finished | None:
    """The best step under a strategy without a pipeline whose peak is at most `limit` bytes.

    None where none was found, or surely none whose J is below `below`. `gap` is the relative gap that is good enough.
    """
    return within(found, strategy, limit, gap, below)[0]


def within(
    found: Space, strategy: Strategy, limit: float, gap: float, below: float = inf
) -> tuple[Finished | None, float]:
    """The same, and what no step under the strategy that fits costs less than; infinite where nothing fits."""
    options = _options(found, strategy)
    useful = _useful(found, strategy, options, limit, below)
    best: Finished | None = None
    bound, share, low, high = 0.0, 0.0, 0.0, inf
    room = found.room(strategy, limit)
    problem = _Problem(found.structure, found.network.variables, options, useful, share, limit, gap, below)
    made, least = problem.solve()
    if made is None or least >= below:
        return None, min(least, below)
    bound = min(least, below)  # none asks for less
    for tries in range(TRIES if options.repeated else 1):
        if tries or room < limit:
            made, least = replace(problem, share=share, limit=room).solve()
        if share == 0.0 and (made is None or least >= below):
            break
        step = None if made is None else _step(found, strategy, options, made, least, limit)
        if step is not None and (best is None or step.objective < best.objective):
            best = step
        if best is not None and (share == 0.0 or best.objective * (1 - gap) <= bound):
            break
        if made is not None and step is None:
            low, share = share, max(FIRST, GROWTH * share) if high == inf else 0.5 * (share + high)
        else:
            high, share = share, 0.5 * (low + share)
    if best is None:
        return None, bound
    bound = min(best.objective, bound)
    return replace(best, bound=bound), bound


def bound_within(found: Space, strategy: Strategy, limit: float) -> float:
    """Every op by itself, and a price on bytes: no choice that fits under a strategy costs less.

    Of a pipeline all stages together hold each op once. Infinite where nothing fits.
    """

    if limit == inf:
        return 0.0
    return max((each.bound for each in _relaxed(found, strategy, _unary_options(found, strategy), limit)), default=inf)


def _useful(found: Space, strategy: Strategy, options: _Options, limit: float, below: float) -> list[Flags]:
    """By kind, the options with which a choice that fits may cost less than `below`."""
    import numpy as np

    useful = [np.ones(len(column), dtype=bool) for column in options.shown]
    if below < inf and limit < inf:
        for each in _relaxed(found, strategy, options, limit):
            for keep, above in zip(useful, each.above, strict=True):
                keep &= above <= below * (1 + ROUNDING) - each.bound
    return useful


@dataclass(frozen=True, slots=True)
class _Relaxed:
    """The best bound of one sum of J by a price on bytes; `above[kind][o]` is how much an option is above the least."""

    bound: float
    above: list[Array]


def _relaxed(found: Space, strategy: Strategy, options: _Options, limit: float) -> list[_Relaxed]:
    """The bounds of both sums, every op by itself; none where nothing fits."""
    import numpy as np

    kinds = [kind.index for kind, _ in found.ops]
    counts = np.array([count for _, count in found.ops], dtype=float)
    least = (float(options.transient[kind].min(initial=inf)) for kind in kinds)
    room = limit - max(least, default=0.0) if strategy.stages == 1 else limit * strategy.stages
    if counts @ [float(options.held[kind].min(initial=inf)) for kind in kinds] > room:
        return []
    made: list[_Relaxed] = []
    for columns in (options.shown, options.hidden):
        seconds = counts @ [float(columns[kind].max(initial=0.0, where=np.isfinite(columns[kind]))) for kind in kinds]
        prices = np.append(0.0, seconds / max(room, 1.0) * np.geomspace(1e-4, 1e2, PRICES))
        bounds = counts @ [_priced(columns[kind], options.held[kind], prices) for kind in kinds] - prices * room
        best = int(bounds.argmax())
        above = [np.zeros(len(column)) for column in columns]
        for kind in kinds if bounds[best] < inf else ():
            possible = np.isfinite(options.held[kind])
            above[kind][~possible] = inf
            above[kind][possible] = columns[kind][possible] + prices[best] * options.held[kind][possible]
            above[kind] -= above[kind].min(initial=inf)
        made.append(_Relaxed(float(bounds[best]), above))
    return made


def _priced(seconds: Array, held: Array, prices: Array) -> Array:
    """What the cheapest option costs at each price of a byte; infinite where none is possible."""
    import numpy as np

    possible = np.isfinite(held)
    return np.asarray((seconds[possible] + prices[:, None] * held[possible]).min(axis=1, initial=inf))


ROUNDING = 1e-9
"""Relative differences up to this are of rounding."""

PRICES = 32
"""Prices of a byte that are tried for a bound: over six powers of ten, each half as much again as the one before."""


def _step(
    found: Space, strategy: Strategy, options: _Options, made: _Within, bound: float, limit: float
) -> Finished | None:
    """The step of a choice; which of its segments are computed again is chosen anew."""
    import numpy as np

    tables = found.tables(strategy)
    values = np.array(
        [options.base[kind][v] for kind, v in zip(found.network.variables, made.values.tolist(), strict=True)]
    )
    costs = line(found.network, tables, values)
    return finish(found, Solved(strategy, tables, values, made.cost, bound, costs), limit)


@dataclass(slots=True)
class _Options:
    """All options by kind: what they cost, what they hold throughout a step, and while their backward pass runs.

    `base[kind][o]` is the option of the kind's table that option o stands for, computed again or not. `passing` is what
    one that is computed again does not keep.
    """

    shown: list[Array] = field(default_factory=list)
    hidden: list[Array] = field(default_factory=list)
    pair: list[Array] = field(default_factory=list)
    between: list[Array] = field(default_factory=list)  # bytes, by options of both ends
    base: list[Integers] = field(default_factory=list)
    held: list[Array] = field(default_factory=list)
    passing: list[Array] = field(default_factory=list)
    transient: list[Array] = field(default_factory=list)
    twice: set[int] = field(default_factory=set)  # kinds of ops that may be computed again, but need not

    def add(self, columns: Iterable[NDArray[Any]]) -> None:
        """The options of the next kind: of all lists but that of pairs, in order."""
        lists = self.shown, self.hidden, self.base, self.held, self.passing, self.transient
        for into, column in zip(lists, columns, strict=True):
            into.append(column)  # type: ignore[attr-defined]

    @property
    def repeated(self) -> bool:
        """Whether there are any that are computed again."""
        return any(column.any() for column in self.passing)


def _options(found: Space, strategy: Strategy) -> _Options:
    """All options; of ops that may be computed again, but need not, first all that are kept, then all that are not."""
    import numpy as np

    once, ordered = strategy.with_(recompute="none"), _ordered(found, strategy)
    made = _unary_options(found, strategy)
    for edge, moves in zip(found.network.edge_kinds, objective(found, found.tables(once)).pair, strict=True):
        often, source = 1.0 if edge.weight else 1.5 if edge.gradient else 2.0, found.network.kinds[edge.source]
        rows = np.concatenate([moves, often * moves]) if edge.source in made.twice else moves
        if not isinstance(source, HomeKind) and found.repeats(source, ordered) > found.repeats(source, once):
            rows = often * moves
        made.pair.append(np.concatenate([rows, rows], axis=1) if edge.target in made.twice else rows)
        made.between.append(_read(found, strategy, made, edge))
    return made


def _ordered(found: Space, strategy: Strategy) -> Strategy:
    """The strategy in which no more is computed again than must be."""
    return strategy.with_(recompute="none") if found.spares(strategy) else strategy


def _read(found: Space, strategy: Strategy, options: _Options, edge: EdgeKind) -> Array:
    """[option, option]: what is kept for the reader of a value, where that is computed again and the maker is not.

    Values that the backward pass reads are kept anyway; those with a home are not counted.
    """
    import numpy as np

    bytes_ = np.zeros((len(options.shown[edge.source]), len(options.shown[edge.target])))
    maker, reader = (found.network.kinds[index] for index in (edge.source, edge.target))
    if isinstance(maker, HomeKind) or isinstance(reader, HomeKind) or edge.weight or edge.target not in options.twice:
        return bytes_
    if edge.source_role in maker.kept:
        return bytes_
    table, again = found.tables(strategy).op(maker), bytes_.shape[1] // 2
    held = np.repeat(found.prices.bytes(maker, edge.source_role)[table.rows], len(table.layouts))
    bytes_[: len(held), again:] = held[:, None]
    return bytes_


def _unary_options(found: Space, strategy: Strategy) -> _Options:
    """The same without the tables of edges."""
    import numpy as np

    least, again = _ordered(found, strategy), found.scale(strategy).microbatch
    tables, made = found.tables(strategy), _Options()
    for kind, shown, hidden in zip(found.network.kinds, *unary_tables(found, found.tables(least)), strict=True):
        nothing, numbers = np.zeros(len(shown)), np.arange(len(shown))
        if isinstance(kind, HomeKind):
            made.add((shown, hidden, numbers, nothing, nothing, nothing))
            continue
        table, ordered = tables.op(kind), found.repeats(kind, least)
        kept = shown, hidden, numbers, table.fixed + table.saved, nothing, table.transient
        extra = 0.0 if ordered else again * table.forward
        passing = shown + extra, hidden + extra, numbers, table.fixed, table.saved, table.transient + table.saved
        if not ordered and found.repeats(kind, strategy):
            made.twice.add(kind.index)
            made.add(np.concatenate(pair) for pair in zip(kept, passing, strict=True))
        else:
            made.add(passing if ordered else kept)
    return made


@dataclass(frozen=True, slots=True)
class _Within:
    """An assignment and its J; no assignment that fits has a J below `bound`."""

    cost: float
    values: Integers
    bound: float


@dataclass(slots=True)
class _Problem:
    """The best of so many options within a limit, where `share` of what is computed again is asked for."""

    structure: Structure
    variables: Sequence[int]
    options: _Options
    useful: Sequence[Flags]
    share: float
    limit: float
    gap: float
    below: float = inf

    def solve(self) -> tuple[_Within | None, float]:
        """Ranges of the largest transient, the one with the least bound first; and what nothing that fits costs less
        than. None where nothing does, or surely nothing below `below`."""
        sizes = [one + self.share * other for one, other in zip(self.options.held, self.options.passing, strict=True)]
        transients = self.options.transient
        low = max((float(column.min(initial=inf)) for column in transients), default=0.0)
        high = max((float(column.max(initial=0.0)) for column in transients), default=0.0)
        ranges, best, proved = [(0.0, low, high)], None, inf
        for _ in range(RANGES):
            if not ranges or ranges[0][0] >= (self.below if best is None else best.cost * (1 - self.gap)):
                break
            bound, low, high = heappop(ranges)
            made = self._range(sizes, low, high)
            if made is None:
                continue
            bound = max(bound, made.bound)
            largest = max(self._at(transients, made.values))
            if int(total(self.structure, sizes, self.options.between, made.values) + largest) <= self.limit:
                proved = min(proved, bound)
                best = made if best is None or made.cost < best.cost else best
                continue
            below = max((t for column in transients for t in column[column < largest]), default=-1.0)
            if below >= low:
                heappush(ranges, (bound, low, float(below)))
            heappush(ranges, (bound, largest, high))
        left = min((bound for bound, _, _ in ranges), default=inf)
        return best, left if best is None else min(best.cost, proved, left)

    def _at(self, columns: list[Array], values: Integers) -> list[float]:
        """What a column says of each variable."""
        return [float(columns[kind][value]) for kind, value in zip(self.variables, values.tolist(), strict=True)]

    def _range(self, sizes: list[Array], low: float, high: float) -> _Within | None:
        """The best choice among options with transients up to `high` that leaves room for `low`."""
        import numpy as np

        graph, options = self.structure, self.options
        kept = [np.flatnonzero(use & (at <= high)) for use, at in zip(self.useful, options.transient, strict=True)]
        if any(not len(kept[kind]) for kind in self.variables):
            return None
        shown, pair = restricted(graph, kept, options.shown, options.pair)
        hidden, _ = restricted(graph, kept, options.hidden, [])
        held = restricted(graph, kept, sizes, options.between)
        made = _larger(graph, (shown, hidden), pair, held, self.limit - low, self.gap)
        return None if made is None else _Within(made.cost, original(graph, kept, made.values), made.bound)


def _larger(
    graph: Structure,
    sums: tuple[list[Array], list[Array]],
    pair: list[Array],
    held: Costs,
    limit: float,
    gap: float,
) -> _Within | None:
    """The assignment that holds at most `limit` bytes whose larger sum is least.

    No weighted mean of both sums is more than the larger one, so its least value is a bound. The weight is looked for
    at which both are as large.
    """
    best, bound, ends = None, 0.0, [0.0, 1.0]
    first_share = 1.0 if _least(graph, sums[1]) > _least(graph, sums[0]) else 0.0
    for blend in range(BLENDS):
        share = (first_share, 1.0 - first_share)[blend] if blend < 2 else 0.5 * (ends[0] + ends[1])
        unary = [_mean(one, other, share) for one, other in zip(*sums, strict=True)]
        made = minimise_limited(graph, unary, pair, held[0], limit, gap=gap, pair_sizes=held[1], work=WORK)
        if made is None:
            return None
        first, second = (total(graph, one, pair, made.values) for one in sums)
        bound = max(bound, made.bound)
        if best is None or max(first, second) < best.cost:
            best = _Within(max(first, second), made.values, 0.0)
        if best.cost * (1 - gap) <= bound:
            break
        ends[1 if first > second else 0] = share
    assert best is not None
    return _Within(best.cost, best.values, min(best.cost, bound))


def _mean(one: Array, other: Array, share: float) -> Array:
    """The weighted mean; what has no part in it has none where it is infinite, too."""
    if share in (0.0, 1.0):
        return other if share else one
    return share * other + (1.0 - share) * one


def _least(graph: Structure, unary: list[Array]) -> float:
    """Every variable by itself."""
    return sum(float(unary[kind].min(initial=inf)) for kind in graph.kinds.tolist())
