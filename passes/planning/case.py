"""A network on a cluster, to be planned anew under other orders and limits: what fits, and what needs least."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from math import inf

from dlc.diagnostics import Span
from dlc.ir.graph import Graph
from dlc.ir.plan import Plan
from dlc.ir.request import Limit, Request
from passes.context import Context
from passes.planning.apply import apply
from passes.planning.bounds import work_bound
from passes.planning.least import extreme, floor, likely, smallest
from passes.planning.orders import refused
from passes.planning.search import Effort, Search
from passes.planning.space import Space, space
from passes.planning.step import Finished
from passes.planning.strategies import Strategy, enumerate_strategies, spaced

EFFORT = Effort(gap=0.05, strategies=6)
"""How far is searched for the plan that a repair allows: its step time is shown as a ratio."""


PRICED = 16
"""Strategies, those that compute fastest, among which it is searched for."""


SCRATCH = 16
"""Workspaces of this part of the memory are tried, where nothing fits with those of the fastest algorithms."""


Looked = tuple[Space, tuple[Strategy, ...]]


TIMES = 3
"""How often a smaller Program is looked for: that of the plan which counts least is not always the smallest."""


TIGHTER = 5
"""How often less is asked for, where a Program takes more than its plan counts."""


Allocated = Callable[[Graph, Context, Plan], int]
"""A graph, its context and a plan -> bytes that the Program allocates on the rank with most."""


@dataclass(slots=True)
class Case:
    """A network on a cluster, to be planned under other orders and limits; `regraph` makes its training graph anew for
    another precision, `allocated` says what the Program of a plan takes on the rank with most.

    A Program takes more than its plan counts: what sums need beside their operands, gathered weights, values on their
    way from one form to another. With `allocated` that counts as well; else only what plans count is within `limit`.
    """

    graph: Graph
    context: Context
    limit: float
    regraph: Callable[[Context], Graph] | None = None
    allocated: Allocated | None = None
    known: dict[tuple[float, bool], Looked] = field(default_factory=dict)
    smallest: dict[tuple[float, str], tuple[Looked, Finished] | None] = field(default_factory=dict)
    measured: dict[int, tuple[Finished, int]] = field(default_factory=dict)

    def asking(self, request: Request) -> Case:
        """The same under other orders."""
        return replace(self, context=self.context.with_(request=request), known={}, smallest={})

    def counting(self, limit: float) -> Case:
        """The same where only what plans count is within a limit."""
        return replace(self, limit=limit, allocated=None, smallest={})

    def needs(self, step: Finished) -> int:
        """Bytes that a device has to have for a step found here: its plan's count, and those of its Program, where
        that was measured."""
        return max(step.peak, self.measured[id(step)][1]) if id(step) in self.measured else step.peak

    def measure(self, everything: Space, step: Finished, plan: Plan | None = None) -> int:
        """Bytes that the Program of a step allocates; of its plan, where there is one already."""
        if self.allocated is None:
            return step.peak
        if id(step) not in self.measured:
            size = self.allocated(self.graph, everything.context, plan or apply(everything, step, 0.0))
            self.measured[id(step)] = step, size
        return self.measured[id(step)][1]

    def strategies(self, every: bool = True) -> tuple[Strategy, ...]:
        """All strategies, with the batch cut into any number of microbatches; or those that pay where memory is not
        short."""
        units = sum(1 for node in self.graph.nodes if node.stage in ("forward", "loss"))
        return tuple(enumerate_strategies(self.graph, self.context, units, every))

    def space(self, scratch: float = inf, every: bool = True) -> Looked:
        """What there is to choose from, with workspaces of so many bytes at most."""
        if (scratch, every) not in self.known:
            context, strategies = self.context, self.strategies(every)
            if scratch < inf:
                request = context.request
                limit = Limit("workspace", scratch, Span("", 0, 0, 0, 0))
                context = context.with_(request=replace(request, limits=(*request.limits, limit)))
            self.known[scratch, every] = space(self.graph, context, strategies), strategies
        return self.known[scratch, every]

    def spaces(self) -> Iterator[Looked]:
        """The same as it is; then with small workspaces, where some are large beside the limit."""
        yield self.space()
        whole, strategies = self.space()
        scratch = self.limit / SCRATCH
        if (
            self.limit < inf
            and strategies
            and any(float(whole.prices.of(kind).workspace.max(initial=0.0)) > scratch for kind, _ in whole.ops)
        ):
            yield self.space(scratch)

    def least(self, enough: float = -inf) -> Finished | None:
        """The step that needs least memory, or one of at most `enough` bytes."""
        found = self.least_of(enough)
        return None if found is None else found[1]

    def least_of(self, enough: float = -inf) -> tuple[Looked, Finished] | None:
        """That step, and what it was found among."""
        key = (enough, "count")
        if key not in self.smallest:
            self.smallest[key] = self._tightened(enough, self._least_of)
        return self.smallest[key]

    def _least_of(self, enough: float) -> tuple[Looked, Finished] | None:
        best: tuple[Looked, Finished] | None = None
        for looked in () if refused(self.graph, self.context) else self.spaces():
            made = smallest(*looked, enough)
            if made is not None and (best is None or made.peak < best[1].peak):
                best = looked, made
            if best is not None and best[1].peak <= enough:
                break
        return best

    def _tightened(
        self, limit: float, found: Callable[[float], tuple[Looked, Finished] | None]
    ) -> tuple[Looked, Finished] | None:
        """What is found for a limit, or for lower ones while it takes more than that; else what takes least.

        What a Program takes beside its count is set aside; where nothing is found then, half of what was too much.
        What has too large a count is not measured.
        """
        best, room, nothing = found(limit), limit, 0.0
        made = best
        for _ in range(TIGHTER):
            wanted = 0.0
            if made is not None and best is not None:
                if made[1].peak > limit:
                    break
                size = self.measure(made[0][0], made[1])
                best = made if self.needs(made[1]) < self.needs(best[1]) else best
                if size <= limit or made[1].peak > room:
                    break
                high, wanted = float(made[1].peak), made[1].peak - (size - limit)
            elif best is None:
                break
            else:
                nothing = room
            room = wanted if wanted > nothing else (nothing + high) / 2
            made = found(room)
        return best

    def best(self, limit: float) -> Finished | None:
        """About the shortest step within a limit."""
        found = self.best_of(limit)
        return None if found is None else found[1]

    def best_of(self, limit: float) -> tuple[Looked, Finished] | None:
        """That step, and what it was found among: the usual strategies as `plan` searches them, or all that there are
        where none of those fits, at counts of microbatches well apart."""
        made = self._going_on(limit)
        if made is not None and made[2]:
            return made[0], made[1]
        found = self._tightened(limit, self._best_of)
        if found is not None and self.measure(found[0][0], found[1]) > limit:
            found = self.least_of(limit)
        tried = (found, None if made is None else (made[0], made[1]))
        fits = [each for each in tried if each is not None and self.needs(each[1]) <= limit]
        return min(fits, key=lambda each: each[1].objective, default=None)

    def smallest_program(self, enough: float) -> tuple[Looked, Finished] | None:
        """The step with the smallest Program that is found: that of the least count, or of at most `enough` bytes, or
        one among the fastest within what that one needs."""
        key = (enough, "Program")
        if key not in self.smallest:
            made = self.smallest[key] = self.least_of(enough)
            for _ in range(TIMES):
                made = None if made is None else self.best_of(self.measure(made[0][0], made[1]) - 1)
                self.smallest[key] = made or self.smallest[key]
        return self.smallest[key]

    def _best_of(self, limit: float) -> tuple[Looked, Finished] | None:
        """About the shortest step that fits by its count."""
        searched = self._searching(limit)
        return None if searched is None else (searched[0], searched[1].run().finished[0])

    def _going_on(self, limit: float) -> tuple[Looked, Finished, bool] | None:
        """The same by its Program, where the search goes on with as much set aside for each that does not fit, and
        whether it was found by that; None where those of all that are tried take more."""
        searched = self._searching(limit)
        if searched is None:
            return None
        looked, search = searched
        known = search.done[0].step
        for _ in range(TIGHTER):
            best = next(iter(search.run().finished), None)
            if best is None or self.measure(looked[0], best) <= limit:
                return None if best is None else (looked, best, best is not known)
            search.refuse(best, self.measure(looked[0], best))
        return None

    def _searching(self, limit: float) -> tuple[Looked, Search] | None:
        """What is searched for the shortest step within a limit; None where nothing fits by its count."""
        looked = None if refused(self.graph, self.context) else self._looked(limit)
        if looked is None:
            return None
        (everything, strategies), least = looked
        ranked = sorted(strategies, key=lambda each: work_bound(everything, each))
        tried = (each for each in ranked if _may_fit(everything, extreme(everything, each), limit))
        alone = replace(everything, aside={})
        return looked[0], Search(alone, limit, EFFORT, tuple(islice(tried, PRICED)), [least])

    def _looked(self, limit: float) -> tuple[Looked, Finished] | None:
        """What to search in for a limit, and the step of it that needs least; None where none fits by its count."""
        everything, strategies = self.space(every=False)
        least = smallest(everything, strategies, limit)
        if least is not None and least.peak <= limit:
            return (everything, strategies), least
        found = self._least_of(limit)
        if found is None or found[1].peak > limit:
            return None
        return (found[0][0], spaced(found[0][1])), found[1]


def _may_fit(everything: Space, strategy: Strategy, limit: float) -> bool:
    return limit == inf or (floor(everything, strategy) <= limit and likely(everything, strategy) <= limit)
