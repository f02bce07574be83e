"""Launches of softmax: a block a row, a thread a row where rows lie side by side."""

from __future__ import annotations

from math import prod

from .launch import THREADS, Array, Steps, each, rows

PHYSICAL = {"NCHW": (0, 1, 2, 3), "NHWC": (0, 3, 1, 2), "CHWN": (3, 0, 1, 2)}
"""Layout -> where the axes batch, channel, height, width stand in memory."""


def softmax_forward(x: Array, y: Array, *, axis: int, layout: str = "NCHW", **_: object) -> Steps:
    """Along a logical axis."""
    outer, extent, inner = _row(x, axis, layout)
    if inner > 1:
        numbers = (extent, inner)
        return each(outer * inner, x, y, numbers=numbers, kernel="softmax_forward_columns")
    return rows(outer, x, y, extent, inner, threads=threads_for(extent))


def softmax_dx(dy: Array, y: Array, dx: Array, *, axis: int, layout: str = "NCHW", **_: object) -> Steps:
    """Along a logical axis."""
    outer, extent, inner = _row(y, axis, layout)
    if inner > 1:
        return each(outer * inner, dy, y, dx, numbers=(extent, inner), kernel="softmax_dx_columns")
    return rows(outer, dy, y, dx, extent, inner, threads=threads_for(extent))


def log_softmax_forward(x: Array, *others: Array, axis: int, layout: str = "NCHW", **_: object) -> Steps:
    """Along a logical axis."""
    outer, extent, inner = _row(x, axis, layout)
    return rows(outer * inner, x, *others, extent, inner, threads=threads_for(extent))


log_softmax_dx = log_softmax_forward


def threads_for(extent: int) -> int:
    """Of a block for a row: about one for 4 elements, in whole warps."""
    return min(THREADS, max(32, -(-extent // 128) * 32))


def _row(x: Array, axis: int, layout: str) -> tuple[int, int, int]:
    """(outer, extent, inner) around a logical axis."""
    at = PHYSICAL[layout][axis] if x.ndim == 4 else axis
    return prod(x.shape[:at]), x.shape[at], prod(x.shape[at + 1 :])
