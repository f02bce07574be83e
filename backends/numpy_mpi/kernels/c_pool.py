"""What the C functions of pools are told for a call of the NumPy kernel of the same name."""

from __future__ import annotations

from math import prod

from .layout import Array, block_of
from .native import Numbers

Extents = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]


def images(x: Array, layout: str) -> tuple[int, int, int, int]:
    """How many images [row][column][element] x consists of in memory, their rows, columns and elements."""
    if block := block_of(layout):
        return x.shape[0] * x.shape[1] // block, *x.shape[2:], block
    if x.ndim == 4 and layout != "NCHW":
        outer, height, width, inner = x.shape
        return outer, height, width, inner
    height, width = (1, *x.shape[2:])[-2:]
    return x.shape[0] * x.shape[1], height, width, 1


def extents(x: Array, y: Array, window: Extents, stride: Extents, pad: Pads, layout: str) -> Extents | None:
    """The numbers that the windows of C are placed by; None over three axes."""
    if x.ndim > 4:
        return None
    outer, height, width, inner = images(x, layout)
    _, out_height, out_width, _ = images(y, layout)
    rows, columns = ((1, *window)[-2:], (1, *stride)[-2:])
    before = (0, *(first for first, _ in pad))[-2:]
    return (outer, inner, height, width, out_height, out_width, *rows, *columns, *before)


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
) -> Numbers | None:
    """Sequences and images."""
    found = extents(x, y, window, stride, pad, layout)
    return Numbers(found) if found else None


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
) -> Numbers | None:
    """Sequences and images."""
    found = extents(dx, dy, window, stride, pad, layout)
    return Numbers(found) if found else None


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
) -> Numbers | None:
    """Sequences and images."""
    found, after = extents(x, y, window, stride, pad, layout), (0, *(last for _, last in pad))[-2:]
    return Numbers((*found, *after, int(count_pad))) if found else None


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
) -> Numbers | None:
    """Sequences and images."""
    return avgpool_forward(dx, dy, window=window, stride=stride, pad=pad, layout=layout, count_pad=count_pad)


def global_avgpool_forward(x: Array, y: Array, *, layout: str = "NCHW", **_: object) -> Numbers | None:
    """Any call."""
    return _pixels(x, layout)


def global_avgpool_dx(dy: Array, dx: Array, *, layout: str = "NCHW", **_: object) -> Numbers | None:
    """Any call."""
    return _pixels(dx, layout)


def global_maxpool_forward(x: Array, y: Array, indices: Array, *, layout: str = "NCHW", **_: object) -> Numbers | None:
    """Any call."""
    return _pixels(x, layout)


def global_maxpool_dx(dy: Array, indices: Array, dx: Array, *, layout: str = "NCHW", **_: object) -> Numbers | None:
    """Any call."""
    return _pixels(dx, layout)


def _pixels(x: Array, layout: str) -> Numbers:
    """Images, their pixels, elements of a pixel."""
    if x.ndim > 4:
        return Numbers((x.shape[0] * x.shape[1], prod(x.shape[2:]), 1))
    outer, height, width, inner = images(x, layout)
    return Numbers((outer, height * width, inner))
