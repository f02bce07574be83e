"""Sums, differences, products and quotients of two values that broadcast by axes, or of a value and a number.

One operand may have some axes of the other only: `axes` are their logical positions, the last ones by default. An axis
of extent 1 is repeated too. With a `scalar` there is one operand, a; the number stands on the right, with
`scalar_first` on the left.
"""

from __future__ import annotations

import numpy as np

from .layout import Array, block_of, logical

Axes = tuple[int, ...] | None


def add_forward(
    *arrays: Array, scalar: float | None = None, axes: Axes = None, layout: str = "NCHW", **_: object
) -> None:
    """a, b, y: y = a + b."""
    a, b, y = _operands(arrays, scalar, False, axes, layout)
    np.add(a, b, out=y)


def add_dx(dy: Array, *dxs: Array, axes: Axes = None, layout: str = "NCHW", **_: object) -> None:
    """dy -> da = dy, db = dy."""
    dy, *dxs_ = aligned(dy, *dxs, axes=axes, layout=layout)
    for dx in dxs_:
        gather(dy, dx)


def sub_forward(
    *arrays: Array,
    scalar: float | None = None,
    scalar_first: bool = False,
    axes: Axes = None,
    layout: str = "NCHW",
    **_: object,
) -> None:
    """a, b, y: y = a - b."""
    a, b, y = _operands(arrays, scalar, scalar_first, axes, layout)
    np.subtract(a, b, out=y)


def sub_dx(
    dy: Array, *dxs: Array, scalar_first: bool = False, axes: Axes = None, layout: str = "NCHW", **_: object
) -> None:
    """dy -> da = dy, db = -dy; the one operand after a number is b."""
    dy, *dxs_ = aligned(dy, *dxs, axes=axes, layout=layout)
    for place, dx in enumerate(dxs_):
        gather(dy, dx)
        if place or scalar_first:
            np.negative(dx, out=dx)


def mul_forward(
    *arrays: Array, scalar: float | None = None, axes: Axes = None, layout: str = "NCHW", **_: object
) -> None:
    """a, b, y: y = a·b."""
    a, b, y = _operands(arrays, scalar, False, axes, layout)
    np.multiply(a, b, out=y)


def mul_dx(
    dy: Array, *arrays: Array, scalar: float | None = None, axes: Axes = None, layout: str = "NCHW", **_: object
) -> None:
    """dy, a, b -> da = dy·b, db = dy·a; allocates a product where an operand is repeated."""
    if scalar is not None:
        np.multiply(dy, scalar, out=arrays[-1])
        return
    dy, a, b, da, db = aligned(dy, *arrays, axes=axes, layout=layout)
    _product(dy, b, da)
    _product(dy, a, db)


def div_forward(
    *arrays: Array,
    scalar: float | None = None,
    scalar_first: bool = False,
    axes: Axes = None,
    layout: str = "NCHW",
    **_: object,
) -> None:
    """a, b, y: y = a/b."""
    a, b, y = _operands(arrays, scalar, scalar_first, axes, layout)
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
    dy, a, b, da, db = aligned(dy, *arrays, axes=axes, layout=layout)
    _product(dy, 1 / b, da)
    _product(dy, -a / (b * b), db)


def aligned(*arrays: Array, axes: Axes = None, layout: str = "NCHW") -> list[Array]:
    """Views in logical order and of one rank: with an axis of extent 1 where an operand has none."""
    if block_of(layout):  # operands of one shape, element by element
        return list(arrays)
    views = [logical(array, layout) for array in arrays]
    rank = max(view.ndim for view in views)
    return [_spread(view, rank, axes) for view in views]


def gather(dy: Array, dx: Array) -> None:
    """dy summed over the axes along which dx, of the same rank, was repeated."""
    summed = (*[axis for axis in range(dy.ndim) if dx.shape[axis] != dy.shape[axis]],)
    if summed:
        np.add.reduce(dy, axis=summed, keepdims=True, out=dx)
    else:
        np.copyto(dx, dy)


def _operands(
    arrays: tuple[Array, ...], scalar: float | None, scalar_first: bool, axes: Axes, layout: str
) -> tuple[Array | float, Array | float, Array]:
    """a, b and the result as they are computed with."""
    if scalar is None:
        a, b, y = aligned(*arrays, axes=axes, layout=layout)
        return a, b, y
    x, y = arrays
    return (scalar, x, y) if scalar_first else (x, scalar, y)


def _spread(x: Array, rank: int, axes: Axes) -> Array:
    kept = tuple(range(rank - x.ndim, rank)) if axes is None or x.ndim == rank else axes
    return np.expand_dims(x, (*[axis for axis in range(rank) if axis not in kept],))


def _product(dy: Array, factor: Array, dx: Array) -> None:
    """dy times a factor, gathered into dx."""
    if dx.shape == dy.shape:
        np.multiply(dy, factor, out=dx)
    else:
        gather(dy * factor, dx)
