"""Sums of products of long vectors."""

import numpy as np

from backends.numpy_mpi.kernels.dot import STRETCH, dot, square_sum


def test_rounding_does_not_grow_with_length() -> None:
    x = np.random.default_rng(0).standard_normal(4_000_000).astype(np.float32)
    exact = float(np.dot(x.astype(np.float64), x.astype(np.float64)))
    assert abs(square_sum(x) / exact - 1) < 1e-7
    assert abs(float(np.dot(x, x)) / exact - 1) > 1e-7  # else BLAS alone would do


def test_every_element_counts_once() -> None:
    for size in (0, 1, STRETCH - 1, STRETCH, STRETCH + 1, 3 * STRETCH + 5):
        x = np.arange(size, dtype=np.float64)
        assert dot(x, np.ones(size)) == size * (size - 1) / 2
    assert dot(np.ones((3, 4)), np.full((3, 4), 2.0)) == 24
