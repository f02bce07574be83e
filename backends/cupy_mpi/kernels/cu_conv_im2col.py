"""Convolution as a product with a column matrix, which is stored for as many samples at a time as a limit allows.

Columns lie as the product of matrices wants them: with position innermost where y has it so (NCHW), as rows of channels
and taps for NHWC, with samples innermost for CHWN. Weights stay as they are. A window of 1 reads the image itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

from .cu_conv_parts import MOST, Conv, conv_bias_gradient, conv_sum, conv_told, forward_axes, optional_bias, walk
from .launch import Array, Matrices, Product, Room, Step, Steps, each

MOST_COLUMNS = 2**27
"""Elements of the column matrix that is stored, unless a single sample has more."""

OF_LAYOUT = {"NCHW": 0, "NHWC": 1, "CHWN": 2}
"""The order of columns; 3 is that for dw in NCHW (conv_im2col.cu)."""


def conv_im2col_forward(*arrays: Array, bias: bool = False, **attrs: Any) -> Steps | None:
    """x, weight, [bias] -> y."""
    x, weight, *rest = arrays
    added, y = optional_bias(rest, bias), rest[0]
    conv = _told(x, weight, y, **attrs)
    return None if conv is None else (*_forward(x, weight, y, conv), *add_bias(y, added, conv.layout))


def conv_im2col_dx(*arrays: Array, bias: bool = False, **attrs: Any) -> Steps | None:
    """dy, weight -> dx."""
    dy, weight, dx, *_ = arrays
    return backward(dy, weight, dx, **attrs)


def conv_im2col_dw(*arrays: Array, bias: bool = False, **attrs: Any) -> Steps | None:
    """dy, x -> dweight, [dbias]."""
    dy, x, dweight, *rest = arrays
    steps = weights(dy, x, dweight, **attrs)
    if steps is None:
        return None
    return (*steps, *conv_bias_gradient(dy, optional_bias(rest, bias), attrs.get("layout", "NCHW")))


def forward(x: Array, weight: Array, y: Array, **attrs: Any) -> Steps | None:
    """The convolution without a bias."""
    conv = _told(x, weight, y, **attrs)
    return None if conv is None else tuple(_forward(x, weight, y, conv))


def _told(x: Array, weight: Array, y: Array, **attrs: Any) -> Conv | None:
    """A convolution of which kernels can count the columns of a block."""
    conv = conv_told(x, weight, y, **attrs)
    return None if conv is None or _room(conv).elements > MOST else conv


def _forward(x: Array, weight: Array, y: Array, conv: Conv) -> Iterator[Step]:
    room = _room(conv)
    for some in _blocks(conv):
        if not conv.plain:
            yield from _filled(x, room, conv, some, "conv_im2col_forward_columns")
        for group in _stacks(conv):
            columns, filters = _columns(x, room, conv, some, group), _weights(weight, conv, group)
            result = _image(_part(y, some, conv), conv, group)
            if conv.inner == 1:
                yield Product(columns, _turned(filters), result)
            else:
                yield Product(filters, columns, result)


def backward(dy: Array, weight: Array, dx: Array, **attrs: Any) -> Steps | None:
    """The columns' gradients, and of each element of x the sum of those that have read it."""
    conv = _told(dx, weight, dy, **attrs)
    return None if conv is None else tuple(_backward(dy, weight, dx, conv))


def _backward(dy: Array, weight: Array, dx: Array, conv: Conv) -> Iterator[Step]:
    room = _room(conv)
    for some in _blocks(conv):
        for group in _stacks(conv):
            columns, filters = _columns(dx, room, conv, some, group), _weights(weight, conv, group)
            gradient = _image(_part(dy, some, conv), conv, group)
            if conv.inner == 1:
                yield Product(gradient, filters, columns)
            else:
                yield Product(_turned(filters), gradient, columns)
        if not conv.plain:
            size = len(some) * conv.x.channels * prod(conv.x.extents)
            numbers = (OF_LAYOUT[conv.layout], walk(conv, forward_axes(conv), some=some))
            yield from each(size, room, dx, numbers=numbers, kernel="conv_im2col_dx_image")


def weights(dy: Array, x: Array, dweight: Array, **attrs: Any) -> Steps | None:
    """The gradient of the weights: of each block of samples one product, which are added up."""
    conv = _told(x, dweight, dy, **attrs)
    return None if conv is None else tuple(_dw(dy, x, dweight, conv))


