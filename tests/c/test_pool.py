"""Pools in C against the NumPy kernels: the largest elements, and what goes to them, equal bit for bit."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from backends.numpy_mpi.c.pool import FUNCTIONS
from backends.numpy_mpi.kernels import pool
from backends.numpy_mpi.kernels.layout import TO_LOGICAL, physical, repacked
from tests.c.bound import DTYPES, Bound, bound
from tests.c.building import JUNK, runnable, threads

pytestmark = pytest.mark.skipif(not runnable(), reason="there is no C compiler")

SHAPES = (
    (1, 1, 1, 1),
    (2, 3, 5, 4),
    (3, 17, 9, 8),
    (16, 4, 7, 7),
    (0, 3, 4, 4),
    (2, 40, 33, 20),
    (3, 5, 11),
    (4, 3, 1),
)
WINDOWS: tuple[tuple[Any, Any, Any], ...] = (
    ((2, 2), (2, 2), ((0, 0), (0, 0))),
    ((3, 3), (2, 2), ((1, 1), (1, 1))),
    ((3, 3), (1, 1), ((1, 1), (1, 1))),
    ((3, 3), (2, 2), ((0, 1), (0, 0))),
    ((2, 3), (3, 1), ((1, 0), (0, 2))),
    ((1, 5), (2, 4), ((0, 0), (2, 2))),
    ((3, 2), (1, 2), ((-1, 1), (1, -1))),
)
"""Windows, strides, pads; a part of an image may begin inside a window."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Bound:
    return bound(FUNCTIONS, "c_pool", runnable()[0], tmp_path_factory.mktemp("pool"))


def cases(rng: np.random.Generator) -> Any:
    """x in its layout, extents of y, what kernels are told; values repeat, and some are not numbers."""
    for shape, layout, (window, stride, pad) in product(SHAPES, TO_LOGICAL, WINDOWS):
        axes = len(shape) - 2
        if axes == 1 and layout != "NCHW":
            continue
        window, stride, pad = window[-axes:], stride[-axes:], pad[-axes:]
        inner = zip(shape[2:], window, stride, pad, strict=True)
        outs = [(extent + sum(pads) - w) // s + 1 for extent, w, s, pads in inner]
        if min(outs) > 0:
            x = rng.integers(-3, 4, shape).astype(float)
            x[rng.random(shape) < 0.02] = rng.choice((np.nan, np.inf, -np.inf))
            told = {"window": window, "stride": stride, "pad": pad, "layout": layout}
            yield np.array(physical(x, layout), order="C"), (*shape[:2], *outs), told


def both(
    built: Bound, op: str, stage: str, dtype: str, reads: list[Any], writes: list[Any], **told: Any
) -> list[tuple[Any, Any]]:
    """Results of C and of NumPy; those of C are equal on one and two threads."""
    name, found = f"{op}_{stage}", []
    reads = [array if array.dtype == np.int32 else array.astype(DTYPES[dtype]) for array in reads]
    empty = [np.full(a.shape, JUNK).astype(a.dtype if a.dtype == np.int32 else DTYPES[dtype]) for a in writes]
    for count in (1, 2):
        threads(built.library, count)
        found.append([array.copy() for array in empty])
        assert built.call((op, stage, ""), dtype, [*reads, *found[-1]], **told), name
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(*found, strict=True)), name
    getattr(pool, name)(*reads, *empty, **told)
    return list(zip(found[0], empty, strict=True))


def like(shape: tuple[int, ...], layout: str) -> Any:
    return np.zeros(physical(np.empty(shape, bool), layout).shape)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_largest_of_each_window(built: Bound, dtype: str) -> None:
    """Ties, infinities and NaN as NumPy has them; gradients are drawn, and added up in the same order."""
    rng = np.random.default_rng(1)
    for x, outs, told in cases(rng):
        y = like(outs, told["layout"])
        (largest, indices) = both(built, "maxpool", "forward", dtype, [x], [y, y.astype(np.int32)], **told)
        assert np.array_equal(*largest, equal_nan=True), (x.shape, told)
        assert np.array_equal(*indices), (x.shape, told)
        dy = rng.standard_normal(y.shape)
        assert np.array_equal(*both(built, "maxpool", "dx", dtype, [dy, indices[0]], [x], **told)[0]), (x.shape, told)


