"""What layer and RMS normalisation in C are told: rows, columns, and ε."""

from __future__ import annotations

from .layout import Array
from .native import Numbers


def layernorm_forward(x: Array, scale: Array, *_: Array, eps: float, **_told: object) -> Numbers:
    """Rows, columns, ε."""
    return Numbers((*_rows(x, scale), float(eps)))


def layernorm_dx(dy: Array, x: Array, scale: Array, *_: Array, **_told: object) -> Numbers:
    """Rows, columns."""
    return Numbers(_rows(x, scale))


def layernorm_dw(dy: Array, x: Array, mean: Array, rstd: Array, dscale: Array, *_: Array, **_told: object) -> Numbers:
    """Rows, columns."""
    return Numbers(_rows(x, dscale))


def rmsnorm_dw(dy: Array, x: Array, rstd: Array, dscale: Array, **_told: object) -> Numbers:
    """Rows, columns."""
    return Numbers(_rows(x, dscale))


rmsnorm_forward, rmsnorm_dx = layernorm_forward, layernorm_dx


def _rows(x: Array, scale: Array) -> tuple[int, int]:
    return x.size // scale.size, scale.size
