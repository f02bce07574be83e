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

from passes.planning.finish import Finished, finish
from passes.planning.least import floor
from passes.planning.space import Space, least_bytes, likely_bytes, lower_bound, solve, work_bound
from passes.planning.stages import fit_sparing, fit_stages, hopeless
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


@dataclass(slots=True)
class _Queue:
    """Strategies by (bound, how closely it was looked at, number)."""

    space: Space
    limit: float
    strategies: list[Strategy]
    heap: list[tuple[float, int, int]] = field(default_factory=list)
    known: set[Strategy] = field(default_factory=set)
    doubtful: list[tuple[float, int]] = field(default_factory=list)  # put off, with their bounds
    lines: set[tuple[object, ...]] = field(
        default_factory=set
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
            if not hopeless(self.space, strategy, self.limit, best):
                self.doubtful.append((bound, number))
            return
        heappush(self.heap, (bound, 1, number))

    def resume(self) -> None:
        """Take up what was put off, when nothing else is left."""
        self.heap.extend((bound, 1, number) for bound, number in self.doubtful)
        self.doubtful.clear()
        heapify(self.heap)

    def relieve(self, bound: float, strategy: Strategy) -> None:
        """Put the next variants that need less memory into the queue: no plan without them fits."""
        for variant in relieved(strategy, self.space):
            if variant in self.known:
                continue
            self.known.add(variant)
            self.strategies.append(variant)
            heappush(self.heap, (min(bound, work_bound(self.space, variant)), 0, len(self.strategies) - 1))


def search(
    space: Space, strategies: Sequence[Strategy], limit: float, effort: Effort, known: Sequence[Finished] = ()
) -> Found:
    """The best steps on devices of `limit` bytes.

    A strategy is looked at closer only while it may still be the best: first by the work alone, then with what ops
    communicate inside, then solved. Where its best choice does not fit the memory, variants of it follow that shard
    states and weights or compute activations again. `known` steps are compared with.
    """
    begin, solved, done = time.perf_counter(), 0, [*known]  # what is known bounds nothing: its strategy waits as well
    best, lost = min((step.objective for step in done), default=inf), inf
    queue = _Queue(space, limit, list(strategies))
    while queue.heap or queue.doubtful:
        if not queue.heap or queue.heap[0][0] >= best * (1 - effort.gap):
            queue.resume()
        bound, level, number = heappop(queue.heap)
        late = time.perf_counter() - begin > effort.seconds or solved >= effort.strategies
        if bound >= best * (1 - effort.gap) or (done and late):
            heappush(queue.heap, (bound, level, number))
            break
        if level == 0:
            queue.refine(bound, number, best)
            continue
        sparing = _spares(space, queue.strategies[number])
        tried = (_sparing if sparing else _step)(space, queue, (bound, level, number), best)
        solved += tried.worked
        lost = min(lost, tried.bound)
        if tried.step is None:
            continue
        done.append(tried.step)
        best = min(best, tried.step.objective)
    done.sort(key=lambda step: step.objective)
    left = min((entry[0] for entry in (*queue.heap, *queue.doubtful)), default=inf)
    proved = min([left, lost, *(step.bound for step in done if not any(step is other for other in known))])
    return Found(tuple(done), min(proved, best), solved, len(queue.strategies), queue.needed)


@dataclass(frozen=True, slots=True)
class _Tried:
    """What came of solving a strategy: a step, or no step that costs less than `bound`; whether it was much work."""

    step: Finished | None
    bound: float = inf
    worked: bool = True


def _step(space: Space, queue: _Queue, entry: tuple[float, int, int], best: float) -> _Tried:
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
        return _Tried(None)
    heappush(queue.heap, (max(bound, solved.bound), 2, number))
    queue.relieve(bound, strategy)
    return _Tried(None)


def _spares(space: Space, strategy: Strategy) -> bool:
    """Whether a pipeline computes some ops again and keeps others, and may send what it likes."""
    return strategy.stages > 1 and space.spares(strategy) and space.bound_of("communication") == inf


def _sparing(space: Space, queue: _Queue, entry: tuple[float, int, int], best: float) -> _Tried:
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
