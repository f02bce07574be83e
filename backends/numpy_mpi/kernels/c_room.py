"""What functions of C that multiply matrices work in, and tables of the arrays of calls that have a varying number."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache

import numpy as np

from .layout import Array

THREADS = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
"""No more work together: programs set the variable to the cores of their device."""

ROOM = 3 << 18
"""Elements that a product of matrices works in at most."""

TILE = 64
"""No tile of results has more rows or columns; how many columns it has, divides this."""


def product_room(columns: int, depth: int) -> int:
    """Elements that a product works in, whose results have so many columns and are sums over so many products."""
    return min(ROOM, -(-columns // TILE) * TILE * depth + 2 * TILE)


def table(arrays: Iterable[Array]) -> int:
    """The address of the addresses of arrays."""
    return _kept((*[array.ctypes.data for array in arrays],)).ctypes.data


def lengths(arrays: Iterable[Array]) -> int:
    """The address of the numbers of elements of arrays."""
    return _kept((*[array.size for array in arrays],)).ctypes.data


@cache
def _kept(numbers: tuple[int, ...]) -> Array:
    return np.array(numbers, np.int64)
