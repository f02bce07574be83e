"""Which runs of ops are computed again so that a step fits its memory, and what that takes.

A run drops the results that the backward pass reads and no op behind the run does, and computes them again when the
backward pass comes to it: those ops alone on whose results they depend. So a run of an activation and of the linear
layer behind it costs one more activation, not a linear layer. What a run reads of values that nothing else keeps is
kept for it.

For a price on bytes, the best runs are the shortest path over the places between ops. Prices are tried until what is
held fits beside the largest need of a run while it is computed again, for a few limits on that need; then the choices
at two prices next to each other are joined where both have a border.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

from passes.planning.evaluate import Line
from passes.planning.flow import Flow
from passes.planning.segments import Segments
from passes.planning.tables import Tables

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Integers = NDArray[np.int64]

PRICES = 16
"""Prices of a byte that are tried at once."""

PLACES = 64
"""Places whose runs are priced at once."""

HALVINGS = 8
"""Limits on what a run needs while it is computed again, each half of the one before."""


@dataclass(frozen=True)
class Runs:
    """[place, k]: of the run of k + 1 ops that ends at a place, seconds a microbatch, bytes that it frees and those of
    its own results, and what it needs while its backward pass runs; infinite where it may not be."""

    flow: Flow
    costs: Line
    size: Array  # of each value

    def _along(self, found: Array) -> Array:
        """[op, k] as [place, k]: the op that is k before the last of the run."""
        import numpy as np

        count, width = found.shape
        op = np.arange(count + 1)[:, None] - 1 - np.arange(width)
        return np.asarray(np.where(op < 0, 0.0, found[np.maximum(op, 0), np.arange(width)]))

    @cached_property
    def seconds(self) -> Array:
        """Of the ops that are computed again."""
        return self._along(self.flow.needed * self.costs.forward[:, None]).cumsum(axis=1)

    @cached_property
    def dropped(self) -> Array:
        """Bytes of the results that are dropped."""
        import numpy as np

        found = np.zeros(self.flow.needed.shape)
        for value, size in zip(self.flow.values, self.size.tolist(), strict=True):
            if value.kept and value.last - value.maker < self.flow.width:
                found[value.maker, value.last - value.maker] += size
        return self._along(found.cumsum(axis=1)).cumsum(axis=1)

    @cached_property
    def freed(self) -> Array:
        """Those, less what is kept for the run that nothing else keeps."""
        import numpy as np

        found, width = np.zeros(self.flow.needed.shape), self.flow.width
        for value, size in zip(self.flow.values, self.size.tolist(), strict=True):
            for reader in () if value.kept else value.readers:
                needed, lost = size * self.flow.needed[reader], value.last - value.maker
                found[reader] += needed
                if lost < width:  # from there on it is made again as well
                    found[value.maker, lost:] -= needed[value.last - reader : width - (reader - value.maker)]
        return np.asarray(self.dropped - self._along(found).cumsum(axis=1))

    @cached_property
    def needs(self) -> Array:
        """The largest transient, and what is made again."""
        import numpy as np

        width = self.flow.width
        transient = self._along(np.repeat(self.costs.transient[:, None], width, axis=1))
        needs = np.maximum.accumulate(transient, axis=1) + self.dropped
        return np.where(np.arange(width) < self.flow.longest[:, None], needs, np.inf)


@dataclass(frozen=True)
class Part:
    """The runs within some stretches of ops, which one device has: their tables as in `Runs`, stretch behind stretch.

    `freed` counts a run as often as its stretch is held. All stretches hold `kept` bytes where nothing is computed
    again, and need `least` while their backward pass runs; `ops` are their ops.
    """

    ops: Integers
    seconds: Array
    freed: Array
    needs: Array
    kept: float
    least: float

    @property
    def tables(self) -> tuple[Array, Array, Array]:
        """Seconds of runs, and bytes that they free and need."""
        return self.seconds, self.freed, self.needs

    def segments(self, choice: Choice) -> Segments:
        """The ops of runs."""
        return tuple((int(self.ops[first]), int(self.ops[end - 1]) + 1) for first, end in choice.tolist())


def part_of(runs: Runs, stretches: Sequence[tuple[int, int]], held: Sequence[float]) -> Part:
    """The runs within stretches of ops, each with so many microbatches held."""
    import numpy as np

    costs, width = runs.costs, runs.flow.width
    ops = np.concatenate([np.arange(first, end) for first, end in stretches])
    often = np.concatenate([np.full(end - first, float(n)) for (first, end), n in zip(stretches, held, strict=True)])
    inside = np.concatenate([np.arange(end - first) for first, end in stretches])
    seconds, freed, needs = (np.zeros((len(ops) + 1, width)) for _ in range(3))
    seconds[1:], freed[1:] = runs.seconds[ops + 1], runs.freed[ops + 1] * often[:, None]
    needs[1:] = np.where(np.arange(width) <= inside[:, None], runs.needs[ops + 1], np.inf)
    needs[0] = np.inf
    kept, least = float((often * costs.saved[ops]).sum()), float(costs.transient[ops].max(initial=0.0))
    return Part(ops, seconds, freed, needs, kept, least)


Choice: TypeAlias = "Integers"
"""Runs, [i]: the first op of the i-th and the one behind its last, by their places in a part."""


def cheapest_runs(
    flow: Flow, tables: Tables, values: Integers, costs: Line, limit: float
) -> tuple[Line, Segments] | None:
    """The line with the runs computed again that take least seconds, and those runs; None where none are found with
    which it fits `limit` bytes."""

    runs = Runs(flow, costs, flow.bytes(tables, values))
    part, room = part_of(runs, [(0, len(costs.forward))], [1]), limit - float(costs.fixed.sum())
    best: tuple[float, Choice] | None = None
    for halving in reversed(range(HALVINGS)):
        most = part.least + (room - part.least) * 0.5**halving
        found = best_runs(part, most, room)
        if found is not None and (best is None or found[0] < best[0]):
            best = found
        elif best is not None and found is not None:
            break
    if best is None:
        return None
    again = part.segments(best[1])
    return repeated_line(runs, again), again


def best_runs(runs: Part, most: float, room: float) -> tuple[float, Choice] | None:
    """The best runs that need at most so much while they are computed again."""
    import numpy as np

    allowed = (runs.needs <= most) & (runs.freed > 0.0)
    if not allowed.any():
        return None
    rates = runs.seconds[allowed] / runs.freed[allowed]
    prices = np.unique(np.quantile(rates, np.linspace(0.0, 1.0, PRICES))) * (1 + 1e-9)
    prices = np.append(prices, prices[-1] * 2.0 + 1e-30)
    over: Choice = np.zeros((0, 2), dtype=np.int64)
    found: tuple[float, Choice] | None = None
    for _ in range(2):
        choices = paths(runs, np.full(len(prices), most), prices)
        fits = [_peak(runs, choice) <= room for choice in choices]
        if not any(fits):
            return found
        at = fits.index(True)
        over = choices[at - 1] if at else over
        found = _better(runs, choices[at], found, room)
        for about, choice in _joined(runs, over, choices[at], room):
            if found is None or about < found[0] * (1 + ROUNDING):
                found = _better(runs, choice, found, room)
        prices = np.linspace(prices[at - 1] if at else 0.0, prices[at], PRICES // 2)
    return found


def paths(runs: Part, most: Array, prices: Array) -> list[Choice]:
    """For each price of a byte, and what a run may need at most beside it, the runs that take least."""
    import numpy as np

    count = len(runs.ops)
    best = np.zeros((count + 1, len(prices)))
    before = np.zeros((count + 1, len(prices)), dtype=np.int64)  # ops of the run that ends here; 0 where none does
    every, seconds = np.arange(len(prices)), np.where(runs.freed > 0.0, runs.seconds, np.inf)
    some = (runs.needs <= most.max(initial=0.0)) & (runs.freed > 0.0)
    lengths = np.where(some.any(axis=1), some.shape[1] - some[:, ::-1].argmax(axis=1), 0).tolist()
    costs = np.empty((0, some.shape[1], len(prices)))
    for place in range(1, count + 1):
        at_once = (place - 1) % PLACES
        if not at_once:
            part, longest = slice(place, place + PLACES), max(lengths[place : place + PLACES])
            needs, freed = runs.needs[part, :longest, None], runs.freed[part, :longest, None]
            costs = np.where(needs <= most, seconds[part, :longest, None] - freed * prices, np.inf)
        best[place] = best[place - 1]
        length = lengths[place]
        if not length:
            continue
        priced = costs[at_once, :length] + best[place - length : place][::-1]
        better = priced.min(axis=0) < best[place]
        if better.any():
            at = priced.argmin(axis=0)
            best[place] = np.where(better, priced[at, every], best[place])
            before[place] = np.where(better, at + 1, 0)
    return [_back(before[:, price].tolist()) for price in range(len(prices))]


def _back(before: list[int]) -> Choice:
    import numpy as np

    found, place = list[tuple[int, int]](), len(before) - 1
    while place > 0:
        if before[place]:
            found.append((place - before[place], place))
        place -= before[place] or 1
    return np.array(found[::-1], dtype=np.int64).reshape(-1, 2)


def _better(runs: Part, choice: Choice, found: tuple[float, Choice] | None, room: float) -> tuple[float, Choice] | None:
    """A choice that fits, if it takes less than what was found."""
    seconds = _sum(_of(runs.seconds, choice))
    return (seconds, choice) if (found is None or seconds < found[0]) and _peak(runs, choice) <= room else found


ROUNDING = 1e-9
"""Relative differences up to this are of sums in another order."""


def _joined(runs: Part, over: Choice, under: Choice, room: float) -> Iterator[tuple[float, Choice]]:
    """The first runs of one choice and the others of another, both ways, where no run of either is cut and about `room`
    bytes or less are held; with about their seconds."""
    import numpy as np

    least, kept = runs.least, runs.kept
    for front, back in ((over, under), (under, over)):
        ahead, behind = ([_of(table, each) for table in runs.tables] for each in (front, back))
        before = [np.cumsum(ahead[0]), np.cumsum(ahead[1]), np.maximum.accumulate(ahead[2])]
        after = [np.append(np.cumsum(column[::-1])[::-1], 0.0) for column in behind[:2]]
        most = np.append(np.maximum.accumulate(behind[2][::-1])[::-1], 0.0)
        at = np.searchsorted(back[:, 0], front[:, 1])
        held = kept - (before[1] + after[1][at]) + np.maximum(np.maximum(least, before[2]), most[at])
        about = before[0] + after[0][at]
        for index in np.flatnonzero(held <= room * (1 + ROUNDING) + 1).tolist():
            yield float(about[index]), np.concatenate([front[: index + 1], back[at[index] :]])


def _of(table: Array, choice: Choice) -> Array:
    """The entries of some runs in a table of all."""
    import numpy as np

    return np.asarray(table[choice[:, 1], choice[:, 1] - choice[:, 0] - 1])


def _sum(column: Array) -> float:
    """In order, so that sums of equal runs are equal."""
    return float(column.cumsum()[-1]) if len(column) else 0.0


def _peak(runs: Part, choice: Choice) -> float:
    """Bytes beside what is fixed: all that is held, and the largest need."""
    held = runs.kept - _sum(_of(runs.freed, choice))
    return held + float(_of(runs.needs, choice).max(initial=runs.least))


def repeated_line(runs: Runs, choice: Segments) -> Line:
    """The line with these runs computed again: what a run frees is taken off what its ops hold, in proportion."""
    import numpy as np

    costs = runs.costs
    if not choice:
        return costs
    spans = np.array(choice, dtype=np.int64)
    lengths = spans[:, 1] - spans[:, 0]
    at, last = (spans[:, 1], lengths - 1), np.repeat(spans[:, 1] - 1, lengths)
    ops = np.arange(lengths.sum()) + np.repeat(spans[:, 0] - np.append(0, lengths.cumsum()[:-1]), lengths)
    whole = np.append(0.0, costs.saved.cumsum())
    whole = whole[spans[:, 1]] - whole[spans[:, 0]]
    left = np.ones(len(spans))
    np.divide(whole - runs.freed[at], whole, out=left, where=whole > 0.0)
    saved, transient, backward = costs.saved.copy(), costs.transient.copy(), costs.backward.copy()
    saved[ops] *= np.repeat(left, lengths)
    transient[ops] += np.repeat(runs.dropped[at], lengths)
    backward[ops] += runs.flow.needed[ops, last - ops] * costs.forward[ops]
    return replace(costs, saved=saved, transient=transient, backward=backward)
