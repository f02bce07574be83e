"""The best choice without a pipeline that fits the memory: all that is held throughout, and the largest transient.

What is held adds up over the ops, so a Lagrangian bound and enumeration find the best choice within a limit on it
(`limited.py`). The transient is that of one op, the largest. So choices are divided by what their largest transient is:
where it lies between two figures, no op takes an option above the upper one, and what is held leaves room for the lower
one. The range with the least bound is solved; where what is found has a larger transient than there was room for, the
range is cut there.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf
from typing import TYPE_CHECKING

from passes.planning.elimination import original, restricted, total
from passes.planning.evaluate import Line, line
from passes.planning.limited import minimise_limited
from passes.planning.network import HomeKind
from passes.planning.segments import checkpointed
from passes.planning.space import Objective, Solved, Space, objective
from passes.planning.strategies import Strategy
from passes.planning.tables import Tables

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from passes.planning.structure import Structure

    Array = NDArray[np.float64]
    Integers = NDArray[np.int64]

RANGES = 24
"""Ranges of the largest transient that are solved at most."""

BLENDS = 6
"""Weighted means of both sums of J that are tried at most."""


TRIES = 8
"""Choices that are tried at most where activations are computed again."""

GROWTH = 1.5
"""How much more of the memory is asked for at least in the next try, as long as none fits."""


@dataclass(frozen=True, slots=True)
class Within:
    """An assignment and its J; no assignment that fits has a J below `bound`."""

    cost: float
    values: Integers
    bound: float


def solve_within(found: Space, strategy: Strategy, limit: float, gap: float) -> Solved | None:
    """The best choice under a strategy without a pipeline whose peak is at most `limit` bytes.

    None where none was found. `gap` is the relative gap that is good enough.
    """
    tables = found.tables(strategy)
    problem = _Problem(found, tables, objective(found, tables), limit, gap)
    again = strategy.recompute == "all" or found.orders.again
    made = problem.solve_recomputed() if again else problem.solve()
    if made is None:
        return None
    return Solved(strategy, tables, made.values, made.cost, made.bound, problem.line(made))


@dataclass(slots=True)
class _Problem:
    found: Space
    tables: Tables
    sums: Objective
    limit: float
    gap: float

    def solve(self) -> Within | None:
        """Of what is kept and the largest transient."""
        sizes = [one + other for one, other in zip(self._columns("fixed"), self._columns("saved"), strict=True)]
        return self._solve(sizes, self._columns("transient"))

    def solve_recomputed(self) -> Within | None:
        """Of what segments keep and compute again: about the root of what all ops keep (`segments.py`).

        It is what the op with most needs at least. Beyond that it is no sum over ops, so a share of what each op keeps
        and needs for a while stands for it: one that is just large enough is looked for.
        """
        fixed = self._columns("fixed")
        passing = [one + other for one, other in zip(self._columns("saved"), self._columns("transient"), strict=True)]
        best, bound, share, low, high = None, 0.0, 0.0, 0.0, inf
        for _ in range(TRIES):
            made = self._solve([one + share * other for one, other in zip(fixed, passing, strict=True)], passing)
            if made is None and share == 0.0:
                return None
            if made is not None:
                bound = bound or made.bound  # of the first, which asks for nothing but what all choices need
                costs, _ = checkpointed(self.line(made), self.found.orders.repeated(self.tables.strategy))
                needed = float(costs.saved.sum() + costs.transient.max(initial=0.0))
                if int(float(costs.fixed.sum()) + needed) > self.limit:
                    low, known = share, max(1.0, sum(self._at(passing, made.values)))
                    share = max(needed / known, GROWTH * share) if high == inf else 0.5 * (low + high)
                    continue
                best = made if best is None or made.cost < best.cost else best
                if best.cost * (1 - self.gap) <= bound:
                    break
            high, share = share, 0.5 * (low + share)
        return None if best is None else Within(best.cost, best.values, min(best.cost, bound))

    def line(self, made: Within) -> Line:
        """The costs of an assignment, op by op."""
        return line(self.found.network, self.tables, made.values, self.sums.once)

    def _solve(self, sizes: list[Array], transients: list[Array]) -> Within | None:
        """Ranges of the largest transient, the one with the least bound first."""
        low = max((float(column.min(initial=inf)) for column in transients), default=0.0)
        high = max((float(column.max(initial=0.0)) for column in transients), default=0.0)
        ranges, best, proved = [(0.0, low, high)], None, inf
        for _ in range(RANGES):
            if not ranges or (best is not None and ranges[0][0] >= best.cost * (1 - self.gap)):
                break
            bound, low, high = heappop(ranges)
            made = self._range(sizes, transients, low, high)
            if made is None:
                continue
            bound = max(bound, made.bound)
            largest = max(self._at(transients, made.values))
            if int(sum(self._at(sizes, made.values)) + largest) <= self.limit:
                proved = min(proved, bound)
                best = made if best is None or made.cost < best.cost else best
                continue
            below = max((t for column in transients for t in column[column < largest]), default=-1.0)
            if below >= low:
                heappush(ranges, (bound, low, float(below)))
            heappush(ranges, (bound, largest, high))
        if best is None:
            return None
        left = min((bound for bound, _, _ in ranges), default=inf)
        return Within(best.cost, best.values, min(best.cost, proved, left))

    def _columns(self, name: str) -> list[Array]:
        """A column of the tables of ops by kind, 0 for homes."""
        import numpy as np

        return [
            np.zeros(len(self.tables.home(kind).backward))
            if isinstance(kind, HomeKind)
            else np.asarray(getattr(self.tables.op(kind), name))
            for kind in self.found.network.kinds
        ]

    def _at(self, columns: list[Array], values: Integers) -> list[float]:
        """What a column says of each variable."""
        kinds = self.found.network.variables
        return [float(columns[kind][value]) for kind, value in zip(kinds, values.tolist(), strict=True)]

    def _range(self, sizes: list[Array], transients: list[Array], low: float, high: float) -> Within | None:
        """The best choice among options with transients up to `high` that leaves room for `low`."""
        import numpy as np

        graph = self.found.structure
        kept = [np.flatnonzero(column <= high) for column in transients]
        if any(not len(kept[kind]) for kind in self.found.network.variables):
            return None
        shown, pair = restricted(graph, kept, self.sums.shown, self.sums.pair)
        hidden, _ = restricted(graph, kept, self.sums.hidden, [])
        held, _ = restricted(graph, kept, sizes, [])
        made = _larger(graph, (shown, hidden), pair, held, self.limit - low, self.gap)
        return None if made is None else Within(made.cost, original(graph, kept, made.values), made.bound)


def _larger(
    graph: Structure,
    sums: tuple[list[Array], list[Array]],
    pair: list[Array],
    sizes: list[Array],
    limit: float,
    gap: float,
) -> Within | None:
    """The assignment within a limit whose larger sum is least.

    No weighted mean of both sums is more than the larger one, so its least value is a bound. The weight is looked for
    at which both are as large.
    """
    best, bound, ends = None, 0.0, [0.0, 1.0]
    for blend in range(BLENDS):
        share = (1.0, 0.0)[blend] if blend < 2 else 0.5 * (ends[0] + ends[1])
        unary = [share * other + (1.0 - share) * one for one, other in zip(*sums, strict=True)]
        made = minimise_limited(graph, unary, pair, sizes, limit, gap=gap)
        if made is None:
            return None
        first, second = (total(graph, one, pair, made.values) for one in sums)
        bound = max(bound, made.bound)
        if best is None or max(first, second) < best.cost:
            best = Within(max(first, second), made.values, 0.0)
        if best.cost * (1 - gap) <= bound:
            break
        ends[1 if first > second else 0] = share
    assert best is not None
    return Within(best.cost, best.values, min(best.cost, bound))
