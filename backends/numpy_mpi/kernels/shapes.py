"""Kernels that join, cut, pad and transpose values: every element of a result is one of an operand, or a constant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from .layout import Array, logical, physical_axis

Pairs = tuple[tuple[int, int], ...]
Mode = Literal["constant", "reflect", "edge"]


def concat_forward(*arrays: Array, axis: int, layout: str = "NCHW", **_: object) -> None:
    """Operands, and last the result: one after the other along a logical axis."""
    *xs, y = arrays
    at = physical_axis(axis, layout, y.ndim)
    for x, part in zip(xs, _parts(y, [x.shape[at] for x in xs], at), strict=True):
        np.copyto(part, x)


def concat_dx(dy: Array, *dxs: Array, axis: int, layout: str = "NCHW", **_: object) -> None:
    """dy -> the gradient of each operand, a stretch of dy."""
    at = physical_axis(axis, layout, dy.ndim)
    for dx, part in zip(dxs, _parts(dy, [dx.shape[at] for dx in dxs], at), strict=True):
        np.copyto(dx, part)


def split_forward(x: Array, *ys: Array, n: tuple[int, ...], axis: int, layout: str = "NCHW", **_: object) -> None:
    """x -> its stretches of the extents n along a logical axis."""
    for y, part in zip(ys, _parts(x, n, physical_axis(axis, layout, x.ndim)), strict=True):
        np.copyto(y, part)


def split_dx(
    *arrays: Array, n: tuple[int, ...], axis: int, reached: tuple[int, ...], layout: str = "NCHW", **_: object
) -> None:
    """The gradients of the stretches that have one, numbered by `reached`, and last dx, which is 0 elsewhere."""
    *dys, dx = arrays
    parts = _parts(dx, n, physical_axis(axis, layout, dx.ndim))
    for part in parts if len(dys) < len(n) else ():
        part.fill(0)
    for index, dy in zip(reached, dys, strict=True):
        np.copyto(parts[index], dy)


def slice_forward(
    x: Array, y: Array, *, axis: int, start: int, step: int, stop: int | None = None, layout: str = "NCHW", **_: object
) -> None:
    """y = x[start : stop : step] along a logical axis."""
    np.copyto(y, _stretch(x, physical_axis(axis, layout, x.ndim), slice(start, stop, step)))


def slice_dx(
    dy: Array,
    dx: Array,
    *,
    axis: int,
    start: int,
    step: int,
    stop: int | None = None,
    layout: str = "NCHW",
    **_: object,
) -> None:
    """dx = dy where x was taken, else 0."""
    dx.fill(0)
    np.copyto(_stretch(dx, physical_axis(axis, layout, dx.ndim), slice(start, stop, step)), dy)


def transpose_forward(x: Array, y: Array, *, order: tuple[int, ...] | None = None, **_: object) -> None:
    """Axis i of y is axis order[i] of x; the last two are swapped where there is no order."""
    np.copyto(y, _transposed(x, order))


def transpose_dx(dy: Array, dx: Array, *, order: tuple[int, ...] | None = None, **_: object) -> None:
    """Back again."""
    np.copyto(_transposed(dx, order), dy)


def pad_forward(
    x: Array,
    y: Array,
    *,
    amount: Pairs,
    axis: tuple[int, ...],
    value: float = 0.0,
    mode: Mode = "constant",
    layout: str = "NCHW",
    **_: object,
) -> None:
    """x with `amount` more elements before and after it along each of the axes.

    They are `value`, or x mirrored at its first and last element (`reflect`), or these elements repeated (`edge`).
    """
    x, y = logical(x, layout), logical(y, layout)
    if mode == "constant":
        y.fill(value)
    np.copyto(_inside(y, amount, axis), x)
    for at, pair in zip(axis, amount, strict=True) if mode != "constant" else ():
        for margin, source in _margins(y, at, pair, mode):
            np.copyto(margin, source)


def pad_dx(
    dy: Array,
    dx: Array,
    *,
    amount: Pairs,
    axis: tuple[int, ...],
    mode: Mode = "constant",
    layout: str = "NCHW",
    **_: object,
) -> None:
    """dy inside, and what the pads were copies of gets theirs too; allocates a copy of dy for that."""
    dy, dx = logical(dy, layout), logical(dx, layout)
    if mode != "constant":
        dy = dy.copy()
        for at, pair in zip(axis, amount, strict=True):
            for margin, source in _margins(dy, at, pair, mode):
                np.add(source, margin, out=source) if mode == "reflect" else _add_to_edge(source, margin, at)
    np.copyto(dx, _inside(dy, amount, axis))


def _transposed(x: Array, order: tuple[int, ...] | None) -> Array:
    return x.swapaxes(-1, -2) if order is None else x.transpose(order)


def _add_to_edge(source: Array, margin: Array, axis: int) -> None:
    np.add(source, margin.sum(axis=axis, keepdims=True), out=source)


def _stretch(x: Array, axis: int, stretch: slice) -> Array:
    return x[(*(slice(None),) * axis, stretch)]


def _parts(x: Array, extents: Sequence[int], axis: int) -> list[Array]:
    """Views of the stretches of these extents."""
    return np.split(x, np.cumsum(extents)[:-1], axis=axis)


def _inside(y: Array, amount: Pairs, axis: tuple[int, ...]) -> Array:
    """What is no pad."""
    for at, (before, after) in zip(axis, amount, strict=True):
        y = _stretch(y, at, slice(before, y.shape[at] - after))
    return y


def _margins(y: Array, axis: int, pair: tuple[int, int], mode: Mode) -> list[tuple[Array, Array]]:
    """The pads along an axis that exist, each with what it is a copy of: mirrored, or the outermost element."""
    before, after = pair
    end = y.shape[axis] - after
    found = []
    if before:
        source = slice(before + 1, 2 * before + 1) if mode == "reflect" else slice(before, before + 1)
        found.append((slice(before), source))
    if after:
        source = slice(end - 1 - after, end - 1) if mode == "reflect" else slice(end - 1, end)
        found.append((slice(end, None), source))
    return [(_stretch(y, axis, margin), np.flip(_stretch(y, axis, source), axis)) for margin, source in found]
