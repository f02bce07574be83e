"""What dropout in C is told: which numbers are drawn, and from which on an element is kept."""

from __future__ import annotations

from math import ceil

from .layout import Array, Origin
from .native import Numbers
from .philox import Key

GRID = 2**24
"""Numbers that are drawn are multiples of 1/GRID."""


def dropout_forward(
    x: Array,
    _y: Array,
    mask: Array,
    *,
    p: float,
    key: Key,
    step: int,
    position: int,
    origin: Origin | None = None,
    **_: object,
) -> Numbers | None:
    """Rows, columns, the counter and the key, the smallest multiple that is kept, the factor; all of each sample."""
    if origin is not None or mask.dtype != "uint8":
        return None
    return Numbers((len(x), x[:1].size, position, step, *key, ceil(p * GRID), 1 / (1 - p)))


def dropout_dx(dy: Array, mask: Array, _dx: Array, *, p: float, **_: object) -> Numbers | None:
    """Elements and the factor."""
    return Numbers((dy.size, 1 / (1 - p))) if mask.dtype == "uint8" else None
