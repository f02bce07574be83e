"""The search: strategies by their lower bounds, each solved exactly until no other can be better.

The lower bound of a strategy lets every op take its cheapest option by itself. Strategies are solved in the order of
their bounds; the search ends where the next bound is no better than the best plan found. So within the strategies that
were enumerated the gap is that of the solutions themselves; a search that is cut short reports the bound it has.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from math import inf

from passes.planning.bounds import least_bytes, likely_bytes, lower_bound, work_bound
from passes.planning.finish import finish
from passes.planning.least import floor
from passes.planning.solve import solve
from passes.planning.space import Space
from passes.planning.stages import fit_sparing, fit_stages, hopeless
from passes.planning.step import Finished
from passes.planning.strategies import SHARDS, Strategy
from passes.planning.traffic import solve_sending
from passes.planning.within import bound_within, within


@dataclass(frozen=True, slots=True)
class Effort:
    """How far to search: `gap` is the relative gap that is good enough, `seconds` and `strategies` bound the work.

    The bound on solved strategies only matters where memory is short: without it, bounds leave few to solve.
    """

    gap: float = 0.0
    seconds: float = inf
    strategies: int = 64


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found: steps that fit, best first; nothing that was enumerated costs less than `bound`.

    `solved` strategies were solved and `enumerated` there were; `needed` is the least memory that any strategy was
    proved to need, where none fits.
    """

    finished: tuple[Finished, ...]
    bound: float
    solved: int
    enumerated: int
    needed: float = inf


_Entry = tuple[float, int, int]
"""(bound, how closely it was looked at, number) of a strategy."""


@dataclass(slots=True)
class _Queue:
    """Strategies by (bound, how closely it was looked at, number)."""

    space: Space
    limit: float
    strategies: list[Strategy]
    heap: list[_Entry] = field(default_factory=list)
    known: set[Strategy] = field(default_factory=set)
    doubtful: list[tuple[float, int]] = field(default_factory=list)  # put off, with their bounds
    passed: list[tuple[_Entry, float]] = field(default_factory=list)  # of which none was found that costs less than so
    lines: dict[tuple[object, ...], Strategy] = field(
        default_factory=dict
    )  # of pipelines that compute ops again, tried by one name
    needed: float = inf

    def __post_init__(self) -> None:
        self.known.update(self.strategies)
        self.heap = [(work_bound(self.space, each), 0, i) for i, each in enumerate(self.strategies)]
        heapify(self.heap)

    def refine(self, bound: float, number: int, best: float) -> None:
        """Look closer at a strategy: what its ops communicate inside, and the memory that it needs at least."""
        strategy = self.strategies[number]
        least = floor(self.space, strategy)
        least = least if least > self.limit else least_bytes(self.space, strategy)
        if least > self.limit:
            self.needed = min(self.needed, least)
            self.relieve(bound, strategy)
            return
        bound = max(bound, lower_bound(self.space, strategy))
        fitting = bound_within(self.space, strategy, self.limit)
        if fitting > bound * (1 + ROUNDING):  # memory matters
            self.relieve(bound, strategy)
            if fitting < inf:
                heappush(self.heap, (fitting, 1, number))
            return
        if likely_bytes(self.space, strategy) > self.limit:
            self.relieve(bound, strategy)
            if hopeless(self.space, strategy, self.limit, best):
                self.passed.append(((max(bound, best), 1, number), best))
            else:
                self.doubtful.append((bound, number))
            return
        heappush(self.heap, (bound, 1, number))

    def resume(self) -> None:
        """Take up what was put off, when nothing else is left."""
        self.heap.extend((bound, 1, number) for bound, number in self.doubtful)
        self.doubtful.clear()
        heapify(self.heap)

    def reopen(self, best: float) -> None:
        """Take up what was left as it costs no less than what is not to be had: the best that is takes `best`."""
        again = [entry for entry, below in self.passed if below < best]
        self.passed = [(entry, below) for entry, below in self.passed if below >= best]
        self.heap.extend(again)
        heapify(self.heap)

    def relieve(self, bound: float, strategy: Strategy) -> None:
        """Put the next variants that need less memory into the queue: no plan without them fits."""
        for variant in relieved(strategy, self.space):
            if variant in self.known:
                continue
            self.known.add(variant)
            self.strategies.append(variant)
            heappush(self.heap, (min(bound, work_bound(self.space, variant)), 0, len(self.strategies) - 1))

    @property
    def least(self) -> float:
        """What nothing that waits costs less than."""
        waiting = (*self.heap, *self.doubtful, *(entry for entry, _ in self.passed))
        return min((entry[0] for entry in waiting), default=inf)


