"""Conversions between layouts in C: every pair, with extents below, at and above those of squares and blocks."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest

from backends.numpy_mpi.c.convert import FUNCTIONS
from backends.numpy_mpi.kernels.layout import TO_LOGICAL, physical
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
