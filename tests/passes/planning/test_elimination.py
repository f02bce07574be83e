"""The exact solver: the same minimum as trying everything, as Viterbi's on chains, and as HiGHS on larger problems."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import passes.planning.core as core
import passes.planning.structure as structures
from passes.planning.dominance import undominated
from passes.planning.elimination import minimise, structure, total
from tests.passes.planning.problems import SHAPES, Problem, random_problem, several

Array = NDArray[np.float64]


def least(problem: Problem) -> float:
    return min(problem.cost(values) for values in problem.assignments())


@pytest.mark.parametrize("repeated", [1, 2, 8])
def test_minimum_of_random_problems(repeated: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structures, "REPEATED", repeated)
    for problem in several(repeated, 250, values=4, most=6):
        found = minimise(structure(problem.kinds, problem.edges), problem.unary, problem.pair)
        assert found.exact
        assert found.cost == pytest.approx(least(problem), rel=1e-12)
        assert found.cost == pytest.approx(problem.cost(found.values.tolist()), rel=1e-12)
        assert found.bound == found.cost


@pytest.mark.parametrize("entries", [8, 40])
def test_what_is_too_large_is_held_and_bounded(entries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "MAX_ENTRIES", entries)
    monkeypatch.setattr(core, "MAX_TRIALS", 3)
    rng, exact = random.Random(entries), 0
    for _ in range(60):
        problem = random_problem(rng, "complete", 6, 3, infinite=rng.choice((0.0, 0.1)))
        found = minimise(structure(problem.kinds, problem.edges), problem.unary, problem.pair)
        best = least(problem)
        exact += found.exact
        assert found.bound <= best + 1e-12 <= found.cost + 2e-12 or found.cost == best == np.inf
        assert found.cost == pytest.approx(problem.cost(found.values.tolist()), rel=1e-12)
        assert found.cost == pytest.approx(best, rel=1e-12) or not found.exact
    assert 0 < exact < 60


def test_all_ways_to_hold_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "MAX_ENTRIES", 20)
    monkeypatch.setattr(core, "MAX_TRIALS", 10**4)
    rng = random.Random(1)
    for _ in range(40):
        problem = random_problem(rng, "complete", 6, 3)
        found = minimise(structure(problem.kinds, problem.edges), problem.unary, problem.pair)
        assert found.exact
        assert found.cost == pytest.approx(least(problem), rel=1e-12)


def chain(rng: np.random.Generator, blocks: int, period: int, values: int) -> Problem:
    """Equal blocks of `period` variables in a row."""
    count = blocks * period
    unary = [rng.random(values) for _ in range(period)]
    pair = [rng.random((values, values)) for _ in range(period)]
    edges = [(i, i + 1, i % period) for i in range(count - 1)]
    return Problem([i % period for i in range(count)], edges, unary, pair, unary, pair)


def viterbi(problem: Problem) -> float:
    cost = problem.unary[problem.kinds[0]]
    for _, v, kind in problem.edges:
        cost = (cost[:, None] + problem.pair[kind]).min(axis=0) + problem.unary[problem.kinds[v]]
    return float(cost.min())


@pytest.mark.parametrize("period", [1, 2, 7, 25])
def test_chains_of_a_thousand_equal_blocks(period: int) -> None:
    problem = chain(np.random.default_rng(period), 1000, period, 9)
    found = structure(problem.kinds, problem.edges)
    assert found.steps < period + 60
    best = minimise(found, problem.unary, problem.pair)
    assert best.cost == pytest.approx(viterbi(problem), rel=1e-12)
    assert best.cost == pytest.approx(problem.cost(best.values.tolist()), rel=1e-12)


def test_a_chain_without_repetition_is_eliminated_from_its_ends() -> None:
    count = 3000
    found = structure(range(count), [(i, i + 1, i) for i in range(count - 1)])
    assert all(len(group.neighbours[0]) <= 1 for group in found.groups)


def test_blocks_with_branches_are_eliminated_once() -> None:
    kinds, edges = [0], []
    for _ in range(500):
        start = len(kinds)
        kinds += [1, 2, 3, 4, 0]
        for u, v, kind in ((-1, 0, 0), (-1, 1, 1), (0, 2, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (-1, 4, 6)):
            edges.append((start + u, start + v, kind))
    found = structure(kinds, edges)
    assert found.steps < 40
    assert not found.core.variables


def test_options_that_another_replaces_are_removed() -> None:
    found = structure([0, 1], [(0, 1, 0)])
    pair = np.array([[0.0, 1.0], [0.5, 1.5], [9.0, 0.0], [0.0, 1.0]])
    # Option 1 costs at least 0.5 more than option 0 on every edge, option 3 is equal to option 0.
    kept = undominated(found, [([np.zeros(4), np.zeros(2)], [pair])])
    assert kept[0].tolist() == [0, 2]
    # Under a second criterion that prefers option 1 it stays.
    kept = undominated(
        found, [([np.zeros(4), np.zeros(2)], [pair]), ([np.array([1.0, 0, 1, 1]), np.zeros(2)], [np.zeros((4, 2))])]
    )
    assert kept[0].tolist() == [0, 1, 2]


def test_equal_costs_take_the_first_value() -> None:
    found = minimise(structure([0, 0, 0], [(0, 1, 0), (1, 2, 0)]), [np.zeros(3)], [np.zeros((3, 3))])
    assert found.values.tolist() == [0, 0, 0]


def test_where_nothing_is_finite() -> None:
    found = minimise(structure([0, 0], [(0, 1, 0)]), [np.zeros(2)], [np.full((2, 2), np.inf)])
    assert found.cost == np.inf
    assert minimise(structure([0], []), [np.zeros(0)], []).cost == np.inf
    assert minimise(structure([], []), [], []).cost == 0.0


def test_wrong_edges_are_errors() -> None:
    with pytest.raises(ValueError, match="joins variable 1 to itself"):
        structure([0, 0], [(1, 1, 0)])
    with pytest.raises(ValueError, match="edges of kind 0 join variables of kinds"):
        structure([0, 1], [(0, 1, 0), (1, 0, 0)])


def values_in_a_new_process(seed: str) -> str:
    code = (
        "import random\n"
        "from passes.planning.elimination import minimise, structure\n"
        "from passes.planning.limited import minimise_limited\n"
        "from tests.passes.planning.problems import several\n"
        "for p in several(5, 40, values=3, most=30):\n"
        "    found = structure(p.kinds, p.edges)\n"
        "    print(minimise(found, p.unary, p.pair).values.tolist())\n"
        "    print(minimise_limited(found, p.unary, p.pair, p.sizes, 4.0 * len(p.kinds)))\n"
    )
    root = Path(__file__).resolve().parents[3]
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment, cwd=root
    ).stdout


def test_values_do_not_depend_on_hash_seeds() -> None:
    assert values_in_a_new_process("1") == values_in_a_new_process("2")


def highs(problem: Problem) -> float:
    """The linear program over the marginals of variables and edges, with whole numbers for variables."""
    optimize = pytest.importorskip("scipy.optimize")
    sparse = pytest.importorskip("scipy.sparse")
    costs, rows, columns, entries, right = list[float](), list[int](), list[int](), list[float](), list[float]()
    first = [0]
    for kind in problem.kinds:
        costs += problem.unary[kind].tolist()
        first.append(len(costs))
    whole = len(costs)

    def equation(terms: list[tuple[int, float]], value: float) -> None:
        for column, entry in terms:
            rows.append(len(right))
            columns.append(column)
            entries.append(entry)
        right.append(value)

    for v in range(len(problem.kinds)):
        equation([(i, 1.0) for i in range(first[v], first[v + 1])], 1.0)
    for u, v, kind in problem.edges:
        table = problem.pair[kind]
        start, (m, n) = len(costs), table.shape
        costs += table.ravel().tolist()
        for i in range(m):
            equation([(start + i * n + j, 1.0) for j in range(n)] + [(first[u] + i, -1.0)], 0.0)
        for j in range(n):
            equation([(start + i * n + j, 1.0) for i in range(m)] + [(first[v] + j, -1.0)], 0.0)
    matrix = sparse.coo_array((entries, (rows, columns)), shape=(len(right), len(costs)))
    found = optimize.milp(
        costs,
        constraints=optimize.LinearConstraint(matrix.tocsr(), right, right),
        integrality=[1] * whole + [0] * (len(costs) - whole),
        bounds=optimize.Bounds(0, 1),
    )
    return float(found.fun)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != "complete"])
def test_medium_problems_equal_highs(shape: str) -> None:
    rng = random.Random(shape)
    for _ in range(3):
        problem = random_problem(rng, shape, rng.randint(30, 60), 10, kinds=8)
        if shape == "random":
            problem = Problem(problem.kinds, problem.edges[:70], problem.unary, problem.pair, [], [])
        found = structure(problem.kinds, problem.edges)
        best = minimise(found, problem.unary, problem.pair)
        assert best.exact
        assert best.cost == pytest.approx(highs(problem), rel=1e-6)
        assert best.cost == pytest.approx(total(found, problem.unary, problem.pair, best.values), rel=1e-12)
