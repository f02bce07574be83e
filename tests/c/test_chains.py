"""Chains of element-wise ops in C: bit by bit what the ops alone give, and NumPy's within their bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backends.numpy_mpi.c import arithmetic, dropout, elementwise, gradients
from backends.numpy_mpi.c.chains import FUNCTIONS
from backends.numpy_mpi.c.elementwise import ALONE
from backends.numpy_mpi.kernels import KERNELS
from dlc.ops.fusion import ELEMENTWISE
from tests.c.bound import DTYPES, Bound, bound
from tests.c.building import each_target, runnable, threads
from tests.kernels.calling import kernel

pytestmark = pytest.mark.skipif(not runnable(), reason="there is no C compiler")

ATTRS: dict[str, list[dict[str, Any]]] = {
    "leaky_relu": [{"slope": 0.3}],
    "elu": [{"alpha": 0.7}],
    "gelu": [{"approximate": "none"}, {"approximate": "tanh"}],
}
SHAPES = ((0, 3), (1, 1), (5, 103), (2, ALONE + 9))
CASES = [
    pytest.param(chain, attrs, id=f"{fusion.op} {fusion.stage} {number}")
    for chain, fusion in ELEMENTWISE.items()
    for number, attrs in enumerate(
        [{"p": 0.3}] if "dropout" in fusion.op else next((ATTRS[op] for op, _ in chain if op in ATTRS), [{}])
    )
]
BINDINGS = {
    "arithmetic": arithmetic,
    "philox": dropout,
    "elementwise": elementwise,
    "gradients": gradients,
}


@pytest.fixture(scope="module", params=each_target())
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bound, dict[str, Bound]]:
    folder = tmp_path_factory.mktemp
    single = {
        name: bound(module.FUNCTIONS, f"c_{name}", request.param, folder(name)) for name, module in BINDINGS.items()
    }
    return bound(FUNCTIONS, "c_chains", request.param, folder("chains")), single


def test_there_is_a_function_for_every_chain() -> None:
    assert {(fusion.op, fusion.stage, "") for fusion in ELEMENTWISE.values()} <= FUNCTIONS.keys()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("ops", "attrs"), CASES)
def test_chains(
    built: tuple[Bound, dict[str, Bound]], ops: tuple[tuple[str, str], ...], attrs: dict[str, Any], dtype: str
) -> None:
    rng, fusion = np.random.default_rng(0), ELEMENTWISE[ops]
    told = attrs | ({"key": (1, 2), "step": 3, "position": 4} if ops[0] == ("dropout", "forward") else {})
    for shape in SHAPES:
        arrays, results = drawn(ops, rng, shape, dtype)
        alone = one_by_one(built[1], ops, arrays, dtype, attrs, told)
        for count in (1, 2):
            threads(built[0].library, count)
            given = [np.full_like(each, 7) if at in results else each for at, each in enumerate(arrays)]
            assert built[0].call((fusion.op, fusion.stage, ""), dtype, given, **told)
            for at, expected in zip(results, alone, strict=True):
                assert np.array_equal(given[at], expected), (shape, count)
        numpys = [np.zeros_like(each) if at in results else each for at, each in enumerate(arrays)]
        kernel(fusion.op, fusion.stage)(*numpys, **told)
        for at, expected in zip(results, alone, strict=True):
            error = np.abs(numpys[at].astype(float) - expected)
            assert np.max(error, initial=0) <= 32 * np.finfo(DTYPES[dtype]).eps * (
                1 + np.max(np.abs(expected), initial=0)
            )


def drawn(
    ops: tuple[tuple[str, str], ...], rng: np.random.Generator, shape: tuple[int, int], dtype: str
) -> tuple[list[Any], tuple[int, ...]]:
    """The arrays of a call, and which of them it fills."""
    arrays: list[Any] = [rng.standard_normal(shape).astype(DTYPES[dtype]) for _ in range(4)]
    if ops[0] == ("dropout", "forward"):  # x, added, y, mask
        return [*arrays[:3], np.zeros(shape, np.uint8)], (2, 3)
    if ops[0] == ("dropout", "dx"):
        arrays[1] = rng.integers(0, 2, shape).astype(np.uint8)
    return (arrays[:3], (2,)) if ops[0] == ("add", "forward") else (arrays, (3,))


def one_by_one(
    single: dict[str, Bound],
    ops: tuple[tuple[str, str], ...],
    arrays: list[Any],
    dtype: str,
    attrs: dict[str, Any],
    told: dict[str, Any],
) -> list[Any]:
    """What the functions of the single ops give, on one thread: the results of the call."""
    (op, _), (last, _) = ops
    between, result = np.empty_like(arrays[0]), np.empty_like(arrays[0])
    masks = [np.empty(arrays[0].shape, np.uint8)] if ops[0] == ("dropout", "forward") else []
    count = 1 if masks else 2
    first_told = told if op == "dropout" else {} if op in ("add", "sum") else attrs
    last_told = {} if last in ("add", "sum") or op == "dropout" else attrs
    for pair, given, keywords in (
        (ops[0], [*arrays[:count], between, *masks], first_told),
        (ops[1], [between, *arrays[count : len(arrays) - 1 - len(masks)], result], last_told),
    ):
        library = single[KERNELS[*pair, ""].module]
        threads(library.library, 1)
        assert library.call((*pair, ""), dtype, given, **keywords)
    return [result, *masks]
