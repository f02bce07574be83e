"""Pipelines in which some ops are computed again and others kept: as few as the memory of each device asks for."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf
from typing import TYPE_CHECKING

from passes.planning.cuts import Cuts, Within, confined, pipeline
from passes.planning.flow import Flow
from passes.planning.pipeline_line import Pipeline
from passes.planning.pipelined import OTHERS, Units, cut_for, ends, idle, pipelined, staged
from passes.planning.runs import Runs
from passes.planning.segments import checkpointed
from passes.planning.solve import Solved
from passes.planning.space import Space
from passes.planning.stage_runs import LONGEST, Choices, estimate, fit, free_choices, repeated, run_choices
from passes.planning.step import Finished
from passes.planning.strategies import PIPELINE, Strategy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dlc.cost.schedules import Schedule

    Array = NDArray[np.float64]

CUTS_TRIED = 3
"""How often a line is cut again, with the runs that stages compute again in it."""

WORTH = 1.01
"""A schedule is tried where it is estimated to take at most so many times the least."""


@dataclass
class Problem:
    """A solved line, and the pipelines that it may be cut for: one for each schedule."""

    found: Space
    solved: Solved
    limit: float
    below: float  # what steps should take less than

    @cached_property
    def sends(self) -> Array:
        """Seconds of a message behind each op."""
        return self.found.fabric(self.solved.strategy.mesh).send(self.solved.line.crossing, PIPELINE)

    @cached_property
    def units(self) -> Units:
        """The line to be cut, with nothing computed again."""
        return Units(self.solved.line, self.sends, ())

    @cached_property
    def pipes(self) -> tuple[Pipeline, ...]:
        """1F1B first."""
        every = (
            _pipe(self.found, each, self.units, self.limit) for each in _schedules(self.found, self.solved.strategy)
        )
        return tuple(pipe for pipe in every if pipe is not None)

    @cached_property
    def free(self) -> Choices:
        """As if ops could be computed again one by one."""
        return free_choices(self.solved.line, self.found.orders.kept)

    @cached_property
    def hopeful(self) -> tuple[tuple[float, Pipeline], ...]:
        """About how long a pipeline that fits takes at least, the best one first; those that may take less."""
        tried = ((estimate(self.free, pipe, self.below), pipe) for pipe in self.pipes)
        return tuple(sorted(((made[0], pipe) for made, pipe in tried if made is not None), key=lambda each: each[0]))

    @property
    def least(self) -> float:
        """About how long the best one takes at least; infinite where none may do."""
        return min((seconds for seconds, _ in self.hopeful), default=inf)

    @property
    def key(self) -> tuple[object, ...]:
        """What a step follows from but for the names of mesh axes."""
        strategy = self.solved.strategy
        return strategy.stages, strategy.microbatches, self.limit, self.units.digest


def sparing(problem: Problem) -> Finished | None:
    """The best step of a pipeline whose devices compute as much again as they must, or all that may be.

    None where none was found that fits, or by an estimate none takes less than `below`.
    """
    found, solved = problem.found, problem.solved
    if problem.limit == inf:
        return pipelined(found, solved, solved.line, (), inf, problem.below)
    if not problem.hopeful:
        return None
    made, fits = _again_in_stages(problem)
    if fits:
        return made
    every = checkpointed(solved.line, found.orders.repeated(solved.strategy))
    return pipelined(found, solved, *every, problem.limit, problem.below)


def _again_in_stages(problem: Problem) -> tuple[Finished | None, bool]:
    """The best step with runs computed again, and whether any is estimated to fit; None where none was found
    that may take less than `below`."""
    found, solved, below = problem.found, problem.solved, problem.below
    if found.stage_flow is None:
        found.stage_flow = Flow(found.network, found.orders.kept, LONGEST)
    runs = Runs(found.stage_flow, solved.line, found.stage_flow.bytes(solved.tables, solved.values))
    choices = run_choices(runs, problem.limit)
    some = [(estimate(choices, pipe, WORTH * below), pipe) for _, pipe in problem.hopeful]
    tried = [(*about, pipe) for about, pipe in some if about is not None]
    best: Finished | None = None
    for seconds, bounds, pipe in sorted(tried, key=lambda each: each[0]):
        if seconds > WORTH * (below if best is None else min(below, best.objective)):
            break
        strategy = solved.strategy.with_(schedule=pipe.schedule, chunks=pipe.chunks)
        made = _recut(problem, strategy, (runs, choices), bounds)
        if made is not None and (best is None or made.objective < best.objective):
            best = made
    return best, bool(tried) or any(fit(choices, pipe) for _, pipe in problem.hopeful)


def _recut(
    problem: Problem, strategy: Strategy, again: tuple[Runs, Choices], bounds: tuple[int, ...]
) -> Finished | None:
    """The best step with runs chosen within stages, and stages cut by the line with these runs, in turn."""
    found, limit, best = problem.found, problem.limit, None
    solved = replace(problem.solved, strategy=strategy)
    pipe = _pipe(found, strategy, problem.units, limit)
    for _ in range(CUTS_TRIED):
        chosen = None if pipe is None else repeated(*again, pipe, bounds)
        if chosen is None:
            break
        units = Units(chosen[0], problem.sends, ())
        cuts = _at(found, strategy, units, bounds, limit)
        if cuts is not None:
            step = staged(found, solved, *chosen, problem.sends, cuts, ())
            if best is not None and step.objective >= best.objective:
                break
            best = step
        cut_again = cut_for(found, strategy, units, limit)
        if cut_again is None or cut_again[1].bounds == bounds:
            break
        bounds = cut_again[1].bounds
    return best


def _schedules(found: Space, strategy: Strategy) -> tuple[Strategy, ...]:
    """The strategy with the schedule that is asked for, or with each that there is."""
    asked = found.context.request.schedule
    if asked != "auto":
        return (strategy.with_(schedule=asked, chunks=2 if asked == "interleaved" else 1),)
    others = (each for each in OTHERS if each[0] != "gpipe")  # takes as long as 1F1B, and holds more
    return tuple(strategy.with_(schedule=s, chunks=c) for s, c in (("one_f_one_b", 1), *others))


def _pipe(found: Space, strategy: Strategy, units: Units, limit: float) -> Pipeline | None:
    """The problem of cutting a line; None where no cuts keep what is written of stages."""
    windows = found.orders.windows(strategy.stages * strategy.chunks)
    if windows is None:
        return None
    schedule: Schedule = strategy.schedule  # type: ignore[assignment]
    limit = found.room(strategy, limit)
    pipe = pipeline(units.line, strategy.stages, strategy.microbatches, schedule, limit=limit, chunks=strategy.chunks)
    pipe = replace(pipe, ends=ends(found))
    if found.orders.staged:
        pipe = confined(pipe, Within(windows, found.orders.barred))
    return pipe if pipe.line.blocks >= pipe.parts and pipe.possible else None


def _at(found: Space, strategy: Strategy, units: Units, bounds: tuple[int, ...], limit: float) -> Cuts | None:
    """These cuts of a line, where all stages fit and keep what is written of them."""
    pipe = _pipe(found, strategy, units, limit)
    if pipe is None:
        return None
    places = [bisect_left(pipe.line.units, bound) for bound in bounds]
    if pipe.excess(places) > 0.0:
        return None
    seconds = pipe.seconds(places)
    cuts = Cuts(bounds, seconds, pipe.all_bytes(places), False, 0.0)
    most = found.bound_of("bubble")
    return None if idle(strategy, (units.slow,) * strategy.stages, cuts, ends(found)) > most else cuts
