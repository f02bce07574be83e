"""A search that goes on where Programs take more memory than their plans count."""

from __future__ import annotations

import random
from math import inf

import pytest

from passes.planning.search import Effort, Search, search
from passes.planning.space import space
from passes.planning.step import Finished
from tests.passes.planning.random_networks import random_case
from tests.passes.planning.test_random_problems import strategies

ROUNDING = 1e-9
SEEDS = range(8)
ROUNDS = 40


def size(step: Finished, beside: dict[str, int]) -> int:
    """What a Program takes, where that depends on the plan's schedule and sharding."""
    return step.peak + beside[step.strategy.schedule] + (step.peak // 7 if step.strategy.shard == "none" else 0)


@pytest.mark.slow
def test_what_is_set_aside_for_one_strategy_leaves_the_others_their_memory() -> None:
    """What is found fits by its Program, is no worse than with as much set aside for all, and is bounded by counts."""
    refused = fewer = 0
    for seed in SEEDS:
        case, rng = random_case(seed), random.Random(seed)
        free = search(space(case.graph, case.context, strategies(case)), strategies(case), inf, Effort()).finished
        limit = float(free[0].peak)
        schedules = ("", "one_f_one_b", "zero_bubble", "interleaved", "gpipe")
        beside = {schedule: rng.choice((0, int(0.1 * limit), int(0.3 * limit))) for schedule in schedules}
        everything = space(case.graph, case.context, strategies(case))
        going = Search(everything, limit, Effort(), strategies(case), [])
        first, found = None, going.run()
        for _ in range(ROUNDS):
            first = first or found
            if not found.finished or size(found.finished[0], beside) <= limit:
                break
            refused += 1
            going.refuse(found.finished[0], size(found.finished[0], beside))
            found = going.run()
        assert first is not None
        most = max(beside.values()) + limit / 7
        other = space(case.graph, case.context, strategies(case))
        alike = search(other, strategies(case), limit - most, Effort()).finished
        assert found.bound <= first.finished[0].objective * (1 + ROUNDING)
        if not found.finished:
            assert not alike, case.name
            continue
        best = found.finished[0]
        assert size(best, beside) <= limit
        assert not alike or best.objective <= alike[0].objective * 1.005
        fewer += not alike or best.objective < alike[0].objective * (1 - ROUNDING)
    assert refused > 0
    assert fewer > 0
