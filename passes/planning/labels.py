"""Assignments of two criteria, enumerated with bounds: exact where all labels fit, else a beam.

Variables are given values from the last eliminated to the first, one subtree of the elimination after another. A label
is a choice so far, with the least that each criterion by itself, and both as they are weighted in the relaxation, can
still come to: the tables of the elimination say so exactly. A label is dropped if these show that it cannot become
better than what is known, or if another one that agrees on all variables that still matter is no worse in both
criteria. If there are more labels than `width`, the best by the weighted bound stay, spread over the second criterion.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from passes.planning.criteria import Criteria, Goal
from passes.planning.elimination import Evaluation, evaluate, row_numbers
from passes.planning.structure import Structure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Flags = NDArray[np.bool_]
    Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Enumerated:
    """The best assignment found, if one is better than what was asked for, and a bound on all that were dropped."""

    values: Indices | None
    bound: float


@dataclass(frozen=True, slots=True)
class _Choice:
    """A variable to choose, at given values of its neighbours; `symbol` is -1 - i for the i-th bucket of the core."""

    variable: int
    neighbours: tuple[int, ...]
    symbol: int


@dataclass(frozen=True, slots=True)
class _Labels:
    """Labels in rows: `totals` are the bounds on both criteria and the weighted one, `front` the values that matter."""

    totals: Array
    front: Indices

    def take(self, rows: Indices | Flags) -> _Labels:
        """Some of them."""
        return _Labels(self.totals[rows], self.front[rows])


def enumerate_labels(
    criteria: Criteria, goal: Goal, multiplier: float, below: float, width: int, until: float = inf
) -> Enumerated | None:
    """The best assignment whose value is less than `below`.

    None if the core is too large for exact tables, or the clock (`time.perf_counter`) has passed `until`.
    """
    weights = [(1.0, 0.0), (0.0, 1.0), goal.weights(multiplier)]
    evaluations = [evaluate(criteria.structure, *criteria.weighted(*each)) for each in weights]
    if len(evaluations[0].core.buckets) < len(criteria.structure.core.variables):
        return None
    search = _Search(criteria, goal, goal.offset(multiplier), below, width, evaluations)
    for choice in search.order:
        if time.perf_counter() > until:
            return None
        search.choose(choice)
    return search.result()


class _Search:
    """The labels while variables are chosen."""

    def __init__(
        self,
        criteria: Criteria,
        goal: Goal,
        offset: float,
        below: float,
        width: int,
        evaluations: Sequence[Evaluation],
    ) -> None:
        import numpy as np

        self.criteria, self.goal, self.offset, self.below, self.width = criteria, goal, offset, below, width
        self.evaluations = evaluations
        self.order = _order(criteria.structure, evaluations[0])
        self.last = {v: i for i, choice in enumerate(self.order) for v in (choice.variable, *choice.neighbours)}
        self.columns: list[int] = []
        self.trail: list[tuple[int, Indices, Indices]] = []
        self.dropped = inf
        start = np.array([[evaluation.bound for evaluation in evaluations]])
        self.labels = _Labels(start, np.zeros((1, 0), dtype=np.int64))

    def choose(self, choice: _Choice) -> None:
        """Give a variable each of its values in each label, and keep what may still be the best."""
        import numpy as np

        around = self.labels.front[:, [self.columns.index(v) for v in choice.neighbours]]
        _, one, places = np.unique(row_numbers(around), return_index=True, return_inverse=True)
        with np.errstate(invalid="ignore"):
            rows = [_costs(evaluation, choice, around[one]) for evaluation in self.evaluations]
            regrets = np.stack([row - row.min(axis=1, keepdims=True) for row in rows], axis=2)
            totals = self.labels.totals[:, None, :] + regrets[places]
            parents, values = np.nonzero(self.bounds(totals) < self.below)
        front = np.column_stack([self.labels.front[parents], values])
        labels = _Labels(totals[parents, values], front)
        needed = [i for i, v in enumerate((*self.columns, choice.variable)) if self.last[v] > len(self.trail)]
        labels = _Labels(labels.totals, labels.front[:, needed])
        self.columns = [v for i, v in enumerate((*self.columns, choice.variable)) if i in needed]
        kept = self._kept(labels)
        self.labels = labels.take(kept)
        self.trail.append((choice.variable, parents[kept], values[kept]))

    def bounds(self, totals: Array) -> Array:
        """What no completion of a label is below."""
        import numpy as np

        slack = 1e-14 * np.abs(totals[..., 1])
        alone = self.goal.value(totals[..., 0], totals[..., 1] - slack)
        return np.fmax(alone, totals[..., 2] + self.offset)

    def _kept(self, labels: _Labels) -> Indices:
        """The labels that none is better than, at most `width`."""
        numbers = row_numbers(labels.front)
        kept = _pareto(numbers, labels.totals[:, 0], labels.totals[:, 1])
        if len(kept) > self.width:
            bounds = self.bounds(labels.totals[kept])
            stay = _spread(numbers[kept], labels.totals[kept, 1], bounds, self.width)
            self.dropped = min(self.dropped, float(bounds[~stay].min()))
            kept = kept[stay]
        return kept

    def result(self) -> Enumerated:
        """The best label, traced back."""
        import numpy as np

        bound = min(self.dropped, self.below)
        ends = self.goal.value(self.labels.totals[:, 0], self.labels.totals[:, 1])
        if not len(ends):
            return Enumerated(None, bound)
        row, values = int(ends.argmin()), np.zeros(len(self.order), dtype=np.int64)
        for variable, parents, chosen in reversed(self.trail):
            values[variable] = chosen[row]
            row = int(parents[row])
        return Enumerated(values, min(bound, float(ends.min())))


def _costs(evaluation: Evaluation, choice: _Choice, around: Indices) -> Array:
    """[i, value]: what a variable and all that was eliminated before it cost at its neighbours' values."""
    import numpy as np

    if choice.symbol >= 0:
        return evaluation.costs(choice.symbol, around)
    costs = evaluation.core.buckets[-1 - choice.symbol].costs(list(around.T))
    return np.broadcast_to(costs, (len(around), costs.shape[-1]))


