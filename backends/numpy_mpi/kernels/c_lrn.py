"""What local response normalisation in C is told: how channels lie in memory, windows, and factors."""

from __future__ import annotations

from math import prod

from .layout import Array, physical_axis
from .native import Numbers

REACH = 32
"""The most channels of a window that C has room for."""


def lrn_forward(
    x: Array,
    *_: Array,
    size: int,
    alpha: float,
    beta: float,
    k: float,
    layout: str = "NCHW",
    **_told: object,
) -> Numbers | None:
    """Extents around channels, the window, the factor of the sum, the power, what is added."""
    if size > REACH:
        return None
    return Numbers((*_extents(x, layout), size, size // 2, alpha / size, float(beta), float(k)))


def lrn_dx(
    dy: Array, *_: Array, size: int, alpha: float, beta: float, layout: str = "NCHW", **_told: object
) -> Numbers | None:
    """The same, with the factor of the gradient's sum."""
    if size > REACH:
        return None
    return Numbers((*_extents(dy, layout), size, size // 2, -2 * alpha * beta / size, float(beta)))


def _extents(x: Array, layout: str) -> tuple[int, int, int]:
    """Outside of the channels, their number, inside of them."""
    at = physical_axis(1, layout, x.ndim)
    return prod(x.shape[:at]), x.shape[at], prod(x.shape[at + 1 :])
