"""Rows of tables in C, sums of gradients and their clipping, against the NumPy kernels."""

from __future__ import annotations

import numpy as np
import pytest

from backends.numpy_mpi.c import embedding, gradients
from tests.c.bound import DTYPES, Bound, bound
from tests.c.building import JUNK, each_target, runnable, threads
from tests.kernels.calling import kernel

pytestmark = pytest.mark.skipif(not runnable(), reason="there is no C compiler")


@pytest.fixture(scope="module", params=each_target())
def tables(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bound:
    return bound(embedding.FUNCTIONS, "c_embedding", request.param, tmp_path_factory.mktemp("embedding"))


@pytest.fixture(scope="module", params=each_target())
def sums(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bound:
    return bound(gradients.FUNCTIONS, "c_gradients", request.param, tmp_path_factory.mktemp("gradients"))


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_of_tokens(tables: Bound, dtype: str) -> None:
    """Tokens that come often, and tables with more columns than a thread adds up at a time."""
    rng, eps = np.random.default_rng(0), np.finfo(DTYPES[dtype]).eps
    for tokens, vocab, width in (((0, 3), 5, 4), ((1,), 1, 1), ((4, 50), 7, 33), ((3, 100), 90, 700)):
        x = rng.integers(0, vocab, tokens).astype(np.int32)
        weight = rng.standard_normal((vocab, width)).astype(DTYPES[dtype])
        dy = rng.standard_normal((*tokens, width)).astype(DTYPES[dtype])
        right, sizes = np.empty((2, vocab, width))
        kernel("embedding", "dw")(dy.astype(np.float64), x, right)
        kernel("embedding", "dw")(np.abs(dy).astype(np.float64), x, sizes)
        found = []
        for count in (1, 2):
            threads(tables.library, count)
            y, dweight = np.full(dy.shape, JUNK, dy.dtype), np.full(weight.shape, JUNK, dy.dtype)
            assert tables.call(("embedding", "forward", ""), dtype, [x, weight, y])
            assert tables.call(("embedding", "dw", ""), dtype, [dy, x, dweight])
            assert np.array_equal(y, weight[x])
            assert np.all(np.abs(dweight - right) <= 16 * eps * sizes)
            found.append(dweight)
        assert np.array_equal(*found), "the number of threads changes the result"


def test_tables_that_are_left_to_numpy(tables: Bound) -> None:
    """Parts of tables, and tokens of another type."""
    x, table = np.zeros(2, np.int32), np.ones((3, 4))
    origin = (((0, 2),), ((3, 6), (0, 4)), ((0, 2), (0, 4)))
    assert not tables.call(("embedding", "forward", ""), "f64", [x, table, table[:2]], origin=origin)
    assert not tables.call(("embedding", "dw", ""), "f64", [table[:2], x.astype(np.int64), table])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", range(2, gradients.MOST + 1))
def test_sums_from_left_to_right(sums: Bound, count: int, dtype: str) -> None:
    """As NumPy's to the bit; the sum may lie where the first gradient does."""
    values = list(np.random.default_rng(0).standard_normal((count, 7, 6000)).astype(DTYPES[dtype]))
    right = np.empty_like(values[0])
    kernel("sum", "sum")(*values, right)
    for threads_ in (1, 2):
        threads(sums.library, threads_)
        first = values[0].copy()
        assert sums.call(("sum", "sum", ""), dtype, [first, *values[1:], first])
        assert np.array_equal(first, right)


def test_sums_that_are_left_to_numpy(sums: Bound) -> None:
    x = np.ones((2, 3))
    assert not sums.call(("sum", "sum", ""), "f64", [x, x])
    assert not sums.call(("sum", "sum", ""), "f64", [x] * (gradients.MOST + 2))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bound_", [0.5, 1e9, 0.0])
def test_clipping(sums: Bound, dtype: str, bound_: float) -> None:
    rng, eps = np.random.default_rng(3), np.finfo(DTYPES[dtype]).eps
    start = [rng.standard_normal(size).astype(DTYPES[dtype]) for size in (1, 0, 7, 16, 33, 70_001)]
    right = [each.astype(np.float64) for each in start]
    kernel("clip", "clip")(*right, kind="norm", bound=bound_)
    found = []
    for count in (1, 2):
        threads(sums.library, count)
        gradients_ = [each.copy() for each in start]
        assert sums.call(("clip", "clip", ""), dtype, gradients_, kind="norm", bound=bound_)
        for each, expected in zip(gradients_, right, strict=True):
            assert np.all(np.abs(each - expected) <= 4 * eps * np.abs(expected))
        found.append(np.concatenate(gradients_))
    assert np.array_equal(*found), "the number of threads changes the result"


def test_clipping_of_what_is_no_number(sums: Bound) -> None:
    """As NumPy's: a sum that is no number leaves all, an infinite one ends all."""
    for wrong in (np.nan, np.inf):
        one, two = (np.array([1.0, wrong, 3.0]) for _ in (1, 2))
        assert sums.call(("clip", "clip", ""), "f64", [one], kind="norm", bound=1.0)
        with np.errstate(invalid="ignore"):
            kernel("clip", "clip")(two, kind="norm", bound=1.0)
        assert np.array_equal(one, two, equal_nan=True)


def test_clipping_that_is_left_to_numpy(sums: Bound) -> None:
    x = np.ones(3)
    assert not sums.call(("clip", "clip", ""), "f64", [x], kind="value", bound=1.0)
    assert not sums.call(("clip", "clip", ""), "f64", [x, x[:1]], kind="norm", bound=1.0, copies=(1,))
