"""Conversions between layouts in C: every pair, against NumPy's transposition."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from backends.numpy_mpi.c.layout import convert
from backends.numpy_mpi.c.target import Target
from backends.numpy_mpi.kernels.layout import TO_LOGICAL, physical
from tests.c.building import JUNK, build, call, each_target, runnable

pytestmark = pytest.mark.skipif(not runnable(), reason="there is no C compiler")


@pytest.mark.parametrize("target", each_target())
def test_every_conversion_puts_elements_where_they_belong(target: Target, tmp_path: Path) -> None:
    """Extents below, at and above the number of lanes."""
    pairs, dtypes = list(permutations(TO_LOGICAL, 2)), {"f32": np.float32, "f64": np.float64}
    functions = {
        (source, result, channels, dtype): convert(
            channels, 5, source, result, target, f"{source}_{result}_{channels}_{dtype}", dtype
        )
        for source, result in pairs
        for channels in (3, 16, 21)
        for dtype in dtypes
    }
    library = build(list(functions.values()), target, tuple(dtypes), tmp_path)
    rng = np.random.default_rng(0)
    for (source, result, channels, dtype), function in functions.items():
        for n in (16, 3, 0):
            x = rng.standard_normal((n, channels, 7, 5)).astype(dtypes[dtype])
            y = np.full(physical(x, result).shape, JUNK, x.dtype)
            call(library, function, [np.array(physical(x, source), order="C"), y], (n, 7))
            assert np.array_equal(y, physical(x, result)), (source, result, channels, n)
