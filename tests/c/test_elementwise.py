"""Element-wise C against the NumPy kernels in double precision, and the functions that it is made of."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

from backends.numpy_mpi.c import arithmetic, elementwise
from backends.numpy_mpi.c.elementwise import ALONE, Formula, loops
from tests.c.bound import DTYPES, Bound, Key, bound
from tests.c.building import JUNK, each_target, runnable, threads
from tests.kernels.calling import kernel

pytestmark = pytest.mark.skipif(not runnable(), reason="there is no C compiler")

SIZES = (0, 1, 7, 16, 33, 1000, ALONE + 77)
SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-42, -1e-42, 1e-30, 88.9, -88.9, 104.5, -104.5, 3e38, -3e38]
ARITHMETIC = [(key, len(f.reads), len(f.writes)) for key, f in arithmetic.FORMULAS.items()]
ACTIVATIONS = [(key, len(f.reads), len(f.writes)) for key, f in elementwise.FORMULAS.items()]

OURS: dict[Key, Formula] = {
    (name, "", ""): Formula(name, ("x",), ("y",), f"y[i] = ${{dtype}}_{name}(x[i]);")
    for name in ("exp", "expm1", "tanh", "sigmoid")
}
ULPS = {"exp": (2, 2), "expm1": (2, 2), "tanh": (2, 4), "sigmoid": (4, 4)}
"""Bounds in units of the last place, f32 and f64."""

Wide = Any


@pytest.fixture(scope="module", params=each_target())
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bound:
    return bound(elementwise.FUNCTIONS, "c_elementwise", request.param, tmp_path_factory.mktemp("elementwise"))


@pytest.fixture(scope="module", params=each_target())
def sums(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bound:
    return bound(arithmetic.FUNCTIONS, "c_arithmetic", request.param, tmp_path_factory.mktemp("arithmetic"))


@pytest.fixture(scope="module", params=each_target())
def ours(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bound:
    """The functions of `c.exponentials`, which no program calls by themselves."""
    return bound(loops(OURS), "c_elementwise", request.param, tmp_path_factory.mktemp("ours"))


def expected_of(key: Key, inputs: list[Any], results: int) -> list[Any]:
    """The NumPy kernel's, in double precision."""
    found = [np.empty(inputs[0].shape) for _ in range(results)]
    with np.errstate(all="ignore"):
        kernel(*key)(*(x.astype(np.float64) for x in inputs), *found)
    return found


def compare(built: Bound, key: Key, operands: int, results: int, dtype: str) -> None:
    rng, eps = np.random.default_rng(0), np.finfo(DTYPES[dtype]).eps
    for size in SIZES:
        inputs = [np.asarray(3 * rng.standard_normal(size), DTYPES[dtype]) for _ in range(operands)]
        found = [[np.full(size, JUNK, DTYPES[dtype]) for _ in range(results)] for _ in range(2)]
        for count, outputs in enumerate(found, 1):
            threads(built.library, count)
            assert built.call(key, dtype, [*inputs, *outputs])
        for one, two, right in zip(*found, expected_of(key, inputs, results), strict=True):
            assert np.array_equal(one, two), "the number of threads changes the result"
            wrong = np.abs(one - right) / (np.abs(right) + np.abs(inputs[0]) + eps)
            assert wrong.max(initial=0) <= 2 * eps, (key, size)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("key", "operands", "results"), ACTIVATIONS)
def test_activations(built: Bound, key: Key, operands: int, results: int, dtype: str) -> None:
    compare(built, key, operands, results, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("key", "operands", "results"), ARITHMETIC)
def test_arithmetic(sums: Bound, key: Key, operands: int, results: int, dtype: str) -> None:
    compare(sums, key, operands, results, dtype)


