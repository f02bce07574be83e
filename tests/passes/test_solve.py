"""The solver on random tables: the same minimum as trying everything, by elimination and by conditioning."""

from __future__ import annotations

import random
from itertools import product
from math import prod

import numpy as np
import pytest

import passes.solve
from passes.solve import Factor, Problem, min_fill, second_best, solve


def random_problem(rng: random.Random, infinite: float = 0.0) -> Problem:
    sizes = tuple(rng.randint(1, 3) for _ in range(rng.randint(1, 7)))
    scopes = [(v,) for v in range(len(sizes))]
    scopes += [tuple(sorted(rng.sample(range(len(sizes)), rng.randint(1, min(4, len(sizes)))))) for _ in range(6)]
    factors = []
    for scope in scopes:
        shape = [sizes[v] for v in scope]
        entries = [rng.random() if rng.random() >= infinite else np.inf for _ in range(prod(shape))]
        factors.append(Factor(scope, np.array(entries).reshape(shape)))
    return Problem(sizes, tuple(factors), rng.random())


def cost(problem: Problem, values: tuple[int, ...]) -> float:
    return problem.constant + sum(float(f.table[tuple(values[v] for v in f.scope)]) for f in problem.factors)


def every(problem: Problem) -> list[tuple[float, tuple[int, ...]]]:
    return sorted((cost(problem, values), values) for values in product(*map(range, problem.sizes)))


@pytest.mark.parametrize("entries", [2**20, 30, 1])
def test_minimum_of_random_problems(entries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes.solve, "MAX_ENTRIES", entries)
    monkeypatch.setattr(passes.solve, "MAX_TRIALS", 10**5)
    rng = random.Random(entries)
    for _ in range(150):
        problem = random_problem(rng)
        found = solve(problem)
        assert found.cost == pytest.approx(every(problem)[0][0], rel=1e-12)
        assert cost(problem, found.values) == pytest.approx(found.cost, rel=1e-12)


def test_what_is_too_large_is_improved_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes.solve, "MAX_ENTRIES", 10)
    monkeypatch.setattr(passes.solve, "MAX_TRIALS", 1)
    rng, exact = random.Random(5), 0
    for _ in range(100):
        problem = random_problem(rng)
        found = solve(problem)
        assert cost(problem, found.values) == pytest.approx(found.cost, rel=1e-12)
        ranked = {values: c for c, values in every(problem)}
        near = [v for v in ranked if sum(a != b for a, b in zip(v, found.values, strict=True)) == 1]
        exact += found.exact
        reached = min(ranked.values()) if found.exact else min((ranked[v] for v in near), default=found.cost)
        assert min(ranked.values()) - 1e-12 <= found.cost <= reached + 1e-12
    assert 10 < exact < 90


def test_second_best_of_random_problems() -> None:
    rng = random.Random(7)
    for infinite in (0.0, 0.1):
        for _ in range(200):
            problem, count = random_problem(rng, infinite), 1
            ranked = every(problem)
            if not np.isfinite(ranked[0][0]):
                continue
            best = solve(problem)
            count = rng.randint(1, len(problem.sizes))
            others = [c for c, values in ranked if values[:count] != best.values[:count]]
            found = second_best(problem, best, count)
            if not others or not np.isfinite(others[0]):
                assert found is None or not np.isfinite(found.cost)
                continue
            assert found is not None
            assert found.cost == pytest.approx(others[0], rel=1e-9)
            assert cost(problem, found.values) == pytest.approx(found.cost, rel=1e-9)
            assert found.values[:count] != best.values[:count]


def test_no_second_best_where_there_is_one_choice() -> None:
    problem = Problem((1,), (Factor((0,), np.array([2.0])),))
    assert second_best(problem, solve(problem), 1) is None


def test_impossible_problems_are_an_error() -> None:
    with pytest.raises(ValueError, match="infinite"):
        solve(Problem((1,), (Factor((0,), np.array([np.inf])),)))


def test_equal_costs_take_the_first_value() -> None:
    assert solve(Problem((3, 3), (Factor((0, 1), np.zeros((3, 3))),))).values == (0, 0)


def test_chains_and_ladders_need_small_tables_only() -> None:
    chain = [Factor((i, i + 1), np.zeros((3, 3))) for i in range(400)]
    assert min_fill(Problem((3,) * 401, tuple(chain)))[1] == 9
    rungs = [Factor((i, i + 2), np.zeros((3, 3))) for i in range(398)]
    assert min_fill(Problem((3,) * 401, (*chain, *rungs)))[1] == 27
