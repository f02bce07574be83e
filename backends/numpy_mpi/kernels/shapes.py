"""Kernels that join and broadcast values."""

from __future__ import annotations

import numpy as np

from .layout import Array, logical, physical_axis


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


def add_forward(
    *arrays: Array, scalar: float | None = None, axes: tuple[int, ...] | None = None, layout: str = "NCHW", **_: object
) -> None:
    """a, b, y: y = a + b; with a `scalar` a, y: y = a + scalar.

    The smaller operand has some axes of the larger: `axes` are their logical positions, the last ones by default.
    """
    *operands, y = (logical(array, layout) for array in arrays)
    if scalar is not None:
        np.add(operands[0], scalar, out=y)
    else:
        a, b = (_spread(operand, y, axes) for operand in operands)
        np.add(a, b, out=y)


def add_dx(dy: Array, *dxs: Array, axes: tuple[int, ...] | None = None, layout: str = "NCHW", **_: object) -> None:
    """dy -> the gradient of each operand: dy itself, summed over the axes that the operand does not have."""
    dy = logical(dy, layout)
    for dx in (logical(array, layout) for array in dxs):
        kept = _positions(dx, dy, axes)
        summed = tuple(axis for axis in range(dy.ndim) if axis not in kept)
        if summed:
            np.add.reduce(dy, axis=summed, out=dx)
        else:
            np.copyto(dx, dy)


def _positions(x: Array, y: Array, axes: tuple[int, ...] | None) -> tuple[int, ...]:
    """Where the axes of x stand among those of y."""
    if x.ndim == y.ndim:
        return tuple(range(y.ndim))
    return tuple(range(y.ndim - x.ndim, y.ndim)) if axes is None else axes


def _spread(x: Array, y: Array, axes: tuple[int, ...] | None) -> Array:
    """x with an axis of extent 1 where y has one that x has not."""
    kept = _positions(x, y, axes)
    return np.expand_dims(x, tuple(axis for axis in range(y.ndim) if axis not in kept))
