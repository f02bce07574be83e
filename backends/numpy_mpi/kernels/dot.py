"""Products of long vectors whose rounding does not grow with their length."""

from __future__ import annotations

import numpy as np

from .layout import Array

STRETCH = 2**13
"""Elements that BLAS sums by itself. It keeps a few running sums in the vectors' own precision: of 25 million float32
squares they lose 1e-4; in stretches of this length, whose sums are added in float64, 2e-9, at half as much time again.
It would share longer ones among its threads, whose waiting then holds the cores."""


def dot(a: Array, b: Array) -> float:
    """Σ a·b over all elements of two arrays of one shape."""
    a, b = a.reshape(-1), b.reshape(-1)
    return sum(float(np.dot(a[at : at + STRETCH], b[at : at + STRETCH])) for at in range(0, a.size, STRETCH))


def square_sum(x: Array) -> float:
    """Σ x² over all elements."""
    return dot(x, x)