@pytest.mark.parametrize(("key", "operands", "results"), ACTIVATIONS)
def test_numbers_at_the_ends(built: Bound, key: Key, operands: int, results: int) -> None:
    """What is infinite, not a number or beyond the range comes out as from NumPy in the same precision."""
    special = np.array(SPECIAL, np.float32)
    inputs = [each.reshape(-1).copy() for each in np.meshgrid(*[special] * operands)]
    found, right = np.empty((2, inputs[0].size), np.float32)
    assert built.call(key, "f32", [*inputs, found])
    with np.errstate(all="ignore"):
        kernel(*key)(*inputs, right)
    np.testing.assert_allclose(found, right, rtol=1e-6, atol=1e-44)


@pytest.mark.parametrize("key", [key for key, *_ in ACTIVATIONS])
def test_a_result_may_lie_where_an_operand_does(built: Bound, key: Key) -> None:
    x = np.random.default_rng(0).standard_normal(100)
    others = [x.copy()] * (len(built.functions[key, "f64"].arguments) - 2)
    apart = np.empty_like(x)
    assert built.call(key, "f64", [x, *others, apart])
    assert built.call(key, "f64", [x, *others, x])
    assert np.array_equal(x, apart)


def test_calls_that_are_left_to_numpy(sums: Bound) -> None:
    """Operands that are repeated, and numbers."""
    x, row = np.ones((3, 4)), np.ones(4)
    assert not sums.call(("add", "forward", ""), "f64", [x, row, x.copy()])
    assert not sums.call(("add", "dx", ""), "f64", [x, x.copy(), row])
    assert not sums.call(("add", "dx", ""), "f64", [x, x.copy()], scalar=2.0)


def drawn(dtype: str) -> Wide:
    """f32: one of 997 of all numbers there are; f64: of several ranges."""
    if dtype == "f32":
        every = np.arange(0, 2**32, 997, dtype=np.uint64).astype(np.uint32).view(np.float32)
        return every[np.isfinite(every)]
    rng = np.random.default_rng(0)
    some = [rng.uniform(-end, end, 10**5) for end in (0.5, 3, 40, 760)]
    return np.concatenate([*some, rng.standard_normal(10**5) * np.exp(rng.uniform(-700, 5, 10**5))])


def exact(name: str, x: Wide) -> Wide:
    """In a precision that is wider than x's."""
    wide = x.astype(np.float64 if x.dtype == np.float32 else np.longdouble)
    with np.errstate(all="ignore"):
        return 1 / (1 + np.exp(-wide)) if name == "sigmoid" else getattr(np, name)(wide)


def applied(ours: Bound, name: str, dtype: str, x: Wide) -> Wide:
    y = np.empty_like(x)
    pointers = [ctypes.c_void_p(each.ctypes.data) for each in (x, y)]
    ours.library[f"{name}_{dtype}"](*pointers, ctypes.c_long(x.size))
    return y


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 60, reason="long double is no wider than double")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ULPS)
def test_functions_are_right_to_units_of_the_last_place(ours: Bound, name: str, dtype: str) -> None:
    x = drawn(dtype)
    if name == "expm1":
        x = np.minimum(x, 60)
    if name == "sigmoid":  # where e^-x overflows it is 0
        x = np.maximum(x, -88 if dtype == "f32" else -709)
    found = applied(ours, name, dtype, x)
    right = exact(name, x)
    with np.errstate(over="ignore"):
        rounded = right.astype(x.dtype)
    finite = np.isfinite(rounded)
    assert np.array_equal(found[~finite], rounded[~finite])
    unit = np.spacing(np.abs(rounded[finite])).astype(right.dtype)
    assert np.max(np.abs(found[finite] - right[finite]) / unit) <= ULPS[name][dtype == "f64"]
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0], x.dtype)
    at_special = applied(ours, name, dtype, special)
    skipped = slice(None) if name != "expm1" else slice(2, None)
    np.testing.assert_array_equal(at_special[skipped], exact(name, special)[skipped])
    assert np.signbit(at_special[4]) == (name == "tanh")
