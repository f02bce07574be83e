"""Stages with several ranks each: equal to all cuts with all ways to give ranks to stages."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import combinations, pairwise
from math import inf

import pytest

from dlc.cost.schedules import Schedule, Work, makespan, table
from passes.planning.cuts import Unit, cut
from passes.planning.replicated import cut_replicated


def allreduce(units: list[Unit]) -> Callable[[int, int, int], float]:
    """Seconds of a ring over the stage's ranks."""

    def seconds(b: int, e: int, ranks: int) -> float:
        return 0.2 * (ranks - 1) / ranks * sum(unit.fixed for unit in units[b:e])

    return seconds


def step(
    units: list[Unit], bounds: tuple[int, ...], given: tuple[int, ...], m: int, schedule: Schedule, limit: float
) -> float:
    """Seconds of a step, infinite where a rank has not the memory."""
    p = len(given)
    groups = [units[b:e] for b, e in pairwise(bounds)]
    for d, (group, ranks) in enumerate(zip(groups, given, strict=True)):
        held = m if schedule == "gpipe" else min(m, p - d)
        saved = held * sum(unit.saved for unit in group) + max(unit.transient for unit in group)
        if sum(unit.fixed for unit in group) + saved / ranks > limit:
            return inf
    works = [
        Work(sum(unit.forward for unit in group) / ranks, sum(unit.backward + unit.weights for unit in group) / ranks)
        for group, ranks in zip(groups, given, strict=True)
    ]
    sums = [0.2 * (r - 1) / r * sum(unit.fixed for unit in group) for group, r in zip(groups, given, strict=True)]
    return makespan(table(schedule, p, m), works, [units[i - 1].send for i in bounds[1:-1]]) + max(sums)


def splits(total: int, parts: int) -> list[tuple[int, ...]]:
    return [(0, *inner, total) for inner in combinations(range(1, total), parts - 1)]


@pytest.mark.parametrize("schedule", ["gpipe", "one_f_one_b"])
@pytest.mark.parametrize("seed", range(12))
def test_as_good_as_all(schedule: Schedule, seed: int) -> None:
    rng = random.Random(seed)
    ranks, m = rng.randint(1, 5), rng.randint(1, 4)
    units = [
        Unit(rng.random(), rng.random(), rng.random(), rng.randint(0, 3), rng.choice((0, rng.randint(0, 20))), 0.1, 1)
        for _ in range(rng.randint(1, 6))
    ]
    limit = rng.choice((inf, rng.uniform(0.4, 1.5) * sum(unit.fixed + unit.saved for unit in units)))
    expected = min(
        step(units, bounds, tuple(b - a for a, b in pairwise(given)), m, schedule, limit)
        for stages in range(1, min(ranks, len(units)) + 1)
        for bounds in splits(len(units), stages)
        for given in splits(ranks, stages)
    )
    found = cut_replicated(units, ranks, m, allreduce(units), schedule, limit=limit)
    if expected == inf:
        assert found is None
        return
    assert found is not None
    assert found.exact
    assert found.seconds == pytest.approx(expected)
    assert sum(found.ranks) == ranks
    assert step(units, found.bounds, found.ranks, m, schedule, limit) == pytest.approx(expected)


def test_long_stages_with_few_weights_have_many_ranks() -> None:
    """A small AlexNet: convolutions by samples, the linear layers with their weights on one rank."""
    convolutions = [Unit(1.0, 2.0, fixed=1, send=0.05)] * 6
    linear = [Unit(0.2, 0.4, fixed=50, send=0.01)] * 2
    units = convolutions + linear
    found = cut_replicated(units, 8, 16, allreduce(units))
    assert found is not None
    assert found.ranks == (7, 1)
    assert found.bounds == (0, 6, 8)


@pytest.mark.parametrize("ranks", [16, 64])
def test_many_ranks_are_never_worse_than_equal_stages(ranks: int) -> None:
    rng = random.Random(ranks)
    units = [Unit(rng.random(), 2 * rng.random(), fixed=rng.random(), send=0.01) for _ in range(120)]
    found = cut_replicated(units, ranks, 32, allreduce(units))
    assert found is not None
    assert not found.exact
    assert sum(found.ranks) == ranks
    pipeline = cut(units, ranks, 32, "one_f_one_b")
    assert pipeline is not None
    assert found.seconds <= pipeline.makespan
    assert found.seconds <= sum(unit.forward + unit.backward for unit in units) * 32 / ranks + 0.2 * sum(
        unit.fixed for unit in units
    )
