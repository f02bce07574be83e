"""Launches of pools: in every layout images are [outer, depth, height, width, inner]."""

from __future__ import annotations

from math import prod

from .cu_images import Extents, extents_of, three
from .launch import MOST_COUNTED, THREADS, Array, Launch, Steps, each, reciprocal

Pads = tuple[tuple[int, int], ...]


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
) -> Steps | None:
    """A thread an output."""
    return _windows((x, y, indices), x, y, y, window, stride, pad, layout)


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
) -> Steps | None:
    """A thread an input."""
    return _windows((dy, indices, dx), dx, dy, dx, window, stride, pad, layout)


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
) -> Steps | None:
    """A thread an output."""
    return _windows((x, y), x, y, y, window, stride, pad, layout, (int(count_pad), *_behind(pad)))


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
) -> Steps | None:
    """A thread an input."""
    return _windows((dy, dx), dx, dy, dx, window, stride, pad, layout, (int(count_pad), *_behind(pad)))


def global_avgpool_forward(x: Array, y: Array, *, layout: str = "NCHW", **_: object) -> Steps:
    """A warp a channel's image where its pixels lie together, else a thread."""
    pixels, columns = _global(x, layout)
    if columns == 1:
        return _warps(y.size, x, y, y.size, pixels)
    return each(y.size, x, y, numbers=(pixels, columns), kernel="global_avgpool_forward_columns")


def global_avgpool_dx(dy: Array, dx: Array, *, layout: str = "NCHW", **_: object) -> Steps | None:
    """A thread an input."""
    pixels, columns = _global(dx, layout)
    if dx.size >= MOST_COUNTED:
        return None
    numbers = (pixels, columns, reciprocal(pixels * columns), reciprocal(columns))
    return each(dx.size, dy, dx, numbers=numbers)


def global_maxpool_forward(x: Array, y: Array, indices: Array, *, layout: str = "NCHW", **_: object) -> Steps:
    """A warp a channel's image."""
    pixels, columns = _global(x, layout)
    return _warps(y.size, x, y, indices, y.size, pixels, columns)


def global_maxpool_dx(dy: Array, indices: Array, dx: Array, *, layout: str = "NCHW", **_: object) -> Steps:
    """A thread an input."""
    pixels, columns = _global(dx, layout)
    return each(dx.size, dy, indices, dx, numbers=(pixels, columns))


def _windows(
    arrays: tuple[Array, ...],
    image: Array,
    pooled: Array,
    result: Array,
    window: Extents,
    stride: Extents,
    pad: Pads,
    layout: str,
    more: tuple[int, ...] = (),
) -> Steps | None:
    """A thread an element of the result: how windows lie along each axis, and what places are divided by."""
    if result.size >= MOST_COUNTED:
        return None
    (inputs, _), (outputs, inner) = extents_of(image, layout), extents_of(pooled, layout)
    before = tuple(first for first, _ in pad)
    along = zip(inputs, outputs, three(window), three(stride), (*(0,) * (3 - len(pad)), *before), strict=True)
    extents, _ = extents_of(result, layout)
    numbers = (*(number for axis in along for number in axis), inner, *map(reciprocal, (*extents, inner)), *more)
    return each(result.size, *arrays, numbers=numbers)


def _warps(count: int, *arguments: Array) -> Steps:
    """A warp for each of so many."""
    return (Launch(arguments, (-(-count * 32 // THREADS),)),) if count else ()


def _behind(pad: Pads) -> Extents:
    return (*(0,) * (3 - len(pad)), *(behind for _, behind in pad))


def _global(x: Array, layout: str) -> tuple[int, int]:
    """(pixels, columns) of [outer, …, inner]."""
    extents, inner = extents_of(x, layout)
    return prod(extents), inner
