"""Limits and maxima: as trying everything on small problems, as HiGHS on medium ones, bounded on large ones."""

from __future__ import annotations

import random
from collections.abc import Iterator
from math import inf, isfinite

import numpy as np
import pytest

import passes.planning.core as core
import passes.planning.limited as limited
from passes.planning.criteria import Larger, Within, criteria
from passes.planning.elimination import minimise, structure
from passes.planning.labels import enumerate_labels
from passes.planning.limited import least_bytes, minimise_limited, minimise_max
from passes.planning.milp import solve_with_highs
from tests.passes.planning.problems import SHAPES, Problem, random_problem, several


def limits(seed: int, count: int, **options: int) -> Iterator[tuple[Problem, float, list[tuple[float, float]]]]:
    """(problem, a limit on bytes, (cost, bytes) of every assignment)."""
    rng = random.Random(seed)
    for problem in several(seed, count, **options):
        every = [(problem.cost(values), problem.bytes(values)) for values in problem.assignments()]
        fits = [size for cost, size in every if isfinite(cost)]
        low, high = min(fits, default=0.0), max(fits, default=1.0)
        yield problem, float(int(low + (high - low) * rng.uniform(-0.1, 0.8))), every


@pytest.mark.parametrize("seed", range(4))
def test_limits_on_random_problems(seed: int) -> None:
    infeasible = 0
    for problem, limit, every in limits(seed, 150, values=4, most=6):
        found = minimise_limited(
            structure(problem.kinds, problem.edges),
            problem.unary,
            problem.pair,
            problem.sizes,
            limit,
            pair_sizes=problem.pair_sizes,
        )
        best = min((cost for cost, size in every if size <= limit), default=inf)
        if not isfinite(best):
            infeasible += 1
            assert found is None
            continue
        assert found is not None
        assert found.exact
        assert found.cost == found.bound == pytest.approx(best, rel=1e-9)
        values = found.values.tolist()
        assert found.cost == pytest.approx(problem.cost(values), rel=1e-12)
        assert found.bytes == problem.bytes(values) <= limit
    assert 0 < infeasible < 75


def test_bytes_of_variables_alone() -> None:
    for problem in several(9, 60, values=4, most=5):
        every = [(problem.cost(values), problem.bytes(values, edges=False)) for values in problem.assignments()]
        limit = sorted(size for _, size in every)[len(every) // 3]
        found = minimise_limited(
            structure(problem.kinds, problem.edges), problem.unary, problem.pair, problem.sizes, limit
        )
        best = min(cost for cost, size in every if size <= limit)
        assert (found.cost if found else inf) == pytest.approx(best, rel=1e-9)


def test_least_bytes_then_least_cost() -> None:
    for problem, _, every in limits(3, 150, values=4, most=6):
        found = least_bytes(
            structure(problem.kinds, problem.edges),
            problem.unary,
            problem.pair,
            problem.sizes,
            pair_sizes=problem.pair_sizes,
        )
        size, cost = min(((size, cost) for cost, size in every if isfinite(cost)), default=(inf, inf))
        if found is None:
            assert cost == inf
            continue
        assert found.bytes == size
        assert found.cost == pytest.approx(cost, rel=1e-9)


@pytest.mark.parametrize("seed", range(2))
def test_the_larger_of_two_costs(seed: int) -> None:
    for problem in several(seed, 150, values=4, most=6):
        first = problem.unary, problem.pair
        second = [table / 3 for table in problem.sizes], [table / 3 for table in problem.pair_sizes]
        found = minimise_max(structure(problem.kinds, problem.edges), first, second)
        best = min(max(problem.cost(values), problem.bytes(values) / 3) for values in problem.assignments())
        assert found.exact
        assert found.cost == pytest.approx(best, rel=1e-9)
        if isfinite(best):
            assert found.cost == max(found.first, found.second)
            assert found.first == pytest.approx(problem.cost(found.values.tolist()), rel=1e-12)


def medium(seed: int, shape: str) -> tuple[Problem, float]:
    """30 to 60 variables, and a limit between the least bytes and those of the cheapest."""
    rng = random.Random(seed)
    count = rng.randint(30, 60)
    problem = random_problem(rng, shape, count, 10 if shape != "random" else 5, kinds=6)
    if shape == "random":
        edges = problem.edges[: count * 5 // 4]
        problem = Problem(problem.kinds, edges, problem.unary, problem.pair, problem.sizes, problem.pair_sizes)
    found = structure(problem.kinds, problem.edges)
    most = problem.bytes(minimise(found, problem.unary, problem.pair).values.tolist())
    least = minimise(found, problem.sizes, problem.pair_sizes).cost
    return problem, float(int(least + rng.uniform(0.2, 0.7) * (most - least)))


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != "complete"])
@pytest.mark.parametrize("seed", range(2))
def test_medium_problems_equal_highs(seed: int, shape: str) -> None:
    problem, limit = medium(seed, shape)
    found = structure(problem.kinds, problem.edges)
    best = minimise_limited(found, problem.unary, problem.pair, problem.sizes, limit, pair_sizes=problem.pair_sizes)
    both = criteria(found, (problem.unary, problem.pair), (problem.sizes, problem.pair_sizes))
    other = solve_with_highs(both, Within(limit), 1e-9, inf)
    assert best is not None
    assert other.values is not None
    assert best.exact
    assert best.cost == pytest.approx(problem.cost(other.values.tolist()), rel=1e-6)


