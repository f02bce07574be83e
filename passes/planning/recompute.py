"""Which activations of a chain to keep for the backward pass, and which to compute again, under a budget of bytes.

What is kept is held once for each microbatch in flight. A run of dropped units is computed again, from the last kept
unit before it, when the backward pass comes to it; its activations live for that one microbatch until they are used
(Chen et al. 2016, arXiv:1604.06174). So

    peak = slots · Σ saved of kept units + max over all moments of (recomputed activations alive + transient)
    extra seconds = Σ forward of dropped units.

For a bound R on the second term, a run may be as long as its own peak is at most R, and what is left is a knapsack: a
dynamic programme from the last unit to the first, over the next kept unit and the bytes left on a grid of `GRID` cells.
Bytes are rounded down, so its table is a lower bound; a search for kept units with exact bytes, guided by the table,
finds the best. Of all R (the peaks of all runs) intervals are halved, best bound first: an interval's bound takes the
run length of its largest R and the bytes of its smallest.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import accumulate
from math import ceil, gcd, inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

GRID = 2048
"""Cells of the bytes that may be kept: rounding moves the bound by at most n/2048 of them."""

NODES = 2000
"""Steps of each search with exact bytes."""

INTERVALS, WORK = 64, 60_000
"""Intervals of the run bound that may be looked at, and units in all of them together."""

LONG = 500
"""Units of a chain up to which the peaks of all its runs are looked at."""

SAMPLES = 10
"""Bounds on runs that are tried first, each half of the one before, for a choice that others must beat."""

PRICES = 20
"""Steps of the bisection for the price of a byte."""

EQUAL = 1 - 1e-12
NUDGE = 1 + 1e-12


@dataclass(frozen=True, slots=True)
class Step:
    """A unit of the chain: seconds forward, bytes saved for each microbatch, bytes alive while it computes."""

    forward: float
    saved: float
    transient: float = 0.0


@dataclass(frozen=True, slots=True)
class Recomputation:
    """The dropped units, what computing them again takes for a microbatch, and the peak; no choice takes less than
    `lower_bound`, which is `seconds` where `exact`."""

    dropped: tuple[int, ...]
    seconds: float
    bytes: float
    exact: bool
    lower_bound: float


def recompute(steps: Sequence[Step], slots: int, budget: float) -> Recomputation | None:
    """The dropped units with the least extra seconds whose peak is at most `budget` bytes; None where nothing fits.

    The chain's input, in front of unit 0, is held anyway and not counted.
    """
    if peak(steps, slots, ()) <= budget:
        return Recomputation((), 0.0, peak(steps, slots, ()), True, 0.0)
    search = _Search(_Chain(tuple(steps), slots, budget))
    bound = search.run()
    if search.seconds == inf:
        return None
    exact = bound >= search.seconds * EQUAL
    lower = search.seconds if exact else bound
    return Recomputation(search.dropped, search.seconds, peak(steps, slots, search.dropped), exact, lower)


def peak(steps: Sequence[Step], slots: int, dropped: Sequence[int]) -> float:
    """The most bytes alive at any moment of the backward pass, if these units are computed again."""
    again, run, most = set(dropped), 0.0, 0.0
    for i, step in enumerate(steps):
        run = run + step.saved if i in again else 0.0
        most = max(most, run + step.transient)
    return slots * sum(step.saved for i, step in enumerate(steps) if i not in again) + most


class _Chain:
    """The steps at positions 1 to n, between the input at 0 and an end at n + 1, which are kept and weigh nothing."""

    def __init__(self, steps: tuple[Step, ...], slots: int, budget: float) -> None:
        self.steps, self.slots, self.budget, self.end = steps, slots, budget, len(steps) + 1
        self.weight = [0.0, *(slots * step.saved for step in steps), 0.0]
        self.before = [0.0, 0.0, *accumulate(step.forward for step in steps)]  # seconds of the units before a position
        self.saved = [0.0, *accumulate(step.saved for step in steps)]  # bytes of the units up to a position

    def run_peaks(self) -> tuple[list[float], bool]:
        """The peaks that runs may have within the budget, rising, the first that of no run at all; and whether all are
        there: of a long chain there are evenly spaced values instead, of which one is the next above any peak."""
        floor = max(step.transient for step in self.steps)
        if floor > self.budget:
            return [], True
        if len(self.steps) > LONG:
            return [floor + (self.budget - floor) * k / LONG for k in range(LONG + 1)], False
        found = {floor}
        for start in range(self.end):
            most = floor
            for at in range(start + 1, self.end):
                most = max(most, self.saved[at] - self.saved[start] + self.steps[at - 1].transient)
                if most > self.budget:
                    break
                found.add(most)
        return sorted(found), True

    def reach(self, run: float) -> list[int]:
        """For each position the last one that may be the next kept, if no run's peak exceeds `run`."""
        found, last = [], 0
        for start in range(self.end):
            last = max(last, start + 1)
            while last < self.end and self.saved[last] - self.saved[start] + self.steps[last - 1].transient <= run:
                last += 1
            found.append(last)
        return found

    def grid(self, room: float) -> float:
        """Bytes of a cell for this much room: what divides all weights, if it is coarse enough, or else a fine one."""
        fine = room / GRID or 1.0
        if all(float(weight).is_integer() for weight in self.weight):
            common = float(gcd(*(int(weight) for weight in self.weight)))
            return common if common >= fine else fine
        return fine

    def bound(self, run: float, room: float) -> tuple[float, tuple[int, ...]]:
        """No choice takes fewer extra seconds, if no run's peak exceeds `run` and `room` bytes may be kept.

        From the table, and where its cells are not exact also from the best price of a byte (Lagrange): the least
        seconds plus price times the bytes beyond the room, which bisection makes as large as it gets. The positions
        kept at the lowest price at which they fit the room come with it; none where nobody asked for a price.
        """
        cell, best = self.grid(room), float(self.table(run, room)[0, -1])
        if all((weight / cell).is_integer() for weight in self.weight):
            return best, ()
        reach, low, high = self.reach(run), 0.0, self.before[-1] / (room or 1.0)
        choice: tuple[int, ...] = ()
        for _ in range(PRICES):
            price = (low + high) / 2
            cost, kept, previous = self._priced(price, reach)
            best = max(best, (cost - price * room) * EQUAL)
            if kept > room:
                low = price
            else:
                high, choice = price, _back(previous)
        return best, choice

    def _priced(self, price: float, reach: list[int]) -> tuple[float, float, list[int]]:
        """The least seconds plus price for each byte kept; the bytes; and for each position the one kept before it."""
        window: deque[tuple[float, int, float]] = deque([(-self.before[1], 0, 0.0)])  # rising cost, position, bytes
        previous = [0]
        for i in range(1, self.end + 1):
            while reach[window[0][1]] < i:
                window.popleft()
            cost = window[0][0] + self.before[i] + price * self.weight[i]
            kept = window[0][2] + self.weight[i]
            previous.append(window[0][1])
            if i == self.end:
                break
            while window and window[-1][0] >= cost - self.before[i + 1]:
                window.pop()
            window.append((cost - self.before[i + 1], i, kept))
        return cost, kept, previous

    def table(self, run: float, room: float, up: bool = False) -> Floats:
        """Entry [i, c]: the least extra seconds behind the kept position i if what is kept there fits c cells.

        No run's peak exceeds `run`. Weights are rounded down to cells, for a lower bound, or up, for what surely fits.
        """
        import numpy as np

        cell = self.grid(room)
        size, window = int(room / cell * NUDGE) + 1, _Window()
        found = np.zeros((self.end + 1, size))
        reach = self.reach(run)
        for i in range(self.end - 1, -1, -1):
            cells = ceil(self.weight[i + 1] / cell / NUDGE) if up else int(self.weight[i + 1] / cell * NUDGE)
            shifted = np.full(size, np.inf)
            shifted[cells:] = self.before[i + 1] + found[i + 1, : max(0, size - cells)]
            window.add(i + 1, shifted)
            found[i] = window.least(reach[i]) - self.before[i + 1]
        return found


