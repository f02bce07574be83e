"""The planner on random small networks and clusters: as trying everything, and as a count by hand from the graph.

Options are cut down at random until all assignments can be tried. What the planner says that some of them cost is
compared with `reference.py`, which prices the graph without any of the planner's tables.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from math import inf

import numpy as np
import pytest

from passes.planning.bounds import lower_bound
from passes.planning.evaluate import line
from passes.planning.finish import finish
from passes.planning.search import GAP as LIMIT_GAP
from passes.planning.search import SHARDS, Effort, relieved, search
from passes.planning.solve import GAP as SUMS_GAP
from passes.planning.solve import Solved, solve
from passes.planning.space import Space, space
from passes.planning.step import Finished
from passes.planning.strategies import Strategy, divisors, enumerate_strategies, group_unit
from passes.planning.within import fit_within
from tests.passes.planning.exhaustive import Every, Kept, choices, column, every, keep, restrict
from tests.passes.planning.random_networks import Case, random_case
from tests.passes.planning.reference import Reference

ROUNDING = 1e-9
FEW, MANY = range(16), range(16, 260)
"""Seeds in CI, and those of the nightly suite besides."""


def strategies(case: Case) -> list[Strategy]:
    units = sum(node.stage in ("forward", "loss") for node in case.graph.nodes)
    return list(enumerate_strategies(case.graph, case.context, units))


def problems(seeds: range, most: int) -> Iterator[tuple[random.Random, Case, Space, Strategy]]:
    """Strategies without a pipeline, sharded and in microbatches at random, with a few options left for each op."""
    for seed in seeds:
        case, rng = random_case(seed), random.Random(seed)
        counts = [m for m in divisors(case.graph.batch) if case.graph.batch // m % group_unit(case.graph) == 0]
        varied = [
            each.with_(shard=rng.choice(SHARDS), microbatches=rng.choice(counts))
            for each in strategies(case)
            if each.stages == 1
        ]
        everything = space(case.graph, case.context, varied)
        for strategy in varied:
            if restrict(everything, strategy, rng, most) is not None:
                yield rng, case, everything, strategy


def peaks(everything: Space, strategy: Strategy, found: Every) -> np.ndarray:
    """[assignment]: bytes of a rank."""
    fixed, saved, transient = (
        column(everything, strategy, found.values, name) for name in ("fixed", "saved", "transient")
    )
    return np.floor(fixed.sum(axis=1) + saved.sum(axis=1) + transient.max(axis=1))


def compare(seeds: range, most: int) -> int:
    """The solver beside every assignment; how many problems there were."""
    count = 0
    for rng, case, everything, strategy in problems(seeds, most):
        found, solved = every(everything, strategy), solve(everything, strategy)
        assert solved is not None
        assert found.least * (1 - ROUNDING) <= solved.objective <= found.least * (1 + SUMS_GAP), (case.name, strategy)
        assert lower_bound(everything, strategy) <= found.least * (1 + ROUNDING)
        assert solved.bound <= found.least * (1 + ROUNDING)
        step = finish(everything, solved, inf)
        assert step is not None
        assert step.objective == pytest.approx(solved.objective, rel=ROUNDING)
        for at in (int(found.costs.argmin()), rng.randrange(len(found.values)), rng.randrange(len(found.values))):
            by_hand(case, everything, strategy, found, at)
        count += 1
    return count


def by_hand(case: Case, everything: Space, strategy: Strategy, found: Every, at: int) -> None:
    """What one assignment costs and holds, from the graph alone."""
    made = Reference(case.graph, case.context, strategy, everything)
    costs = made.costs(choices(everything, strategy, found.values[at]))
    objective = costs.objective(strategy.microbatches)
    assert objective == pytest.approx(float(found.costs[at]), rel=ROUNDING), (case.name, strategy)
    assert costs.peak == pytest.approx(float(peaks(everything, strategy, found)[at]), abs=1), (case.name, strategy)


def compare_within(seeds: range, most: int) -> int:
    """The solver under a limit beside every assignment that keeps it; how many problems had a limit that binds."""
    count = 0
    for rng, case, everything, strategy in problems(seeds, most):
        found = every(everything, strategy)
        held, possible = peaks(everything, strategy, found), np.isfinite(found.costs)
        least, free = float(held[possible].min()), float(held[found.costs.argmin()])
        if free <= least:
            continue
        limit = 1.0 + least + (free - least) * rng.choice((0.0, 0.2, 0.5, 0.8))
        best = float(found.costs[possible & (held <= limit)].min())
        step = fit_within(everything, strategy, limit, LIMIT_GAP)
        assert step is not None, (case.name, strategy)
        assert best * (1 - ROUNDING) <= step.objective <= best * (1 + LIMIT_GAP), (case.name, strategy)
        assert step.bound <= best * (1 + ROUNDING), (case.name, strategy)
        count += 1
    return count


def test_every_assignment() -> None:
    assert compare(FEW, 4_000) >= 40


def test_every_assignment_within_a_limit() -> None:
    assert compare_within(FEW, 4_000) >= 30


@pytest.mark.slow
def test_every_assignment_of_many_problems() -> None:
    assert compare(MANY, 50_000) >= 500


@pytest.mark.slow
def test_every_assignment_within_a_limit_of_many_problems() -> None:
    assert compare_within(MANY, 50_000) >= 500


def compare_search(seeds: range) -> None:
    """The search beside solving every strategy, pipelines too."""
    for seed in seeds:
        case = random_case(seed)
        found = search(space(case.graph, case.context, strategies(case)), strategies(case), inf, Effort())
        everything = space(case.graph, case.context, strategies(case))
        steps = [step for strategy in strategies(case) if (step := _solved(everything, strategy)) is not None]
        best = min(step.objective for step in steps)
        assert found.finished[0].objective == pytest.approx(best, rel=SUMS_GAP), case.name
        assert found.bound <= best * (1 + ROUNDING), case.name


def _solved(everything: Space, strategy: Strategy) -> Finished | None:
    solved = solve(everything, strategy)
    return None if solved is None or solved.objective == inf else finish(everything, solved, inf)


def test_every_strategy() -> None:
    compare_search(range(6))


@pytest.mark.slow
def test_every_strategy_of_many_problems() -> None:
    compare_search(range(6, 120))


Points = dict[Strategy, list[Solved]]


def compare_variants(seeds: range, most: int) -> tuple[int, int]:
    """The search under a limit beside every assignment of every variant that it may take; (problems, refusals)."""
    count = refused = 0
    for seed in seeds:
        case, rng = random_case(seed), random.Random(seed)
        alone = [strategy for strategy in strategies(case) if strategy.stages == 1]
        everything = space(case.graph, case.context, alone)
        kept = {each: cuts for each in alone if (cuts := restrict(everything, each, rng, most)) is not None}
        points = {each: of(everything, each, cuts) for strategy, cuts in kept.items() for each in variants(strategy)}
        for share in (0.1, 0.3, 0.6) if points else ():
            limit = room(everything, points, share)
            fitting = {each: within(everything, some, limit) for each, some in points.items()}
            best = min(cost for each in reachable(everything, points, limit) for cost in fitting[each])
            found = search(everything, list(kept), limit, Effort())
            count += 1
            if not found.finished:
                refused += 1
                continue
            step, least = found.finished[0], min(cost for some in fitting.values() for cost in some)
            most_ = best * (RECOMPUTED if step.strategy.recompute == "all" else 1 + 2 * LIMIT_GAP)
            assert found.bound <= best * (1 + ROUNDING), (case.name, share)
            assert least * (1 - ROUNDING) <= step.objective <= most_, (case.name, share)
    return count, refused


RECOMPUTED = 1.1
"""How far above the best a choice may lie where activations are computed again, whose bytes are no sum over ops."""


def variants(strategy: Strategy) -> Iterator[Strategy]:
    for shard in SHARDS:
        for recompute in ("none", "all"):
            yield strategy.with_(shard=shard, recompute=recompute)


def of(everything: Space, strategy: Strategy, cuts: Kept) -> list[Solved]:
    """All assignments with these cuts."""
    if strategy.shard != "none" and strategy.recompute == "none":  # where ops are computed again, options are the same
        keep(everything, strategy, cuts)
    found, tables = every(everything, strategy), everything.tables(strategy)
    return [
        Solved(strategy, tables, values, cost, cost, line(everything.network, tables, values))
        for cost, values in zip(found.costs.tolist(), found.values, strict=True)
        if cost < inf
    ]


def room(everything: Space, points: Points, share: float) -> float:
    """A limit between the least and the most bytes."""
    peaks = [step.peak for some in points.values() for each in some if (step := finish(everything, each, BYTES))]
    return 1.0 + min(peaks) + share * (max(peaks) - min(peaks))


BYTES = 2.0**40
"""More than there are."""


def within(everything: Space, some: list[Solved], limit: float) -> list[float]:
    """What those cost that fit."""
    return [step.objective for each in some if (step := finish(everything, each, limit)) is not None]


def reachable(everything: Space, points: Points, limit: float) -> list[Strategy]:
    """All strategies, and variants of those whose best choice does not fit."""
    found = [each for each in points if each.shard == "none" and each.recompute == "none"]
    for strategy in found:
        best = min(points[strategy], key=lambda each: each.objective)
        if finish(everything, best, limit) is None:
            found += [each for each in relieved(strategy, everything) if each not in found]
    return found


@pytest.mark.slow
def test_every_variant() -> None:
    count, refused = compare_variants(range(3), 40)
    assert count >= 6
    assert refused == 0


@pytest.mark.slow
def test_every_variant_of_many_problems() -> None:
    count, refused = compare_variants(range(3, 60), 60)
    assert count >= 100
    assert refused <= 0.02 * count