def _order(structure: Structure, evaluation: Evaluation) -> list[_Choice]:
    """Every variable after its neighbours at its elimination, smaller subtrees first."""
    choices = [
        _Choice(variable, tuple(around), group.symbol)
        for group in structure.groups
        for variable, around in zip(group.variables.tolist(), group.neighbours.tolist(), strict=True)
    ]
    named = structure.core.variables
    choices += [
        _Choice(named[bucket.variable], tuple(named[w] for w in bucket.neighbours), -1 - i)
        for i, bucket in enumerate(evaluation.core.buckets)
    ]
    place = {choice.variable: i for i, choice in enumerate(choices)}
    parents = [min((place[v] for v in choice.neighbours), default=-1) for choice in choices]
    sizes, below = [1] * len(choices), [list[int]() for _ in choices]
    waiting = list[int]()
    for i, parent in enumerate(parents):
        (below[parent] if parent >= 0 else waiting).append(i)
        if parent >= 0:
            sizes[parent] += sizes[i]
    order = list[_Choice]()
    waiting.reverse()
    while waiting:
        i = waiting.pop()
        order.append(choices[i])
        waiting += sorted(below[i], key=lambda j: (-sizes[j], j))
    return order


def _pareto(numbers: Indices, first: Array, second: Array) -> Indices:
    """The rows that no other of the same number is as good as in both criteria; one of equal rows."""
    import numpy as np

    order = np.lexsort((second, first, numbers))
    classes = np.cumsum(np.diff(numbers[order], prepend=numbers[order[:1]]) != 0)
    # The rank of the second criterion, lower by more than all ranks from one class to the next: a running minimum
    # over these starts anew with each class.
    ranks = np.unique(second, return_inverse=True)[1][order] - classes * (len(order) + 1)
    least = np.minimum.accumulate(ranks)
    best = np.ones(len(order), dtype=bool)
    best[1:] = ranks[1:] < least[:-1]
    return np.sort(order[best])


def _spread(numbers: Indices, second: Array, bounds: Array, width: int) -> Flags:
    """Which labels stay: of each number, and each part of the range of the second criterion, the best bound."""
    import numpy as np

    classes = np.unique(numbers, return_inverse=True)[1]
    parts = max(1, width // (int(classes.max()) + 1))
    low, high = float(second.min()), float(second.max())
    part = np.minimum((second - low) * (parts / (high - low or 1.0)), parts - 1).astype(np.int64)
    order = np.lexsort((bounds, classes * parts + part))
    group = (classes * parts + part)[order]
    first = np.ones(len(order), dtype=bool)
    first[1:] = group[1:] != group[:-1]
    # First the best of every part, then the others, each by their bounds.
    rank = np.empty(len(order), dtype=np.int64)
    rank[order[np.lexsort((bounds[order], ~first))]] = np.arange(len(order))
    return np.asarray(rank < width)