def _back(previous: list[int]) -> tuple[int, ...]:
    """The positions kept on the way from the last one."""
    kept, at = [], len(previous) - 1
    while at:
        kept.append(at)
        at = previous[at]
    return tuple(kept)


class _Window:
    """The least of the arrays added whose keys are not beyond a last one. Keys and last ones fall (two stacks)."""

    def __init__(self) -> None:
        self.added: list[tuple[int, Floats]] = []
        self.newest: Floats | None = None  # the least of `added`
        self.oldest: list[tuple[int, Floats]] = []  # with the least of each and those below

    def add(self, key: int, values: Floats) -> None:
        import numpy as np

        self.added.append((key, values))
        self.newest = values if self.newest is None else np.minimum(self.newest, values)

    def least(self, last: int) -> Floats:
        import numpy as np

        while True:
            if not self.oldest:
                for key, values in reversed(self.added):
                    below = self.oldest[-1][1] if self.oldest else values
                    self.oldest.append((key, np.minimum(below, values)))
                self.added, self.newest = [], None
            if self.oldest[-1][0] <= last:
                break
            self.oldest.pop()
        return self.oldest[-1][1] if self.newest is None else np.minimum(self.newest, self.oldest[-1][1])


class _Search:
    """The best choice so far, over intervals of what runs may peak at."""

    def __init__(self, chain: _Chain) -> None:
        self.chain = chain
        self.runs, self.all_runs = chain.run_peaks()
        self.seconds = inf
        self.dropped: tuple[int, ...] = ()

    def run(self) -> float:
        """Find the best choice; the result is a lower bound on it."""
        if not self.runs:
            return inf
        count, span = len(self.runs), self.runs[-1] - self.runs[0]
        samples = (bisect_left(self.runs, self.runs[0] + span / 2**k) for k in range(SAMPLES))
        for at in dict.fromkeys((0, *samples)):
            self._dive(self.runs[at])
        heap = [(self._bound(0, count - 1), 0, count - 1)]
        left, unproven = min(INTERVALS, WORK // self.chain.end), inf
        while heap and heap[0][0] < self.seconds * EQUAL and left > 0:
            bound, low, high = heappop(heap)
            if low == high:
                if not self._descend(self.runs[low]) or not self.all_runs:
                    unproven = min(unproven, bound)
                continue
            half = bisect_right(self.runs, (self.runs[low] + self.runs[high]) / 2) - 1
            middle = min(max(half, low), high - 1)
            for part in ((low, middle), (middle + 1, high)):
                left -= 1
                heappush(heap, (self._bound(*part), *part))
        return min([unproven, self.seconds] + [bound for bound, _, _ in heap[:1]])

    def _bound(self, low: int, high: int) -> float:
        """No choice whose longest run's peak is one of these takes less."""
        least = self.runs[low] if self.all_runs else self.runs[max(0, low - 1)]
        bound, kept = self.chain.bound(self.runs[high], self.chain.budget - least)
        if kept:
            self._take(kept)
        return bound

    def _take(self, kept: tuple[int, ...]) -> None:
        """Keep these positions, if that is better and fits."""
        chain = self.chain
        dropped = tuple(sorted(set(range(chain.end - 1)).difference(at - 1 for at in kept)))
        seconds = sum(chain.steps[i].forward for i in dropped)
        if seconds < self.seconds and peak(chain.steps, chain.slots, dropped) <= chain.budget:
            self.seconds, self.dropped = seconds, dropped

    def _dive(self, run: float) -> None:
        """The choice that a table of what surely fits leads to."""
        room = self.chain.budget - run
        table = self.chain.table(run, room, up=True)
        if table[0, -1] < self.seconds:
            at, nexts = _Place(0, room, 0.0, ()), _Nexts(self.chain, run, room, table)
            while at.position < self.chain.end:
                at = next(nexts.of(at))[1]
            self._take(at.kept)

    def _descend(self, run: float) -> bool:
        """The best choice whose runs peak at `run` at most, with exact bytes; False where the search was broken off."""
        room = self.chain.budget - run
        nexts = _Nexts(self.chain, run, room, self.chain.table(run, room))
        stack = [nexts.of(_Place(0, room, 0.0, ()))]
        for _ in range(NODES):
            bound, place = next(stack[-1], (inf, None))
            if place is None or bound >= self.seconds * EQUAL:
                stack.pop()
                if not stack:
                    return True
            elif place.position == self.chain.end:
                self._take(place.kept)
            else:
                stack.append(nexts.of(place))
        return False


@dataclass(frozen=True, slots=True)
class _Place:
    """A kept position, the bytes left behind it, the seconds up to it, and all positions kept so far."""

    position: int
    left: float
    seconds: float
    kept: tuple[int, ...]


class _Nexts:
    """What may be kept next, by rising bound of a table."""

    def __init__(self, chain: _Chain, run: float, room: float, table: Floats) -> None:
        import numpy as np

        self.table, self.reach, self.cell = table, chain.reach(run), chain.grid(room)
        self.weight, self.before = np.asarray(chain.weight), np.asarray(chain.before)

    def of(self, place: _Place) -> Iterator[tuple[float, _Place]]:
        """(bound on the whole choice, place) for each next position that fits."""
        import numpy as np

        nexts = np.arange(place.position + 1, self.reach[place.position] + 1)
        left = place.left - self.weight[nexts]
        cells = np.minimum(np.maximum(left, 0.0) / self.cell * NUDGE, self.table.shape[1] - 1).astype(np.int64)
        seconds = place.seconds + self.before[nexts] - self.before[place.position + 1]
        bounds = np.where(left >= 0, seconds + self.table[nexts, cells], np.inf)
        for at in np.argsort(bounds, kind="stable"):
            if bounds[at] == np.inf:
                return
            position = int(nexts[at])
            yield float(bounds[at]), _Place(position, float(left[at]), float(seconds[at]), (*place.kept, position))
