"""Dropout in C draws the masks of the NumPy kernel, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from backends.numpy_mpi.c.dropout import FUNCTIONS
from tests.c.bound import DTYPES, Bound, bound
from tests.c.building import JUNK, each_target, runnable, threads
from tests.kernels.calling import kernel

pytestmark = pytest.mark.skipif(not runnable(), reason="there is no C compiler")

SHAPES = ((0, 5), (1, 1), (3, 7), (5, 4096), (7, 3, 85, 5), (2, 255), (2, 257))


@pytest.fixture(scope="module", params=each_target())
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bound:
    return bound(FUNCTIONS, "c_philox", request.param, tmp_path_factory.mktemp("dropout"))


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 1 - 2.0**-24])
@pytest.mark.parametrize("dtype", DTYPES)
def test_masks_are_those_of_numpy(built: Bound, dtype: str, p: float) -> None:
    """And so are the results, in the same precision."""
    rng = np.random.default_rng(0)
    for shape in SHAPES:
        x, dy = (rng.standard_normal(shape).astype(DTYPES[dtype]) for _ in range(2))
        told = {"p": p, "key": (0xFFFFFFFF, 0x12345678), "step": 2**31 + 3, "position": 2**31 + 9}
        y, dx, mask = np.empty_like(x), np.empty_like(x), np.empty(shape, np.uint8)
        kernel("dropout", "forward")(x, y, mask, **told)
        kernel("dropout", "dx")(dy, mask, dx, p=p)
        for count in (1, 2):
            threads(built.library, count)
            found, slopes = np.full((2, *shape), JUNK, x.dtype)
            kept = np.full(shape, 9, np.uint8)
            assert built.call(("dropout", "forward", ""), dtype, [x, found, kept], **told)
            assert built.call(("dropout", "dx", ""), dtype, [dy, kept, slopes], p=p)
            assert np.array_equal(kept, mask), shape
            assert np.array_equal(found, y), shape
            assert np.array_equal(slopes, dx), shape


def test_parts_of_samples_are_left_to_numpy(built: Bound) -> None:
    x, mask = np.ones((2, 4)), np.ones((2, 4), np.uint8)
    told = {"p": 0.5, "key": (1, 2), "step": 0, "position": 0}
    assert not built.call(("dropout", "forward", ""), "f64", [x, x, mask], **told, origin=(((0, 2), (4, 8)),))
    assert not built.call(("dropout", "forward", ""), "f64", [x, x, x], **told)
    assert not built.call(("dropout", "dx", ""), "f64", [x, x, x], p=0.5)
