"""What the convolution kernels share: attributes, scratch arrays, images and weights as matrices, blocks of work.

A matrix is a view [g, rows, p], in NCHW [n, g, rows, p], of memory in a layout: g counts groups, rows the channels of
a group (or its channels and taps), p pixels. NumPy hands such views to BLAS without a copy, whichever way they lie.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import NamedTuple

import numpy as np

from .layout import Array, logical
from .sliding import Pads, Pair, pad_into, padded_extents, windows

UNPADDED: Pads = ((0, 0), (0, 0))

COLUMN_ORDER = {
    "NCHW": (0, 1, 2, 3, 4, 5, 6),
    "NHWC": (0, 5, 6, 1, 3, 4, 2),
    "CHWN": (1, 2, 3, 4, 5, 6, 0),
    "NCHW dw": (1, 2, 3, 4, 0, 5, 6),
}
"""Order in memory of columns whose logical axes are n, g, c, ky, kx, i, j. dW sums over samples: there pixels of all
samples are innermost in NCHW too."""


class Conv(NamedTuple):
    """The attributes of a convolution; `pad` is (before, after) for height and for width."""

    filters: int
    window: Pair
    stride: Pair
    pad: Pads
    dilation: Pair
    groups: int
    bias: bool
    layout: str

    @property
    def reach(self) -> Pair:
        """How many positions a window covers, dilation included."""
        return (self.dilation[0] * (self.window[0] - 1) + 1, self.dilation[1] * (self.window[1] - 1) + 1)

    @property
    def plain(self) -> bool:
        """Whether the column matrix is the input itself: a 1x1 window, stride 1, no pad."""
        return self.window == self.stride == (1, 1) and self.pad == UNPADDED

    def shape(self, n: int, c: int, h: int, w: int) -> tuple[int, ...]:
        """The shape in memory of an image."""
        return {"NCHW": (n, c, h, w), "NHWC": (n, h, w, c), "CHWN": (c, h, w, n)}[self.layout]

    def turned(self) -> Conv:
        """The convolution of dy with turned filters that gives dx: its pads are the reach - 1 less these."""
        (top, bottom), (left, right) = self.pad
        height, width = self.reach
        return self._replace(pad=((height - 1 - top, height - 1 - bottom), (width - 1 - left, width - 1 - right)))

    def pad_at(self, row: int) -> Pads:
        """The pads as the output rows from `row` on see them: the window then starts further down."""
        (top, bottom), sides = self.pad
        return ((top - row * self.stride[0], bottom), sides)

    def image(self, x: Array) -> Array:
        """A view [n, g, channels of a group, h, w] of an image in the layout."""
        x = logical(x, self.layout)
        n, c, h, w = x.shape
        return x.reshape(n, self.groups, c // self.groups, h, w)

    def matrix(self, x: Array) -> Array:
        """An image, or some samples of one (in CHWN some rows), as a matrix view of its channels by pixels."""
        if self.layout == "CHWN":
            return x.reshape(self.groups, x.shape[0] // self.groups, -1)
        if self.layout == "NHWC":
            return x.reshape(-1, self.groups, x.shape[3] // self.groups).transpose(1, 2, 0)
        n, c, h, w = x.shape
        if h * w == 1:  # one product over all samples instead of a matrix by a vector for each
            return x.reshape(n, self.groups, c // self.groups).transpose(1, 2, 0)
        return x.reshape(n, self.groups, c // self.groups, h * w)

    def part(self, y: Array, block: slice) -> Array:
        """A block of an image: samples, in CHWN rows."""
        return y[:, block] if self.layout == "CHWN" else y[block]

    def blocks(self, workspace: Array, y: Array, values: int) -> Iterator[slice]:
        """Blocks of y that a workspace has room for, with `values` for each pixel of the output."""
        n, _, h, w = logical(y, self.layout).shape
        total, size = (h, w * n) if self.layout == "CHWN" else (n, h * w)
        return blocks(total if n else 0, workspace.size // max(1, values * size))


def shaped(workspace: Array, *shape: int) -> Array:
    """The first elements of a workspace as an array of that shape."""
    return workspace.reshape(-1)[: prod(shape)].reshape(shape)


def blocks(total: int, size: int) -> Iterator[slice]:
    """Slices that cover 0..total in order, `size` long but for the last."""
    size = max(1, size)
    return (slice(start, min(start + size, total)) for start in range(0, total, size))


def window_view(x: Array, y: Array, conv: Conv, workspaces: list[Array]) -> Array:
    """A view [n, g, c, ky, kx, i, j] of what the windows over x read; takes a workspace where there are pads."""
    image = logical(x, conv.layout)
    if conv.pad != UNPADDED:
        n, c = image.shape[:2]
        h, w = padded_extents(image, conv.pad)
        x = shaped(workspaces.pop(0), *conv.shape(n, c, h, w))
        pad_into(logical(x, conv.layout), image, conv.pad)
    height, width = logical(y, conv.layout).shape[2:]
    return windows(conv.image(x), conv.window, conv.stride, conv.dilation, (height, width))


def window_block(view: Array, block: slice, conv: Conv) -> Array:
    """The part of a `window_view` that belongs to a block of the output."""
    return view[..., block, :] if conv.layout == "CHWN" else view[block]


def columns(workspace: Array, shape: tuple[int, ...], order: str) -> tuple[Array, Array]:
    """Views of a workspace as columns [n, g, c, ky, kx, i, j], of that shape, and as a matrix of them."""
    axes = COLUMN_ORDER[order]
    memory = shaped(workspace, *(shape[axis] for axis in axes))
    view = memory.transpose([axes.index(axis) for axis in range(7)])
    n, g, c, ky, kx, i, j = shape
    q = c * ky * kx
    if order == "NHWC":
        return view, memory.reshape(n * i * j, g, q).transpose(1, 2, 0)
    if order == "NCHW":
        return view, memory.reshape(n, g, q).transpose(1, 2, 0) if i * j == 1 else memory.reshape(n, g, q, i * j)
    return view, memory.reshape(g, q, -1)


def dy_matrix(dy: Array, conv: Conv, workspaces: list[Array]) -> Array:
    """dy as [g, k, p] with the pixels of all samples in p: in NCHW a copy in a workspace."""
    if conv.layout != "NCHW":
        return conv.matrix(dy)
    image = conv.image(dy).transpose(1, 2, 0, 3, 4)
    copy = shaped(workspaces[0], *image.shape)
    np.copyto(copy, image)
    return copy.reshape(*image.shape[:2], -1)


def optional_bias(rest: list[Array], conv: Conv) -> Array | None:
    """Takes the bias, or its gradient, off the arguments where the convolution has one."""
    return rest.pop(0) if conv.bias else None


def add_bias(y: Array, bias: Array | None, layout: str) -> None:
    """y += bias, channel by channel."""
    if bias is not None:
        y = logical(y, layout)
        np.add(y, bias[:, None, None], out=y)


def bias_gradient(dy: Array, dbias: Array | None, layout: str) -> None:
    """The sum of dy over all but the channels."""
    if dbias is None:
        return
    if layout == "NHWC":  # a product with ones: NumPy's sum of short rows is several times slower
        rows = dy.reshape(-1, dy.shape[3])
        np.matmul(np.ones(len(rows), dy.dtype), rows, out=dbias)
    else:
        np.add.reduce(logical(dy, layout), axis=(0, 2, 3), out=dbias)
