"""The choice of options of whole small networks, with all their options: HiGHS agrees."""

from __future__ import annotations

from math import isfinite

import pytest

from passes.planning.criteria import Larger, criteria
from passes.planning.milp import small, solve_with_highs
from passes.planning.objective import objective
from passes.planning.solve import GAP, solve
from passes.planning.space import Space, space
from passes.planning.strategies import Strategy, enumerate_strategies
from tests.passes.planning.random_networks import random_case
from tests.passes.sample_networks import context, laptop, lenet

TOLERANCE = 1e-5
"""HiGHS' own, of costs around one."""


def agrees(everything: Space, strategy: Strategy) -> bool:
    """Whether HiGHS could tell; then both are the same."""
    tables, solved = everything.tables(strategy), solve(everything, strategy)
    if solved is None or not isfinite(solved.objective):
        return False
    sums, unit = objective(everything, tables), 1.0 / solved.objective
    shown, hidden, pair = ([unit * table for table in each] for each in (sums.shown, sums.hidden, sums.pair))
    both = criteria(everything.structure, (shown, pair), (hidden, pair))
    if not small(everything.structure, both.first):
        return False
    found = solve_with_highs(both, Larger(), 1e-7, 60.0)
    assert found.values is not None
    cost = max(both.both(found.values))
    assert found.bound <= 1.0 + TOLERANCE
    assert cost >= 1.0 - TOLERANCE - GAP
    assert cost == pytest.approx(1.0, abs=TOLERANCE + GAP)
    return True


def test_highs_agrees_on_lenet() -> None:
    graph, around = lenet(32), context(2, laptop(2))
    strategies = [each for each in enumerate_strategies(graph, around, 13) if each.stages == 1]
    everything = space(graph, around, strategies)
    assert all(agrees(everything, each) for each in strategies)


def compare(seeds: range) -> int:
    count = 0
    for seed in seeds:
        case = random_case(seed)
        strategies = [each for each in enumerate_strategies(case.graph, case.context, 9) if each.stages == 1]
        everything = space(case.graph, case.context, strategies)
        count += sum(agrees(everything, each) for each in strategies)
    return count


def test_highs_agrees_on_random_networks() -> None:
    assert compare(range(302, 306)) >= 10


@pytest.mark.slow
def test_highs_agrees_on_many_random_networks() -> None:
    assert compare(range(306, 360)) >= 100