def test_the_larger_of_two_costs_equals_highs() -> None:
    problem, _ = medium(5, "random")
    found = structure(problem.kinds, problem.edges)
    second = [table / 4 for table in problem.sizes], [table / 4 for table in problem.pair_sizes]
    best = minimise_max(found, (problem.unary, problem.pair), second)
    other = solve_with_highs(criteria(found, (problem.unary, problem.pair), second), Larger(), 1e-9, inf)
    assert other.values is not None
    values = other.values.tolist()
    assert best.exact
    assert best.cost == pytest.approx(max(problem.cost(values), problem.bytes(values) / 4), rel=1e-6)


def test_what_labels_leave_open_highs_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, limit = medium(3, "diamonds")
    arguments = (structure(problem.kinds, problem.edges), problem.unary, problem.pair, problem.sizes, limit)
    best = minimise_limited(*arguments, pair_sizes=problem.pair_sizes)
    monkeypatch.setattr(limited, "WIDTHS", (1,))
    other = minimise_limited(*arguments, pair_sizes=problem.pair_sizes)
    assert best is not None
    assert other is not None
    assert other.exact
    assert other.cost == pytest.approx(best.cost, rel=1e-9)


def blocks(count: int, seed: int) -> tuple[Problem, float]:
    """Equal residual blocks whose options trade time for bytes, and a limit that about half of them must keep."""
    draw = np.random.default_rng(seed)
    kinds, edges = [0], []
    for i in range(count):
        kinds += [1, 2, 3, 0]
        edges += [
            (4 * i + u, 4 * i + v, kind) for u, v, kind in ((0, 1, 0), (1, 2, 1), (2, 3, 2), (3, 4, 3), (0, 4, 4))
        ]
    degree = draw.integers(0, 6, 12)
    unary = [(1.0 + draw.random()) * (1.0 + 0.2 * degree + 0.1 * draw.random(12)) for _ in range(4)]
    sizes = [np.round(1e9 * draw.random() / 2.0**degree) for _ in range(4)]
    pair = [draw.random() * 0.1 * np.abs(degree[:, None] - degree) for _ in range(5)]
    problem = Problem(kinds, edges, unary, pair, sizes, [np.zeros((12, 12))] * 5)
    found = structure(kinds, edges)
    most = problem.bytes(minimise(found, unary, pair).values.tolist())
    least = sum(sizes[kind].min() for kind in kinds)
    return problem, float(least + 0.4 * (most - least))


@pytest.mark.parametrize("seed", range(5))
def test_the_gap_of_repeated_blocks_is_a_part_of_one(seed: int) -> None:
    problem, limit = blocks(100, seed)
    found = minimise_limited(
        structure(problem.kinds, problem.edges), problem.unary, problem.pair, problem.sizes, limit, gap=0.005
    )
    assert found is not None
    assert found.bytes <= limit
    assert found.bound <= found.cost <= found.bound * 1.005
    assert found.cost == pytest.approx(problem.cost(found.values.tolist()), rel=1e-12)


def test_bounds_hold_where_the_work_is_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limited, "WIDTHS", (2,))
    monkeypatch.setattr("passes.planning.milp.MAX_BINARIES", 0)
    inexact = 0
    for problem, limit, every in limits(17, 150, values=4, most=6):
        found = minimise_limited(
            structure(problem.kinds, problem.edges),
            problem.unary,
            problem.pair,
            problem.sizes,
            limit,
            pair_sizes=problem.pair_sizes,
        )
        best = min((cost for cost, size in every if size <= limit), default=inf)
        assert (found.cost if found else inf) >= best - 1e-9
        if found is not None:
            inexact += not found.exact
            assert found.bound <= best + 1e-9
            assert not found.exact or found.cost == pytest.approx(best, rel=1e-9)
        else:
            assert best == inf
    assert inexact > 0


def test_a_core_that_is_too_large_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "MAX_ENTRIES", 8)
    monkeypatch.setattr(core, "MAX_TRIALS", 2)
    rng = random.Random(2)
    for _ in range(20):
        problem = random_problem(rng, "complete", 6, 3)
        every = [(problem.cost(values), problem.bytes(values)) for values in problem.assignments()]
        limit = sorted(size for _, size in every)[len(every) // 2]
        found = minimise_limited(
            structure(problem.kinds, problem.edges),
            problem.unary,
            problem.pair,
            problem.sizes,
            limit,
            pair_sizes=problem.pair_sizes,
        )
        best = min(cost for cost, size in every if size <= limit)
        assert found is not None
        assert found.bound <= best * (1 + 1e-9)
        assert found.cost == pytest.approx(best, rel=1e-6)  # HiGHS closes what is left


def test_labels_find_what_is_better_and_nothing_else() -> None:
    for problem, limit, every in limits(23, 60, values=4, most=6):
        best = min((cost for cost, size in every if size <= limit), default=inf)
        if not isfinite(best):
            continue
        both = criteria(
            structure(problem.kinds, problem.edges),
            (problem.unary, problem.pair),
            (problem.sizes, problem.pair_sizes),
        )
        found = enumerate_labels(both, Within(limit), 0.1, best + 1.0, 10**6)
        assert found is not None
        assert found.values is not None
        assert problem.cost(found.values.tolist()) == pytest.approx(best, rel=1e-9)
        assert found.bound == pytest.approx(best, rel=1e-9)
        again = enumerate_labels(both, Within(limit), 0.1, best - 1e-6, 10**6)
        assert again is not None
        assert again.values is None
        assert again.bound == best - 1e-6


def test_a_clock_that_has_run_out_leaves_a_bound() -> None:
    problem, limit = blocks(50, 1)
    found = minimise_limited(
        structure(problem.kinds, problem.edges), problem.unary, problem.pair, problem.sizes, limit, seconds=0.0
    )
    assert found is not None
    assert found.bytes <= limit
    assert found.bound <= found.cost <= 1.02 * found.bound
