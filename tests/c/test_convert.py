"""Conversions between layouts in C: every pair, with extents below, at and above those of squares and blocks."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest

from backends.numpy_mpi.c.convert import FUNCTIONS
from backends.numpy_mpi.kernels.layout import TO_LOGICAL, convert, physical
from tests.c.bound import DTYPES, bound
from tests.c.building import JUNK, runnable, threads

pytestmark = pytest.mark.skipif(not runnable(), reason="there is no C compiler")

SHAPES = (
    (1, 1, 1, 1),
    (0, 3, 2, 2),
    (4, 1, 5, 3),
    (3, 5, 1, 1),
    (16, 32, 4, 4),
    (5, 3, 21, 20),
    (17, 70, 9, 8),
    (2, 300, 3, 7),
)


def test_every_conversion_puts_elements_where_they_belong(tmp_path_factory: pytest.TempPathFactory) -> None:
    built = bound(FUNCTIONS, "c_layout", runnable()[0], tmp_path_factory.mktemp("convert"))
    for shape, (source, target), dtype in product(SHAPES, permutations(TO_LOGICAL, 2), DTYPES):
        logical = np.arange(np.prod(shape)).reshape(shape).astype(DTYPES[dtype])
        x, expected = (np.array(physical(logical, layout), order="C") for layout in (source, target))
        for count in (1, 2):
            threads(built.library, count)
            y = np.full(expected.shape, JUNK, DTYPES[dtype])
            assert built.call(("convert", "forward", ""), dtype, [x, y], source=source, target=target)
            assert np.array_equal(y, expected), (shape, source, target)


def test_channels_into_blocks_and_back(tmp_path_factory: pytest.TempPathFactory) -> None:
    """[n, c/b, h, w, b] in an array of the shape NCHW; between two sizes, and from samples inside, NumPy's kernel."""
    built = bound(FUNCTIONS, "c_layout", runnable()[0], tmp_path_factory.mktemp("blocks"))
    for shape, block, dtype in product(
        ((2, 16, 3, 5), (1, 32, 1, 1), (0, 16, 2, 2), (3, 48, 17, 9)), (4, 8, 16), DTYPES
    ):
        n, c, h, w = shape
        plain = np.arange(n * c * h * w).reshape(shape).astype(DTYPES[dtype])
        blocked = np.ascontiguousarray(plain.reshape(n, c // block, block, h, w).transpose(0, 1, 3, 4, 2))
        arrays = {f"NCHW{block}c": blocked.reshape(shape)}
        arrays |= {layout: np.array(physical(plain, layout), order="C") for layout in TO_LOGICAL}
        for source, target in permutations(arrays, 2):
            y, again = (np.full(arrays[target].shape, JUNK, DTYPES[dtype]) for _ in range(2))
            convert(arrays[source], y, source=source, target=target)
            assert np.array_equal(y, arrays[target]), (shape, source, target)
            if "c" in source + target:
                called = built.call(
                    ("convert", "forward", ""), dtype, [arrays[source], again], source=source, target=target
                )
                assert called == ("CHWN" not in (source, target))
                assert not called or np.array_equal(again, y), (shape, source, target)
        other = f"NCHW{8 if block == 4 else 4}c"
        y, back = np.empty_like(plain), np.empty_like(plain)
        convert(arrays[f"NCHW{block}c"], y, source=f"NCHW{block}c", target=other)
        convert(y, back, source=other, target="NCHW")
        assert np.array_equal(back, plain)
