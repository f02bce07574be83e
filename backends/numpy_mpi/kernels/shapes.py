"""Kernels that join values."""

from __future__ import annotations

import numpy as np

from .layout import Array, physical_axis


def concat_forward(*arrays: Array, axis: int, layout: str = "NCHW", **_: object) -> None:
    """Operands, and last the result: one after the other along a logical axis."""
    *xs, y = arrays
    for x, part in zip(xs, _parts(y, xs, axis, layout), strict=True):
        np.copyto(part, x)


def concat_dx(dy: Array, *dxs: Array, axis: int, layout: str = "NCHW", **_: object) -> None:
    """dy -> the gradient of each operand, a stretch of dy."""
    for dx, part in zip(dxs, _parts(dy, dxs, axis, layout), strict=True):
        np.copyto(dx, part)


def _parts(y: Array, xs: list[Array] | tuple[Array, ...], axis: int, layout: str) -> list[Array]:
    at = physical_axis(axis, layout, y.ndim)
    ends = np.cumsum([x.shape[at] for x in xs])
    return np.split(y, ends[:-1], axis=at)
