"""Three pieces of work that tell how fast a machine is at this moment; it needs NumPy alone.

A virtual machine changes its speed with what its neighbours do, within a second and from one minute to the next, and no
clock of its own tells. So whatever is timed has readings of these beside it: a matrix product, which goes by how fast a
core computes; a copy that no cache of a core has room for; and calls on next to nothing, Python's and NumPy's own work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

EXTENT, COPIED, CALLS = 200, 2**21, 40
"""Of the matrices; values of f32 that are copied; calls."""

COPIED_BYTES = 8.0 * COPIED
"""Read and written by the copy."""

APART = 0.03
"""Seconds of work between two readings, which take a millisecond or two."""


class Reading(NamedTuple):
    """Seconds of a product, of a copy, and of a call."""

    products: float
    copies: float
    calls: float


class Reference:
    """The arrays of all three."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self._a, self._b = rng.standard_normal((2, EXTENT, EXTENT)).astype(np.float32)
        self._c = np.zeros_like(self._a)
        self._x, self._y = np.ones(COPIED, np.float32), np.zeros(COPIED, np.float32)
        self._one = np.ones(1, np.float32)

    def read(self, now: Callable[[], float]) -> Reading:
        """All three, by this clock. The product and the calls are made once before, so that caches matter little."""
        np.matmul(self._a, self._b, out=self._c)
        begin = now()
        np.matmul(self._a, self._b, out=self._c)
        multiplied = now()
        np.copyto(self._y, self._x)
        copied = now()
        np.maximum(self._one, 0.0, out=self._one)
        called = now()
        for _ in range(CALLS):
            np.maximum(self._one, 0.0, out=self._one)
        return Reading(multiplied - begin, copied - multiplied, (now() - called) / CALLS)
