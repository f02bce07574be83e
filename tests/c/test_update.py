"""Update rules in C, several steps, against the NumPy kernels in double precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backends.numpy_mpi.c.elementwise import ALONE
from backends.numpy_mpi.c.update import FUNCTIONS
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
