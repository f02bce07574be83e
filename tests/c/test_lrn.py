"""Local response normalisation in C against the NumPy kernels in double precision, in every layout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backends.numpy_mpi.c.lrn import FUNCTIONS
from backends.numpy_mpi.kernels.c_lrn import REACH
from backends.numpy_mpi.kernels.layout import TO_LOGICAL, physical
from tests.c.bound import DTYPES, Bound, bound
from tests.c.building import JUNK, each_target, runnable, threads
from tests.kernels.calling import kernel

pytestmark = pytest.mark.skipif(not runnable(), reason="there is no C compiler")

SHAPES = ((1, 1, 1, 1), (0, 3, 2, 2), (2, 3, 5, 7), (2, 96, 6, 6), (1, 33, 1, 9), (1, 300, 3, 2), (33, 40, 5, 5))
USUAL = {"size": 5, "alpha": 1e-1, "beta": 0.75, "k": 2.0}
ATTRS = (USUAL, USUAL | {"size": 4, "beta": 0.5, "k": 1.0}, USUAL | {"size": 1}, USUAL | {"size": REACH})


@pytest.fixture(scope="module", params=each_target())
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bound:
    return bound(FUNCTIONS, "c_lrn", request.param, tmp_path_factory.mktemp("lrn"))


@pytest.mark.parametrize("layout", TO_LOGICAL)
@pytest.mark.parametrize("attrs", ATTRS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_windows_over_channels(built: Bound, dtype: str, attrs: dict[str, Any], layout: str) -> None:
    rng, eps = np.random.default_rng(0), np.finfo(DTYPES[dtype]).eps
    for shape in SHAPES:
        x, dy = (np.array(physical(rng.standard_normal(shape), layout), DTYPES[dtype], order="C") for _ in range(2))
        wide = [np.empty(x.shape) for _ in range(3)]
        kernel("lrn", "forward")(x.astype(np.float64), *wide[:2], **attrs, layout=layout)
        base = wide[1].astype(DTYPES[dtype])
        kernel("lrn", "dx")(*(each.astype(np.float64) for each in (dy, x, base)), wide[2], **attrs, layout=layout)
        found = [[np.full(x.shape, JUNK, DTYPES[dtype]) for _ in range(3)] for _ in range(2)]
        for count, (y, sums, dx) in enumerate(found, 1):
            threads(built.library, count)
            assert built.call(("lrn", "forward", ""), dtype, [x, y, sums], **attrs, layout=layout)
            assert built.call(("lrn", "dx", ""), dtype, [dy, x, base, dx], **attrs, layout=layout)
        for one, two, right in zip(*found, wide, strict=True):
            assert np.array_equal(one, two), "the number of threads changes the result"
            assert np.max(np.abs(one - right) / (1 + np.abs(right)), initial=0) <= 16 * eps, shape


def test_windows_that_are_left_to_numpy(built: Bound) -> None:
    x = np.ones((1, 3, 2, 2))
    attrs = USUAL | {"size": REACH + 1}
    assert not built.call(("lrn", "forward", ""), "f64", [x, x, x], **attrs)
    assert not built.call(("lrn", "dx", ""), "f64", [x, x, x, x], **attrs)