def _dw(dy: Array, x: Array, dweight: Array, conv: Conv) -> Iterator[Step]:
    room, turned, blocks = _room(conv), Room(dy.size), _blocks(conv)
    parts, shape = Room(len(blocks) * conv.weights), (conv.filters, conv.channels * conv.taps)
    order = 3 if conv.inner == 0 else OF_LAYOUT[conv.layout]
    for number, some in enumerate(blocks):
        product = Matrices(parts, (conv.groups, *shape), number * conv.weights)
        out = dweight.reshape(conv.groups, *shape) if len(blocks) == 1 else product
        gradient, places = _part(dy, some, conv), len(some) * prod(conv.y.extents)
        if conv.plain and conv.inner:
            columns = _image(_part(x, some, conv), conv)
        else:
            yield from _filled(x, room, conv, some, "conv_im2col_dw_columns", order)
            extents = (places, shape[1]) if conv.inner == 1 else (shape[1], places)
            columns = Matrices(room, (conv.groups, *extents), copied=True)
        if conv.inner == 0:
            numbers = (len(some), conv.y.channels, prod(conv.y.extents))
            yield from each(gradient.size, gradient, turned, numbers=numbers, kernel="conv_im2col_dw_gradient")
            image: Any = Matrices(turned, (conv.groups, shape[0], places), copied=True)
        else:
            image = _image(gradient, conv)
        if conv.inner == 1:
            yield Product(_turned(image), columns, out)
        else:
            yield Product(image, _turned(columns), out)
    if len(blocks) != 1:
        yield from conv_sum(parts, dweight, len(blocks))


def add_bias(y: Array, bias: Array | None, layout: str = "NCHW") -> Steps:
    """y += bias, channel by channel."""
    if bias is None:
        return ()
    inner = {"NCHW": prod(y.shape[2:]), "NHWC": 1, "CHWN": prod(y.shape[1:])}[layout if y.ndim == 4 else "NCHW"]
    return each(y.size, bias, y, numbers=(bias.size, inner), kernel="conv_im2col_forward_bias")


def _filled(x: Array, room: Room, conv: Conv, some: range, kernel: str, order: int | None = None) -> Steps:
    """Columns of some samples."""
    size = len(some) * prod(conv.y.extents) * conv.x.channels * conv.taps
    numbers = (OF_LAYOUT[conv.layout] if order is None else order, walk(conv, forward_axes(conv), some=some))
    return each(size, x, room, numbers=numbers, kernel=kernel)


def _blocks(conv: Conv) -> list[range]:
    """Samples whose columns are stored at a time."""
    n, each_one = conv.x.n, prod(conv.y.extents) * conv.x.channels * conv.taps
    size = n if conv.inner == 2 or (conv.plain and conv.inner) else max(1, MOST_COLUMNS // max(1, each_one))
    return [range(first, min(first + size, n)) for first in range(0, n, size)] if n else []


def _room(conv: Conv) -> Room:
    """For the columns of a block."""
    return Room(max(map(len, _blocks(conv)), default=0) * prod(conv.y.extents) * conv.x.channels * conv.taps)


def _part(x: Array, some: range, conv: Conv) -> Array:
    """Samples of an image; where they are innermost in memory all of them."""
    return x if conv.inner == 2 else x[some.start : some.stop]


def _stacks(conv: Conv) -> range:
    """Groups, of each of which there is a stack of matrices; where a group has one matrix they are one stack."""
    return range(1 if conv.inner else conv.groups)


def _columns(x: Array, room: Room, conv: Conv, some: range, group: int) -> Any:
    """The columns of some samples as matrices, stacked by sample in NCHW, else by group."""
    if conv.plain:
        return _image(_part(x, some, conv), conv, group)
    depth, places = conv.channels * conv.taps, prod(conv.y.extents)
    if conv.inner == 0:
        return Matrices(room, (len(some), depth, places), group * len(some) * depth * places, copied=True)
    extents = (len(some) * places, depth) if conv.inner == 1 else (depth, places * len(some))
    return Matrices(room, (conv.groups, *extents), copied=True)


def _image(x: Array, conv: Conv, group: int = 0) -> Array:
    """A view of an image as matrices, stacked like columns."""
    if conv.inner == 1:
        return x.reshape(-1, conv.groups, x.shape[-1] // conv.groups).transpose(1, 0, 2)
    if conv.inner == 2:
        return x.reshape(conv.groups, x.shape[0] // conv.groups, -1)
    return x.reshape(x.shape[0], conv.groups, x.shape[1] // conv.groups, -1)[:, group]


def _weights(weight: Array, conv: Conv, group: int) -> Array:
    """A view of the weights as matrices: in NCHW one for all samples."""
    matrices = weight.reshape(conv.groups, conv.filters, -1)
    return matrices if conv.inner else matrices[group]


def _turned(matrices: Any) -> Any:
    """With rows and columns swapped."""
    if isinstance(matrices, Matrices):
        return matrices._replace(turned=not matrices.turned)
    return matrices.transpose(*range(matrices.ndim - 2), matrices.ndim - 1, matrices.ndim - 2)
