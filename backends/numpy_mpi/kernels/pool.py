"""Pools over sequences, images in three layouts and volumes, tap by tap over strided views: pads are never stored.

Windows may hang over the end by the `ceil` rule; what lies outside the input is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from math import prod

import numpy as np

from .layout import Array, block_of, images_of_blocks, planes
from .sliding import Extents, Pads, Region, at, taps


def maxpool_forward(
    x: Array,
    y: Array,
    indices: Array,
    *,
    window: Extents,
    stride: Extents,
    pad: Pads,
    layout: str = "NCHW",
    **_: object,
) -> None:
    """x -> the largest element of each window and the number of its tap, in row-major order; the first one wins."""
    x, y, indices = planes(x, layout), planes(y, layout), planes(indices, layout)
    y.fill(-np.inf)
    indices.fill(0)
    for tap, outs, ins in pool_taps(x, y, window, stride, pad):
        candidate, best, numbers = at(x, 2, ins), at(y, 2, outs), at(indices, 2, outs)
        np.maximum(numbers, np.multiply(candidate > best, tap, dtype=numbers.dtype), out=numbers)  # taps ascend
        np.maximum(candidate, best, out=best)


def maxpool_dx(
    dy: Array,
    indices: Array,
    dx: Array,
    *,
    window: Extents,
    stride: Extents,
    pad: Pads,
    layout: str = "NCHW",
    **_: object,
) -> None:
    """dy goes to the element that was the largest."""
    dy, indices, dx = planes(dy, layout), planes(indices, layout), planes(dx, layout)
    dx.fill(0)
    for tap, outs, ins in pool_taps(dx, dy, window, stride, pad):
        target, chosen = at(dx, 2, ins), at(indices, 2, outs) == tap
        np.add(target, at(dy, 2, outs) * chosen, out=target)


def avgpool_forward(
    x: Array,
    y: Array,
    *,
    window: Extents,
    stride: Extents,
    pad: Pads,
    layout: str = "NCHW",
    count_pad: bool = True,
    **_: object,
) -> None:
    """x -> the mean of each window; pads count as zeros with `count_pad`, else not at all."""
    x, y = planes(x, layout), planes(y, layout)
    y.fill(0)
    for _tap, outs, ins in pool_taps(x, y, window, stride, pad):
        target = at(y, 2, outs)
        np.add(target, at(x, 2, ins), out=target)
    np.multiply(y, _shares(x, y, window, stride, pad, count_pad), out=y)


def avgpool_dx(
    dy: Array,
    dx: Array,
    *,
    window: Extents,
    stride: Extents,
    pad: Pads,
    layout: str = "NCHW",
    count_pad: bool = True,
    **_: object,
) -> None:
    """dy is shared out evenly over its window; allocates one array like dy."""
    dy, dx = planes(dy, layout), planes(dx, layout)
    share = dy * _shares(dx, dy, window, stride, pad, count_pad)
    dx.fill(0)
    for _tap, outs, ins in pool_taps(dx, dy, window, stride, pad):
        target = at(dx, 2, ins)
        np.add(target, at(share, 2, outs), out=target)


def global_avgpool_forward(x: Array, y: Array, *, layout: str = "NCHW", **_: object) -> None:
    """x -> the mean of each channel's image, with extents of 1."""
    np.mean(planes(x, layout), axis=tuple(range(2, x.ndim)), keepdims=True, out=planes(y, layout))


def global_avgpool_dx(dy: Array, dx: Array, *, layout: str = "NCHW", **_: object) -> None:
    """dy over the number of pixels, everywhere."""
    dx = planes(dx, layout)
    np.multiply(planes(dy, layout), 1 / prod(dx.shape[2:]), out=dx)


def global_maxpool_forward(x: Array, y: Array, indices: Array, *, layout: str = "NCHW", **_: object) -> None:
    """x -> the largest element of each channel's image and its number in row-major order; the first one wins."""
    pixels, axis = _pixels(x, layout)
    found = np.expand_dims(pixels.argmax(axis=axis), axis)
    np.copyto(indices, found.reshape(indices.shape), casting="unsafe")
    np.copyto(y, np.take_along_axis(pixels, found, axis=axis).reshape(y.shape))


def global_maxpool_dx(dy: Array, indices: Array, dx: Array, *, layout: str = "NCHW", **_: object) -> None:
    """dy goes to the element that was the largest."""
    dx.fill(0)
    pixels, axis = _pixels(dx, layout)
    shape = (*[1 if a == axis else extent for a, extent in enumerate(pixels.shape)],)
    np.put_along_axis(pixels, indices.reshape(shape), dy.reshape(shape), axis=axis)


def pool_taps(x: Array, y: Array, window: Extents, stride: Extents, pad: Pads) -> Iterator[tuple[int, Region, Region]]:
    """(number of the tap, region of y, region of x) for each tap that reads any of x."""
    for tap, outs, ins in taps(x.shape[2:], y.shape[2:], window, stride, pad, (1,) * len(window)):
        number = 0
        for position, extent in zip(tap, window, strict=True):
            number = number * extent + position
        yield number, outs, ins


def _pixels(x: Array, layout: str) -> tuple[Array, int]:
    """A view with all pixels of a channel along one axis, and which axis that is."""
    if block_of(layout):
        x = images_of_blocks(x, layout)
    elif layout == "NCHW" or x.ndim != 4:
        return x.reshape(*x.shape[:2], prod(x.shape[2:])), 2
    return x.reshape(x.shape[0], x.shape[1] * x.shape[2], x.shape[3]), 1


def _shares(x: Array, y: Array, window: Extents, stride: Extents, pad: Pads, count_pad: bool) -> Array | float:
    """1/(number of elements) of each window; what hangs over the pads never counts (PyTorch's rule)."""
    counts = []
    for axis, extent in enumerate(window):
        before, after = pad[axis] if count_pad else (0, 0)
        starts = np.arange(y.shape[2 + axis]) * stride[axis] - pad[axis][0]
        ends = np.minimum(starts + extent, x.shape[2 + axis] + after)
        counts.append(ends - np.maximum(starts, -before))
    shares: Array = 1 / reduce(np.multiply.outer, counts)
    first = shares.flat[0]
    return float(first) if (shares == first).all() else shares.astype(y.dtype)
