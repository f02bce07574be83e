"""Sums, differences, products and quotients of two values that broadcast by axes, or of a value and a number.

The smaller operand has some axes of the larger: `axes` are their logical positions, the last ones by default. With a
`scalar` there is one operand, a; the number stands on the right, with `scalar_first` on the left.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .layout import Array, logical

Axes = tuple[int, ...] | None


def add_forward(
    *arrays: Array, scalar: float | None = None, axes: Axes = None, layout: str = "NCHW", **_: object
) -> None:
    """a, b, y: y = a + b."""
    a, b, y = _aligned(arrays, scalar, False, axes, layout)
    np.add(a, b, out=y)


def add_dx(dy: Array, *dxs: Array, axes: Axes = None, layout: str = "NCHW", **_: object) -> None:
    """dy -> da = dy, db = dy."""
    for dx, kept in _targets(dy, dxs, axes, layout):
        _gather(logical(dy, layout), dx, kept)


def sub_forward(
    *arrays: Array,
    scalar: float | None = None,
    scalar_first: bool = False,
    axes: Axes = None,
    layout: str = "NCHW",
    **_: object,
) -> None:
    """a, b, y: y = a - b."""
    a, b, y = _aligned(arrays, scalar, scalar_first, axes, layout)
    np.subtract(a, b, out=y)


def sub_dx(
    dy: Array, *dxs: Array, scalar_first: bool = False, axes: Axes = None, layout: str = "NCHW", **_: object
) -> None:
    """dy -> da = dy, db = -dy; the one operand after a number is b."""
    for place, (dx, kept) in enumerate(_targets(dy, dxs, axes, layout)):
        _gather(logical(dy, layout), dx, kept)
        if place or scalar_first:
            np.negative(dx, out=dx)


def mul_forward(
    *arrays: Array, scalar: float | None = None, axes: Axes = None, layout: str = "NCHW", **_: object
) -> None:
    """a, b, y: y = a·b."""
    a, b, y = _aligned(arrays, scalar, False, axes, layout)
    np.multiply(a, b, out=y)


def mul_dx(
    dy: Array, *arrays: Array, scalar: float | None = None, axes: Axes = None, layout: str = "NCHW", **_: object
) -> None:
    """dy, a, b -> da = dy·b, db = dy·a; allocates a product where b has fewer axes."""
    if scalar is not None:
        np.multiply(dy, scalar, out=arrays[-1])
        return
    a, b, dy_ = _aligned((*arrays[:2], dy), None, False, axes, layout)
    (da, kept_a), (db, kept_b) = _targets(dy, arrays[2:], axes, layout)
    _product(dy_, b, da, kept_a)
    _product(dy_, a, db, kept_b)


def div_forward(
    *arrays: Array,
    scalar: float | None = None,
    scalar_first: bool = False,
    axes: Axes = None,
    layout: str = "NCHW",
    **_: object,
) -> None:
    """a, b, y: y = a/b."""
    a, b, y = _aligned(arrays, scalar, scalar_first, axes, layout)
    np.divide(a, b, out=y)


def div_dx(
    dy: Array,
    *arrays: Array,
    scalar: float | None = None,
    scalar_first: bool = False,
    axes: Axes = None,
    layout: str = "NCHW",
    **_: object,
) -> None:
    """dy, a, b -> da = dy/b, db = -dy·a/b²; allocates quotients."""
    if scalar is not None:
        x, dx = arrays
        np.divide(dy, scalar, out=dx) if not scalar_first else np.multiply(dy, -scalar / (x * x), out=dx)
        return
    a, b, dy_ = _aligned((*arrays[:2], dy), None, False, axes, layout)
    (da, kept_a), (db, kept_b) = _targets(dy, arrays[2:], axes, layout)
    _product(dy_, 1 / b, da, kept_a)
    _product(dy_, -a / (b * b), db, kept_b)


def _aligned(
    arrays: tuple[Array, ...], scalar: float | None, scalar_first: bool, axes: Axes, layout: str
) -> tuple[Array | float, Array | float, Array]:
    """a, b and the result in logical order, with an axis of extent 1 where an operand has none."""
    *operands, y = (logical(array, layout) for array in arrays)
    if scalar is not None:
        return (scalar, operands[0], y) if scalar_first else (operands[0], scalar, y)
    a, b = (_spread(operand, y, axes) for operand in operands)
    return a, b, y


def _targets(dy: Array, dxs: tuple[Array, ...], axes: Axes, layout: str) -> Iterator[tuple[Array, tuple[int, ...]]]:
    """Each gradient in logical order, and the axes of dy that it has."""
    for dx in (logical(array, layout) for array in dxs):
        yield dx, _positions(dx, dy, axes)


def _positions(x: Array, y: Array, axes: Axes) -> tuple[int, ...]:
    """Where the axes of x stand among those of y."""
    if x.ndim == y.ndim:
        return tuple(range(y.ndim))
    return tuple(range(y.ndim - x.ndim, y.ndim)) if axes is None else axes


def _spread(x: Array, y: Array, axes: Axes) -> Array:
    """x with an axis of extent 1 where y has one that x has not."""
    kept = _positions(x, y, axes)
    return np.expand_dims(x, tuple(axis for axis in range(y.ndim) if axis not in kept))


def _gather(dy: Array, dx: Array, kept: tuple[int, ...]) -> None:
    """dy summed over the axes that dx does not have."""
    summed = tuple(axis for axis in range(dy.ndim) if axis not in kept)
    if summed:
        np.add.reduce(dy, axis=summed, out=dx)
    else:
        np.copyto(dx, dy)


def _product(dy: Array, factor: Array | float, dx: Array, kept: tuple[int, ...]) -> None:
    """dy times a factor, gathered into dx."""
    if len(kept) == dy.ndim:
        np.multiply(dy, factor, out=dx)
    else:
        _gather(dy * factor, dx, kept)
