"""Locally connected layers: at each output position a product of that position's weights with what its window reads.

With columns [position, q, n], q counting channels and taps: Y[position, k, n] = W[position, k, q]·columns, the
columns' gradient is Wᵀ·dY, and dW = dY·columnsᵀ. Some rows of the output are handled at a time, so that their columns
fit the cache. A value whose axes are pixels first and samples last is called by position here.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from .conv_matrices import Conv, blocks, window_view
from .layout import Array, logical
from .sliding import at, padded_extents, taps

BLOCK = 2**18
"""About as many values of the columns are computed at a time."""


def local_conv_forward(*arrays: Array, **attrs: Any) -> None:
    """x, weight, [bias] -> y; allocates the padded input, and columns and results of some rows."""
    conv = Conv.told(**attrs)
    x, weight, *bias, y = arrays
    results = _by_position(logical(y, conv.layout), conv)
    for rows, columns in _columns(x, y, conv):
        target = results[rows]
        np.copyto(target, (_matrices(weight[rows], conv, 1) @ _matrices(columns, conv, -1)).reshape(target.shape))
    if bias:
        np.add(logical(y, conv.layout), bias[0], out=logical(y, conv.layout))


def local_conv_dx(dy: Array, weight: Array, dx: Array, **attrs: Any) -> None:
    """dy, weight -> dx; allocates dy and the columns' gradients of some rows."""
    conv = Conv.told(**attrs)
    dx.fill(0)
    image, results = logical(dx, conv.layout), _by_position(logical(dy, conv.layout), conv)
    for rows in _rows(image, results, conv):
        part = results[rows]
        gradients = _matrices(weight[rows], conv, 1).swapaxes(-1, -2) @ _matrices(part, conv, -1)
        pixels = part.shape[: len(conv.window)]
        columns = gradients.reshape(*pixels, image.shape[1], *conv.window, len(image))
        for tap, outs, ins in taps(
            image.shape[2:], pixels, conv.window, conv.stride, conv.pad_at(rows.start), conv.dilation
        ):
            target = _by_position(at(image, 2, ins), conv)
            np.add(target, at(columns[outs], len(pixels) + 1, tap), out=target)


def local_conv_dw(dy: Array, x: Array, dweight: Array, *dbias: Array, **attrs: Any) -> None:
    """dy, x -> dweight, [dbias]; allocates the padded input, and columns and dy of some rows."""
    conv = Conv.told(**attrs)
    results = _by_position(logical(dy, conv.layout), conv)
    for rows, columns in _columns(x, dy, conv):
        transposed = _matrices(columns, conv, -1).swapaxes(-1, -2)
        np.matmul(_matrices(results[rows], conv, -1), transposed, out=_matrices(dweight[rows], conv, 1))
    if dbias:
        np.add.reduce(logical(dy, conv.layout), axis=0, out=dbias[0])


def _columns(x: Array, y: Array, conv: Conv) -> Iterator[tuple[slice, Array]]:
    """Rows of the output and what their windows read, a view [*pixel, c, *tap, n]."""
    image = logical(x, conv.layout)
    padded = np.empty(prod(image.shape[:2]) * prod(padded_extents(image, conv.pad)) if conv.padded else 0, x.dtype)
    read = _by_position(window_view(x, y, conv, [padded])[:, 0], conv)
    for rows in _rows(image, read, conv):
        yield rows, read[rows]


def _rows(image: Array, by_position: Array, conv: Conv) -> Iterator[slice]:
    """Blocks of rows of the output."""
    rows, *others = by_position.shape[: len(conv.window)]
    return blocks(rows, BLOCK // max(1, prod(others) * prod(image.shape[:2]) * prod(conv.window)))


def _by_position(x: Array, conv: Conv) -> Array:
    """A view of [n, …, *pixel] as [*pixel, …, n]."""
    behind = x.ndim - len(conv.window)
    return x.transpose(*range(behind, x.ndim), *range(1, behind), 0)


def _matrices(x: Array, conv: Conv, split: int) -> Array:
    """A value by position as a matrix for each position; `split` of the axes behind the pixels make the rows."""
    pixels, others = x.shape[: len(conv.window)], x.shape[len(conv.window) :]
    return x.reshape(prod(pixels), prod(others[:split]), prod(others[split:]))
