"""Element-wise C against the NumPy kernels in double precision, and the functions that it is made of."""

from __future__ import annotations

import ctypes
import math
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
Told = dict[str, Any]

ATTRS: dict[str, list[Told]] = {
    "leaky_relu": [{"slope": 0.01}, {"slope": 3.0}],
    "elu": [{"alpha": 1.0}, {"alpha": 0.5}],
    "gelu": [{"approximate": "none"}, {"approximate": "tanh"}],
}
ACTIVATIONS = [
    (op, stage, told) for op, stage, variant in elementwise.FORMULAS if not variant for told in ATTRS.get(op, [{}])
]
FIRST = {"scalar": 2.5, "scalar_first": True}
ARITHMETIC: list[tuple[str, str, int, int, Told]] = [
    *((op, "forward", 2, 1, {}) for op in ("add", "sub", "mul", "div")),
    *((op, "forward", 1, 1, {"scalar": 2.5}) for op in ("add", "sub", "mul", "div")),
    *((op, "forward", 1, 1, FIRST) for op in ("sub", "div")),
    *((op, "dx", 1, 2, {}) for op in ("add", "sub")),
    *((op, "dx", 3, 2, {}) for op in ("mul", "div")),
    ("mul", "dx", 1, 1, {"scalar": 2.5}),
]

OURS: dict[Key, Formula] = {
    (name, "", ""): Formula(name, ("x",), ("y",), f"y[i] = ${{dtype}}_{name}(x[i]);")
    for name in ("exp", "expm1", "tanh", "sigmoid", "erf")
}
ULPS = {"exp": (2, 2), "expm1": (2, 2), "tanh": (2, 4), "sigmoid": (4, 4), "erf": (2, 4)}
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


def compare(built: Bound, key: Key, dtype: str, operands: int, results: int, told: Told) -> None:
    """Drawn operands, none of them 0: in units of the NumPy kernel's result and of the first operand."""
    rng, eps = np.random.default_rng(0), np.finfo(DTYPES[dtype]).eps
    for size in SIZES:
        inputs = [rng.uniform(0.1, 4, size) * rng.choice([-1, 1], size) for _ in range(operands)]
        inputs = [np.asarray(x, DTYPES[dtype]) for x in inputs]
        found = [[np.full(size, JUNK, DTYPES[dtype]) for _ in range(results)] for _ in range(2)]
        for count, outputs in enumerate(found, 1):
            threads(built.library, count)
            assert built.call(key, dtype, [*inputs, *outputs], **told)
        right = [np.empty(size) for _ in range(results)]
        kernel(*key)(*(x.astype(np.float64) for x in inputs), *right, **told)
        for one, two, expected in zip(*found, right, strict=True):
            assert np.array_equal(one, two), "the number of threads changes the result"
            wrong = np.abs(one - expected) / (np.abs(expected) + np.abs(inputs[0]))
            assert wrong.max(initial=0) <= 8 * eps, size


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("op", "stage", "told"), ACTIVATIONS)
def test_activations(built: Bound, op: str, stage: str, told: Told, dtype: str) -> None:
    compare(built, (op, stage, ""), dtype, 1 if stage == "forward" else 2, 1, told)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("op", "stage", "operands", "results", "told"), ARITHMETIC)
def test_arithmetic(sums: Bound, op: str, stage: str, operands: int, results: int, told: Told, dtype: str) -> None:
    compare(sums, (op, stage, ""), dtype, operands, results, told)


@pytest.mark.parametrize(("op", "stage", "told"), [case for case in ACTIVATIONS if case[2] != {"slope": 3.0}])
def test_numbers_at_the_ends(built: Bound, op: str, stage: str, told: Told) -> None:
    """What is infinite, not a number or beyond the range comes out as from NumPy in the same precision."""
    special = np.array(SPECIAL, np.float32)
    key, operands = (op, stage, ""), 1 if stage == "forward" else 2
    inputs = [each.reshape(-1).copy() for each in np.meshgrid(*[special] * operands)]
    found, right = np.empty((2, inputs[0].size), np.float32)
    assert built.call(key, "f32", [*inputs, found], **told)
    with np.errstate(all="ignore"):
        kernel(*key)(*inputs, right, **told)
    np.testing.assert_allclose(found, right, rtol=2e-6, atol=1e-43)


@pytest.mark.parametrize(("op", "stage", "told"), ACTIVATIONS)
def test_a_result_may_lie_where_an_operand_does(built: Bound, op: str, stage: str, told: Told) -> None:
    x, apart = np.random.default_rng(0).standard_normal((2, 100))
    others = [x.copy()] if stage == "dx" else []
    assert built.call((op, stage, ""), "f64", [x, *others, apart], **told)
    assert built.call((op, stage, ""), "f64", [x, *others, x], **told)
    assert np.array_equal(x, apart)


def test_calls_that_are_left_to_numpy(sums: Bound) -> None:
    """Operands that are repeated, gradients that are sums, and gradients beside a number that NumPy does as fast."""
    x, row = np.ones((3, 4)), np.ones(4)
    for op in ("add", "sub", "mul", "div"):
        assert not sums.call((op, "forward", ""), "f64", [x, row, x.copy()])
        operands = [] if op in ("add", "sub") else [x, row]
        assert not sums.call((op, "dx", ""), "f64", [x, *operands, x.copy(), row])
    for op in ("add", "sub"):
        assert not sums.call((op, "dx", ""), "f64", [x, x.copy()], scalar=2.0)
    assert not sums.call(("div", "dx", ""), "f64", [x, x, x.copy()], scalar=2.0)


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
        if name == "erf":
            return np.array([math.erf(each) for each in wide.tolist()], wide.dtype)
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
    assert np.signbit(at_special[4]) == (name in ("tanh", "erf"))
