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
from .sliding import Extents, Pads, pad_into, padded_extents, windows


class Conv(NamedTuple):
    """The attributes of a convolution, an entry for each axis that its windows slide over; `pad` is (before, after).

    Sequences and volumes lie in logical order, which is called NCHW here.
    """

    window: Extents
    stride: Extents
    pad: Pads
    dilation: Extents
    groups: int
    bias: bool
    layout: str = "NCHW"

    @classmethod
    def told(
        cls,
        window: Extents,
        stride: Extents = (),
        pad: Pads = (),
        dilation: Extents = (),
        groups: int = 1,
        bias: bool = False,
        layout: str = "NCHW",
        filters: int = 0,
    ) -> Conv:
        """As kernels are told: strides and dilations are 1, pads 0 unless given; how many `filters`, arrays tell."""
        ones = (1,) * len(window)
        return cls(window, stride or ones, pad or ((0, 0),) * len(window), dilation or ones, groups, bias, layout)

    @property
    def reach(self) -> Extents:
        """How many positions a window covers, dilation included."""
        return (*[(extent - 1) * step + 1 for extent, step in zip(self.window, self.dilation, strict=True)],)

    @property
    def padded(self) -> bool:
        """Whether there are pads."""
        return any(map(any, self.pad))

    @property
    def plain(self) -> bool:
        """Whether the column matrix is the input itself: a window of 1, stride 1, no pad."""
        return prod(self.window) == prod(self.stride) == 1 and not self.padded

    def shape(self, n: int, c: int, *extents: int) -> tuple[int, ...]:
        """The shape in memory of an image."""
        return {"NCHW": (n, c, *extents), "NHWC": (n, *extents, c), "CHWN": (c, *extents, n)}[self.layout]

    def turned(self) -> Conv:
        """The convolution of dy with turned filters that gives dx: its pads are the reach - 1 less these."""
        along = zip(self.reach, self.pad, strict=True)
        return self._replace(pad=(*[(reach - 1 - before, reach - 1 - after) for reach, (before, after) in along],))

    def pad_at(self, row: int) -> Pads:
        """The pads as the output rows from `row` on see them: the window then starts further down."""
        (top, bottom), *others = self.pad
        return ((top - row * self.stride[0], bottom), *others)

    def image(self, x: Array) -> Array:
        """A view [n, g, channels of a group, …] of an image in the layout."""
        x = logical(x, self.layout)
        n, c, *extents = x.shape
        return x.reshape(n, self.groups, c // self.groups, *extents)

    def matrix(self, x: Array) -> Array:
        """An image, or some samples of one (in CHWN some rows), as a matrix view of its channels by pixels."""
        if self.layout == "CHWN":
            return x.reshape(self.groups, x.shape[0] // self.groups, -1)
        if self.layout == "NHWC":
            return x.reshape(-1, self.groups, x.shape[3] // self.groups).transpose(1, 2, 0)
        n, c, *extents = x.shape
        if prod(extents) == 1:  # one product over all samples instead of a matrix by a vector for each
            return x.reshape(n, self.groups, c // self.groups).transpose(1, 2, 0)
        return x.reshape(n, self.groups, c // self.groups, prod(extents))

    def part(self, y: Array, block: slice) -> Array:
        """A block of an image: samples, in CHWN rows."""
        return y[:, block] if self.layout == "CHWN" else y[block]

    def blocks(self, workspace: Array, y: Array, values: int) -> Iterator[slice]:
        """Blocks of y that a workspace has room for, with `values` for each pixel of the output."""
        n, _, *extents = logical(y, self.layout).shape
        total, size = (extents[0], prod(extents[1:]) * n) if self.layout == "CHWN" else (n, prod(extents))
        return blocks(total if n else 0, workspace.size // max(1, values * size))


def shaped(workspace: Array, *shape: int) -> Array:
    """The first elements of a workspace as an array of that shape."""
    return workspace.reshape(-1)[: prod(shape)].reshape(shape)


def blocks(total: int, size: int) -> Iterator[slice]:
    """Slices that cover 0..total in order, `size` long but for the last."""
    size = max(1, size)
    return (slice(start, min(start + size, total)) for start in range(0, total, size))


def window_view(x: Array, y: Array, conv: Conv, workspaces: list[Array]) -> Array:
    """A view [n, g, c, *tap, *pixel] of what the windows over x read; takes a workspace where there are pads."""
    image = logical(x, conv.layout)
    if conv.padded:
        x = shaped(workspaces.pop(0), *conv.shape(*image.shape[:2], *padded_extents(image, conv.pad)))
        pad_into(logical(x, conv.layout), image, conv.pad)
    return windows(conv.image(x), conv.window, conv.stride, conv.dilation, logical(y, conv.layout).shape[2:])


def window_block(view: Array, block: slice, conv: Conv) -> Array:
    """The part of a `window_view` that belongs to a block of the output."""
    return view[..., block, :] if conv.layout == "CHWN" else view[block]


def columns(workspace: Array, shape: tuple[int, ...], order: str) -> tuple[Array, Array]:
    """Views of a workspace as columns [n, g, c, *tap, *pixel], of that shape, and as a matrix of them."""
    rank = (len(shape) - 3) // 2
    axes = _column_order(order, rank)
    memory = shaped(workspace, *(shape[axis] for axis in axes))
    view = memory.transpose([axes.index(axis) for axis in range(len(shape))])
    n, g, q, p = shape[0], shape[1], prod(shape[2 : 3 + rank]), prod(shape[3 + rank :])
    if order == "NHWC":
        return view, memory.reshape(n * p, g, q).transpose(1, 2, 0)
    if order == "NCHW":
        return view, memory.reshape(n, g, q).transpose(1, 2, 0) if p == 1 else memory.reshape(n, g, q, p)
    return view, memory.reshape(g, q, -1)


def _column_order(order: str, rank: int) -> tuple[int, ...]:
    """Order in memory of columns whose logical axes are n, g, c, the taps' and the pixels'.

    dW sums over samples: for it ("NCHW dw") pixels of all samples are innermost in NCHW too.
    """
    taps, pixels = tuple(range(3, 3 + rank)), tuple(range(3 + rank, 3 + 2 * rank))
    return {
        "NCHW": (0, 1, 2, *taps, *pixels),
        "NHWC": (0, *pixels, 1, *taps, 2),
        "CHWN": (1, 2, *taps, *pixels, 0),
        "NCHW dw": (1, 2, *taps, 0, *pixels),
    }[order]


def dy_matrix(dy: Array, conv: Conv, workspaces: list[Array]) -> Array:
    """dy as [g, k, p] with the pixels of all samples in p: in NCHW a copy in a workspace."""
    if conv.layout != "NCHW":
        return conv.matrix(dy)
    image = np.moveaxis(conv.image(dy), 0, 2)
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
        np.add(y, bias.reshape(-1, *(1,) * (y.ndim - 2)), out=y)


def bias_gradient(dy: Array, dbias: Array | None, layout: str) -> None:
    """The sum of dy over all but the channels."""
    if dbias is None:
        return
    if layout == "NHWC":  # a product with ones: NumPy's sum of short rows is several times slower
        rows = dy.reshape(-1, dy.shape[3])
        np.matmul(np.ones(len(rows), dy.dtype), rows, out=dbias)
    else:
        np.add.reduce(logical(dy, layout), axis=(0, *range(2, dy.ndim)), out=dbias)
