"""Softmax, its logarithm and losses of logits in C, against the NumPy kernels in double precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from backends.numpy_mpi.c import losses, softmax
from tests.c.bound import DTYPES, Bound, Key, bound
from tests.c.building import JUNK, each_target, runnable, threads
from tests.kernels.calling import kernel

pytestmark = pytest.mark.skipif(not runnable(), reason="there is no C compiler")

AXES = [((4, 10), -1), ((1, 1), 1), ((0, 7), 1), ((33, 1100), -1), ((2, 5, 17), 1), ((3, 21, 70), 1), ((3, 4, 5, 6), 3)]
LAYOUTS = [((2, 5, 6, 7), 1, "NCHW"), ((2, 5, 6, 7), 3, "NHWC"), ((5, 6, 7, 130), 0, "CHWN")]
BATCHES = [((1, 1), (1,)), ((0, 10), (0,)), ((64, 10), (64,)), ((16, 1000), (16,)), ((3, 50, 301), (3, 50))]


@pytest.fixture(scope="module", params=each_target())
def along(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bound:
    return bound(softmax.FUNCTIONS, "c_softmax", request.param, tmp_path_factory.mktemp("softmax"))


@pytest.fixture(scope="module", params=each_target())
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bound:
    return bound(losses.FUNCTIONS, "c_losses", request.param, tmp_path_factory.mktemp("losses"))


def twice(built: Bound, key: Key, dtype: str, inputs: Sequence[Any], shapes: Sequence[Any], **told: Any) -> list[Any]:
    """Results, which are the same on one thread and on two, and close to the NumPy kernel's."""
    found = [[np.full(shape, JUNK, DTYPES[dtype]) for shape in shapes] for _ in range(2)]
    for count, outputs in enumerate(found, 1):
        threads(built.library, count)
        assert built.call(key, dtype, [*inputs, *outputs], **told)
    right = [np.empty(shape) for shape in shapes]
    wide = [x.astype(np.float64) if x.dtype == DTYPES[dtype] else x for x in inputs]
    with np.errstate(all="ignore"):
        kernel(*key)(*wide, *right, **told)
    for one, two, expected in zip(*found, right, strict=True):
        assert np.array_equal(one, two, equal_nan=True), "the number of threads changes the result"
        bound_ = 16 * np.finfo(DTYPES[dtype]).eps
        np.testing.assert_allclose(one, expected, rtol=bound_, atol=bound_)
    return found[0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", ["softmax", "log_softmax"])
def test_softmax_along_any_axis(along: Bound, op: str, dtype: str) -> None:
    rng = np.random.default_rng(0)
    cases = [(shape, {"axis": axis}) for shape, axis in AXES]
    cases += [(shape, {"axis": 1, "layout": layout}) for shape, _, layout in LAYOUTS]
    for shape, told in cases:
        x = 3 * rng.standard_normal(shape).astype(DTYPES[dtype])
        if not x.size:
            continue
        (y,) = twice(along, (op, "forward", ""), dtype, [x], [shape], **told)
        dy = rng.standard_normal(shape).astype(DTYPES[dtype])
        twice(along, (op, "dx", ""), dtype, [dy, y], [shape], **told)


@pytest.mark.parametrize("op", ["softmax", "log_softmax"])
@pytest.mark.parametrize("axis", [0, 1])
def test_logits_at_the_ends(along: Bound, op: str, axis: int) -> None:
    """Large ones do not overflow, masked ones are 0; rows with one that is not a number are not numbers."""
    rows = [[1e38, -1e38, 0.0], [1e4, 1e4, -np.inf], [np.nan, 0, 1], [0, 1, np.nan], [-np.inf] * 3, [np.inf, 0, 0]]
    x = np.array(rows, np.float32)
    x = np.ascontiguousarray(x if axis else x.T)
    twice(along, (op, "forward", ""), "f32", [x], [x.shape], axis=axis)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy(built: Bound, dtype: str, smoothing: float) -> None:
    rng = np.random.default_rng(0)
    for shape, batch in BATCHES:
        logits = 3 * rng.standard_normal(shape).astype(DTYPES[dtype])
        label = rng.integers(0, shape[-1], batch).astype(np.int32)
        told = {"count": 2 * shape[0] + 1, "smoothing": smoothing}
        if not logits.size:
            loss = np.full((), JUNK, DTYPES[dtype])
            assert built.call(("cross_entropy", "forward", ""), dtype, [logits, label, loss, logits], **told)
            assert loss == 0
            continue
        _, probabilities = twice(built, ("cross_entropy", "forward", ""), dtype, [logits, label], [(), shape], **told)
        dy = np.array(0.75, DTYPES[dtype])
        twice(built, ("cross_entropy", "dx", ""), dtype, [dy, probabilities, label], [shape], **told)


@pytest.mark.parametrize("dtype", DTYPES)
def test_perplexity(built: Bound, dtype: str) -> None:
    rng = np.random.default_rng(0)
    for shape, batch in BATCHES:
        logits = 3 * rng.standard_normal(shape).astype(DTYPES[dtype])
        label = rng.integers(0, shape[-1], batch).astype(np.int32)
        if logits.size:
            twice(built, ("perplexity", "forward", ""), dtype, [logits, label], [()])


@pytest.mark.parametrize("dtype", DTYPES)
def test_accuracy(built: Bound, dtype: str) -> None:
    """With logits that are equal, infinite or not numbers."""
    rng = np.random.default_rng(0)
    for shape, batch in BATCHES:
        logits = rng.integers(0, 5, shape).astype(DTYPES[dtype])
        logits[rng.random(shape) < 0.02] = np.nan
        logits[rng.random(shape) < 0.02] = np.inf
        label = rng.integers(0, shape[-1], batch).astype(np.int32)
        for top in (1, 5):
            twice(built, ("accuracy", "forward", ""), dtype, [logits, label], [()], top=top)


def test_calls_that_are_left_to_numpy(built: Bound) -> None:
    """Classes that are split over ranks, and labels of other types."""
    logits, loss = np.ones((2, 4)), np.empty(())
    origin = (((0, 2), (0, 8)), ((0, 2),))
    short, wide = (np.zeros(2, dtype) for dtype in (np.int32, np.int64))
    forward: Key = ("cross_entropy", "forward", "")
    assert not built.call(forward, "f64", [logits, short, loss, logits], count=2, origin=origin)
    assert not built.call(forward, "f64", [logits, wide, loss, logits], count=2)
    assert not built.call(("cross_entropy", "dx", ""), "f64", [loss, logits, wide, logits], count=2)
    for metric in ("accuracy", "perplexity"):
        assert not built.call((metric, "forward", ""), "f64", [logits, wide, loss])