@pytest.mark.parametrize("dtype", DTYPES)
def test_means_of_windows(built: Bound, dtype: str) -> None:
    """A few roundings apart: C may round once where it multiplies and adds."""
    rng = np.random.default_rng(2)
    for (x, outs, told), count_pad in product(cases(rng), (True, False)):
        x, y = rng.standard_normal(x.shape), like(outs, told["layout"])
        bound = 8 * np.finfo(DTYPES[dtype]).eps
        found, expected = both(built, "avgpool", "forward", dtype, [x], [y], **told, count_pad=count_pad)[0]
        assert np.allclose(found, expected, rtol=bound, atol=bound), (x.shape, told)
        found, expected = both(built, "avgpool", "dx", dtype, [y + 1], [x], **told, count_pad=count_pad)[0]
        assert np.allclose(found, expected, rtol=bound, atol=bound), (x.shape, told)


@pytest.mark.parametrize("dtype", DTYPES)
def test_whole_images(built: Bound, dtype: str) -> None:
    rng = np.random.default_rng(3)
    for shape, layout in product((*SHAPES, (2, 3, 4, 5, 6), (2, 300, 12, 13)), TO_LOGICAL):
        if len(shape) != 4 and layout != "NCHW":
            continue
        x = np.array(physical(rng.standard_normal(shape), layout), order="C")
        y = like((*shape[:2], *(1 for _ in shape[2:])), layout)
        mean, bound = (
            both(built, "global_avgpool", "forward", dtype, [x], [y], layout=layout)[0],
            np.finfo(DTYPES[dtype]),
        )
        assert np.allclose(*mean, rtol=8 * bound.eps, atol=8 * bound.eps), (shape, layout)
        spread = both(built, "global_avgpool", "dx", dtype, [y + 3], [x], layout=layout)[0]
        assert np.allclose(*spread, rtol=2 * bound.eps), (shape, layout)
        x = np.round(x)
        x[rng.random(x.shape) < 0.02] = np.nan
        largest, indices = both(built, "global_maxpool", "forward", dtype, [x], [y, y.astype(np.int32)], layout=layout)
        assert np.array_equal(*largest, equal_nan=True), (shape, layout)
        assert np.array_equal(*indices), (shape, layout)
        given = both(built, "global_maxpool", "dx", dtype, [y + 3, indices[0]], [x], layout=layout)[0]
        assert np.array_equal(*given), (shape, layout)


@pytest.mark.parametrize("layout", ["NCHW8c", "NCHW4c"])
def test_channels_in_blocks(built: Bound, layout: str) -> None:
    """What is computed in blocks is what is computed in planes, put into blocks."""
    rng, shape = np.random.default_rng(4), (3, 16, 9, 8)
    x = rng.integers(-3, 4, shape).astype(float)
    for window, stride, pad in WINDOWS[:3]:
        told: dict[str, Any] = {"window": window, "stride": stride, "pad": pad, "layout": layout}
        outs = [(e + sum(p) - w) // s + 1 for e, w, s, p in zip(shape[2:], window, stride, pad, strict=True)]
        y, indices = np.zeros((3, 16, *outs)), np.zeros((3, 16, *outs), np.int32)
        pool.maxpool_forward(x, y, indices, **told | {"layout": "NCHW"})
        held = repacked(x, "NCHW", layout)
        found = both(built, "maxpool", "forward", "f64", [held], [y, indices], **told)
        for (a, b), plain in zip(found, (y, indices), strict=True):
            assert np.array_equal(a, b)
            assert np.array_equal(repacked(a, layout, "NCHW"), plain)
        dy = rng.standard_normal(y.shape)
        a, b = both(built, "maxpool", "dx", "f64", [dy, found[1][0]], [x], **told)[0]
        assert np.array_equal(a, b)
        a, b = both(built, "avgpool", "dx", "f64", [dy], [x], **told)[0]
        assert np.allclose(a, b, rtol=1e-14, atol=1e-14)
    means = both(built, "global_avgpool", "forward", "f64", [held], [np.zeros((3, 16, 1, 1))], layout=layout)[0]
    for mean in means:
        assert np.allclose(mean[..., 0, 0], x.mean(axis=(2, 3)), rtol=1e-14, atol=1e-14)
    largest, numbers = both(
        built, "global_maxpool", "forward", "f64", [held], [np.zeros((3, 16, 1, 1)), np.zeros((3, 16, 1, 1), np.int32)],
        layout=layout,
    )  # fmt: skip
    assert np.array_equal(largest[0][..., 0, 0], x.max(axis=(2, 3)))
    assert np.array_equal(numbers[0][..., 0, 0], x.reshape(3, 16, -1).argmax(axis=2))
