"""What sums, differences, products and quotients in C are told; where an operand is repeated NumPy has the code."""

from __future__ import annotations

from .layout import Array
from .native import Numbers


def add_forward(a: Array, b: Array, *results: Array, **_: object) -> Numbers | None:
    """Elements, of two operands of the result's shape."""
    return Numbers((a.size,)) if results and a.shape == b.shape == results[0].shape else None


def add_dx(dy: Array, *dxs: Array, **_: object) -> Numbers | None:
    """Elements, of two gradients of one shape."""
    return Numbers((dy.size,)) if len(dxs) == 2 and dy.shape == dxs[0].shape == dxs[1].shape else None