def search(
    space: Space, strategies: Sequence[Strategy], limit: float, effort: Effort, known: Sequence[Finished] = ()
) -> Found:
    """The best steps on devices of `limit` bytes.

    A strategy is looked at closer only while it may still be the best: first by the work alone, then with what ops
    communicate inside, then solved. Where its best choice does not fit the memory, variants of it follow that shard
    states and weights or compute activations again. `known` steps are compared with.
    """
    return Search(space, limit, effort, strategies, known).run()


@dataclass(slots=True)
class _Done:
    """A step that was found, and where in the queue its strategy was; None for one that was known before."""

    step: Finished
    entry: _Entry | None


class Search:
    """A search that goes on where steps turn out not to be had: their Programs take more memory than they count."""

    def __init__(
        self, space: Space, limit: float, effort: Effort, strategies: Sequence[Strategy], known: Sequence[Finished]
    ) -> None:
        self.space, self.limit, self.effort = space, limit, effort
        self.queue = _Queue(space, limit, list(strategies))
        self.done = [_Done(step, None) for step in known]
        self.solved, self.seconds = 0, 0.0
        self.fitting: list[Finished] = []  # whose Programs are known to fit
        self.allowed: list[Strategy] = []
        self.proved: dict[int, float] = {}  # by strategy: no step under it costs less

    @property
    def best(self) -> float:
        """The least J of all steps."""
        return min((each.step.objective for each in self.done), default=inf)

    def run(self) -> Found:
        """What is the best now."""
        begin, solved, best, queue = time.perf_counter() - self.seconds, 0, self.best, self.queue
        while queue.heap or queue.doubtful:
            if not queue.heap or queue.heap[0][0] >= best * (1 - self.effort.gap):
                queue.resume()
            bound, level, number = heappop(queue.heap)
            late = time.perf_counter() - begin > self.effort.seconds or solved >= self.effort.strategies
            if bound >= best * (1 - self.effort.gap) or (self.done and late):
                heappush(queue.heap, (bound, level, number))
                break
            if level == 0:
                queue.refine(bound, number, best)
                continue
            solved += self._try((bound, level, number), best)
            best = self.best
        self.solved += solved
        self.seconds = time.perf_counter() - begin
        self.done.sort(key=lambda each: each.step.objective)
        steps = tuple(each.step for each in self.done)
        # what was known bounds nothing: its strategy waits as well
        proved = min((queue.least, *(self.proved[each.entry[2]] for each in self.done if each.entry)), default=inf)
        return Found(steps, min(proved, best), self.solved, len(queue.strategies), queue.needed)

    def _try(self, entry: _Entry, best: float) -> bool:
        """Solve a strategy; whether it was much work."""
        bound, level, number = entry
        strategy, queue = self.queue.strategies[number], self.queue
        sparing = _spares(self.space, strategy)
        tried = (_sparing if sparing else _step)(self.space, queue, entry, best)
        # the cuts of a line are proved to be the best for the room that there is beside what is set aside
        certain = sparing or strategy.stages == 1 or not self.space.aside
        proved = min(tried.bound, best) if certain else 0.0
        bound = self.proved[number] = max(bound, self.proved.get(number, 0.0), proved)
        if tried.step is not None:
            bound = self.proved[number] = min(bound, tried.step.objective)
            self.done.append(_Done(tried.step, (bound, level, number)))
        elif not tried.follows:
            queue.passed.append(((bound, level, number), best))
        return tried.worked

    def refuse(self, step: Finished, size: int) -> None:
        """A step's Program takes `size` bytes, which is too much: so are all steps without as much room beside them.

        Their strategies, and those that were left for them, are taken up again by `run`.
        """
        self.space.set_aside(step.strategy, float(size - step.peak))
        gone = [each for each in self.done if each.step is step or not self._has_room(each.step)]
        self.done = [each for each in self.done if all(each is not other for other in gone)]
        self._again(gone)
        self.queue.reopen(self.best)

    def allow(self, step: Finished, size: int) -> bool:
        """A step's Program takes `size` bytes, which fit: it stays. Whether its strategy is taken up again, as by far
        more was set aside than it needs."""
        self.fitting.append(step)
        beside, room = max(0.0, float(size - step.peak)), self.space.room(step.strategy, self.limit)
        if self.limit - beside <= room + SLACK * self.limit or self.allowed.count(step.strategy) == LOOSENED:
            return False
        self.allowed.append(step.strategy)
        self.space.set_aside(step.strategy, beside)
        self._again([each for each in self.done if each.step is step])
        return True

    def know(self, step: Finished) -> None:
        """Compare with a step."""
        self.done.append(_Done(step, None))

    def _again(self, made: Sequence[_Done]) -> None:
        for entry in (each.entry for each in made if each.entry is not None):
            heappush(self.queue.heap, entry)

    def _has_room(self, step: Finished) -> bool:
        fits = any(step is other for other in self.fitting)
        return fits or step.peak <= self.space.room(step.strategy, self.limit)


