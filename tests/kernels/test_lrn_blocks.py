"""The gradient of LRN goes through its samples in blocks: the same numbers, in memory for one block."""

import tracemalloc

import numpy as np
import pytest

from backends.numpy_mpi.kernels import lrn
from backends.numpy_mpi.kernels.layout import logical

SHAPES = {"NCHW": (5, 7, 3, 4), "NHWC": (5, 3, 4, 7), "CHWN": (7, 3, 4, 5)}


@pytest.mark.parametrize("layout", SHAPES)
@pytest.mark.parametrize("cache", [1, 1000])
def test_blocks_change_nothing(layout: str, cache: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    dy, x = (rng.standard_normal(SHAPES[layout]) for _ in range(2))
    base = rng.uniform(1, 2, SHAPES[layout])
    whole, parts = np.full_like(x, np.nan), np.full_like(x, np.nan)
    lrn.lrn_dx(dy, x, base, whole, size=5, alpha=0.1, beta=0.75, layout=layout)
    monkeypatch.setattr(lrn, "CACHE_BYTES", cache)
    lrn.lrn_dx(dy, x, base, parts, size=5, alpha=0.1, beta=0.75, layout=layout)
    np.testing.assert_array_equal(logical(whole, layout), logical(parts, layout))


def test_it_allocates_what_a_block_needs() -> None:
    arrays = [np.ones((16, 16, 64, 64), np.float32) for _ in range(4)]
    lrn.lrn_dx(*arrays, size=5, alpha=0.1, beta=0.75)
    tracemalloc.start()
    lrn.lrn_dx(*arrays, size=5, alpha=0.1, beta=0.75)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2 * lrn.CACHE_BYTES < 3 * arrays[0].nbytes
