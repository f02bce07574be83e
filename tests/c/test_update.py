"""Update rules in C, several steps, against the NumPy kernels in double precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.numpy_mpi.c.elementwise import ALONE
from backends.numpy_mpi.c.update import FUNCTIONS
from backends.numpy_mpi.kernels.dispatch import Kernels
from backends.numpy_mpi.kernels.native import Library
from tests.c.bound import DTYPES, Bound, bound
from tests.c.building import each_target, runnable, threads
from tests.kernels.calling import kernel

pytestmark = pytest.mark.skipif(not runnable(), reason="there is no C compiler")

RULES: list[tuple[str, int, dict[str, Any]]] = [
    ("sgd", 1, {"momentum": 0.9}),
    ("sgd", 1, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("sgd", 0, {}),
    ("sgd", 0, {"weight_decay": 0.1}),
    ("adagrad", 1, {"eps": 1e-3, "weight_decay": 0.1}),
    ("rmsprop", 1, {"alpha": 0.9, "eps": 1e-3}),
    ("rmsprop", 2, {"momentum": 0.9, "weight_decay": 0.1, "eps": 1e-2}),
    ("adam", 2, {}),
    ("adam", 2, {"beta1": 0.8, "beta2": 0.9, "eps": 1e-3, "weight_decay": 0.1}),
    ("adamw", 2, {}),
    ("adamw", 2, {"beta1": 0.8, "beta2": 0.9, "eps": 1e-3, "weight_decay": 0.1}),
]
SIZES = (0, 1, 7, 33, ALONE + 77)


@pytest.fixture(scope="module", params=each_target())
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bound:
    return bound(FUNCTIONS, "c_update", request.param, tmp_path_factory.mktemp("update"))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rule", "states", "attrs"), RULES)
def test_rules(built: Bound, rule: str, states: int, attrs: dict[str, Any], dtype: str) -> None:
    rng, eps = np.random.default_rng(0), np.finfo(DTYPES[dtype]).eps
    for size in SIZES:
        start = [rng.standard_normal(size).astype(DTYPES[dtype]), *(np.zeros(size, DTYPES[dtype]),) * states]
        one, two, right = ([each.copy() for each in start] for _ in range(3))
        right = [each.astype(np.float64) for each in right]
        for step in range(3):
            gradient = rng.standard_normal(size).astype(DTYPES[dtype])
            told = attrs | {"lr": 0.1 / (step + 1), "step": step}
            for count, arrays in enumerate((one, two), 1):
                threads(built.library, count)
                assert built.call((rule, "update", ""), dtype, [arrays[0], gradient, *arrays[1:]], **told)
            kernel(rule, "update")(right[0], gradient.astype(np.float64), *right[1:], **told)
        for first, second, expected in zip(one, two, right, strict=True):
            assert np.array_equal(first, second), "the number of threads changes the result"
            assert np.max(np.abs(first - expected) / (1 + np.abs(expected)), initial=0) <= 16 * eps, (rule, size)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rule", "states", "attrs"), RULES)
def test_many_updates_are_one_call(
    built: Bound, rule: str, states: int, attrs: dict[str, Any], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit by bit what they are one by one; a row that C cannot be given is NumPy's, and no other one."""
    rng = np.random.default_rng(0)
    rows = [[rng.random(size).astype(DTYPES[dtype]) for _ in range(2 + states)] for size in (*SIZES, 40)]
    alone = [[each.copy() for each in row] for row in rows]
    rows[-1] = [np.repeat(each, 2)[::2] for each in rows[-1]]
    passed: list[int] = []
    plain = kernel(rule, "updates")

    def numpys(*others: list[Any], **told: Any) -> None:
        passed.append(len(others))
        plain(*others, **told)

    monkeypatch.setattr(numpys, "__name__", plain.__name__)
    kernels = Kernels(Library(Path(), built.library), np.dtype(DTYPES[dtype]), 0, "")
    update = kernels.replace_rows(numpys, getattr(built.bindings, plain.__name__))
    for step in range(2):
        told = attrs | {"lr": 0.1 / (step + 1), "step": step}
        update(*rows, **told)
        for row in alone[:-1]:
            assert built.call((rule, "update", ""), dtype, row, **told)
        kernel(rule, "update")(*alone[-1], **told)
    assert passed == [1, 1]
    for row, expected in zip(rows, alone, strict=True):
        assert all(map(np.array_equal, row, expected))