SLACK = 0.002
"""The share of the memory that may be left over."""

LOOSENED = 3
"""How often a strategy is taken up again as more was set aside than it needs."""


@dataclass(frozen=True, slots=True)
class _Tried:
    """What came of solving a strategy: a step, or no step that costs less than `bound`; whether it was much work, and
    whether the strategy waits in the queue to be looked at closer."""

    step: Finished | None
    bound: float = inf
    worked: bool = True
    follows: bool = False


def _step(space: Space, queue: _Queue, entry: _Entry, best: float) -> _Tried:
    """Solve a strategy: freely first, then within the memory, and within a limit on communication where there is one;
    its variants go into the queue where it does not fit."""
    bound, level, number = entry
    strategy = queue.strategies[number]
    if level == 3:
        sending = solve_sending(space, strategy, queue.limit, GAP)
        made = None if sending is None else finish(space, sending, queue.limit)
        if made is None:
            queue.relieve(bound, strategy)
        return _Tried(made)
    if strategy.stages == 1 and (level == 2 or strategy.recompute == "all"):
        made, least = within(space, strategy, queue.limit, GAP, best)
        if made is None and level == 1:
            queue.relieve(bound, strategy)
        return _Tried(made, max(bound, least))
    if strategy.stages > 1:
        if level == 2:
            return _Tried(fit_stages(space, strategy, queue.limit, bound, best), bound)
        if likely_bytes(space, strategy) > 0.5 * queue.limit and hopeless(space, strategy, queue.limit, best):
            queue.relieve(bound, strategy)
            return _Tried(None, worked=False)
    solved = solve(space, strategy, best * (UNEVEN if strategy.stages > 1 else 1.0))
    if solved is None:
        return _Tried(None, worked=False)
    made = finish(space, solved, queue.limit, best)
    if made is not None:
        return _Tried(made, made.bound)
    if space.bound_of("communication") < inf:
        heappush(queue.heap, (bound, 3, number))
        return _Tried(None, bound, follows=True)
    heappush(queue.heap, (max(bound, solved.bound), 2, number))
    queue.relieve(bound, strategy)
    return _Tried(None, bound, follows=True)


def _spares(space: Space, strategy: Strategy) -> bool:
    """Whether a pipeline computes some ops again and keeps others, and may send what it likes."""
    return strategy.stages > 1 and space.spares(strategy) and space.bound_of("communication") == inf


def _sparing(space: Space, queue: _Queue, entry: _Entry, best: float) -> _Tried:
    """Solve a pipeline that computes as much again as it must; its variants go into the queue where that fails."""
    bound, _, number = entry
    strategy = queue.strategies[number]
    made, least = fit_sparing(space, strategy, queue.limit, best, queue.lines)
    if made is None:
        queue.relieve(bound, strategy)
    return _Tried(made, max(bound, least), worked=made is not None)


UNEVEN = 1.03
"""Stages that are cut unevenly on purpose, or in uneven chunks, were seen to take 2 % less than even ones."""

ROUNDING = 1e-9
"""Relative differences up to this are of rounding."""

GAP = 0.005
"""The certified relative gap that is good enough under a memory limit."""


def relieved(strategy: Strategy, space: Space) -> Iterator[Strategy]:
    """The next cheaper ways to need less memory, as far as the plan leaves them open: one step of ZeRO, or computing
    activations again."""
    request = space.context.request
    if strategy.recompute == "none" and request.recompute == "auto":
        yield strategy.with_(recompute="all")
    at = SHARDS.index(strategy.shard) + 1
    if request.span("shard") is None and at < len(SHARDS) and strategy.inner.ranks > 1:
        yield strategy.with_(shard=SHARDS[at])
