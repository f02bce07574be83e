"""Winograd's convolution: tiles of the image and the filters are transformed, multiplied as matrices, transformed back.

In the transformed domain there is a product of matrices for each of (m + 2)² positions and each group, one stack. As
many samples are handled at a time as a limit of scratch memory allows.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from math import prod
from typing import Any

from .cu_conv_parts import Axis, Conv, Image, conv_bias_gradient, conv_told, optional_bias, walk
from .launch import Array, Matrices, Product, Room, Step, Steps, each

MOST_VALUES = 2**27
"""Transformed values of an image that are stored, unless those of a single sample are more."""


def forward(m: int, *arrays: Array, bias: bool = False, relu: bool = False, **attrs: Any) -> Steps | None:
    """x, weight, [bias] -> y by F(m×m, 3×3)."""
    x, weight, *rest = arrays
    added, y = optional_bias(rest, bias), rest[0]
    conv = _told(x, weight, y, **attrs)
    return None if conv is None else tuple(_correlation(m, (x, weight, added, None, y), conv, False, relu))


def dx(m: int, dy: Array, weight: Array, dx: Array, *_: Array, mask: Array | None = None, **attrs: Any) -> Steps | None:
    """dy, weight -> dx by F(m×m, 3×3)."""
    conv = _told(dx, weight, dy, **attrs)
    return None if conv is None else tuple(_correlation(m, (dy, weight, None, mask, dx), conv, True, False))


def dw(m: int, *arrays: Array, bias: bool = False, **attrs: Any) -> Steps | None:
    """dy, x -> dweight, [dbias] by F(m×m, 3×3)."""
    dy, x, dweight, *rest = arrays
    conv = _told(x, dweight, dy, **attrs)
    if conv is None:
        return None
    added = optional_bias(rest, bias)
    return (*_weights(m, dy, x, dweight, conv), *conv_bias_gradient(dy, added, conv.layout))


conv_winograd2_forward, conv_winograd2_dx, conv_winograd2_dw = partial(forward, 2), partial(dx, 2), partial(dw, 2)
conv_winograd4_forward, conv_winograd4_dx, conv_winograd4_dw = partial(forward, 4), partial(dx, 4), partial(dw, 4)


def _told(x: Array, weight: Array, y: Array, **attrs: Any) -> Conv | None:
    """A convolution of images by windows of 3x3, neither strided nor dilated."""
    conv = conv_told(x, weight, y, **attrs)
    if conv is None or conv.window != (1, 3, 3) or conv.stride != (1, 1, 1) or conv.dilation != (1, 1, 1):
        return None
    return conv


def _correlation(m: int, operands: tuple[Any, ...], conv: Conv, backward: bool, relu: bool) -> Iterator[Step]:
    """source, weight, bias, mask -> result."""
    source, weight, bias, mask, result = operands
    of_source, of_result = (conv.y, conv.x) if backward else (conv.x, conv.y)
    before = (0, *(2 - pad for pad in conv.before[1:])) if backward else conv.before
    counts = tuple(-(-extent // m) for extent in of_result.extents[1:])
    blocks = _blocks(m, conv, counts)
    most = (m + 2) ** 2 * max(map(len, blocks), default=0) * prod(counts)
    u, v, products = (
        Room((m + 2) ** 2 * conv.weights // 9),
        Room(most * of_source.channels),
        Room(most * of_result.channels),
    )
    turned = "true" if backward else "false"
    if blocks:
        yield from each(conv.weights // 9, weight, u, kernel=f"conv_winograd_filters<{m}, {turned}>")
    for some in blocks:
        tiles = len(some) * prod(counts)
        size = tiles * of_source.channels
        told = _tiles(of_source, conv, counts, before, m, m + 2, some)
        yield from each(size, source, v, numbers=(told,), kernel=f"conv_winograd_data<{m}, false>")
        filters = Matrices(u, ((m + 2) ** 2 * conv.groups, conv.filters, conv.channels), 0, backward)
        data = _stack(v, m, conv, tiles, of_source.channels)
        out = _stack(products, m, conv, tiles, of_result.channels)
        if conv.inner == 1:
            yield Product(data, filters._replace(turned=not backward), out)
        else:
            yield Product(filters, data, out)
        told = _tiles(of_result, conv, counts, (0, 0, 0), m, m, some, relu)
        operands = (products, bias, mask, result)
        yield from each(tiles * of_result.channels, *operands, numbers=(told,), kernel=f"conv_winograd_output<{m}>")


def _weights(m: int, dy: Array, x: Array, dweight: Array, conv: Conv) -> Iterator[Step]:
    """Of each block of samples the products, which are added up before they are transformed back."""
    counts = tuple(-(-extent // m) for extent in conv.y.extents[1:])
    blocks, positions = _blocks(m, conv, counts), (m + 2) ** 2
    most, pairs = positions * max(map(len, blocks), default=0) * prod(counts), conv.weights // 9
    v, gradient, parts = (
        Room(most * conv.x.channels),
        Room(most * conv.y.channels),
        Room(len(blocks) * positions * pairs),
    )
    for number, some in enumerate(blocks):
        tiles = len(some) * prod(counts)
        told = _tiles(conv.x, conv, counts, conv.before, m, m + 2, some)
        yield from each(tiles * conv.x.channels, x, v, numbers=(told,), kernel=f"conv_winograd_data<{m}, false>")
        told = _tiles(conv.y, conv, counts, (0, 0, 0), m, m, some)
        yield from each(tiles * conv.y.channels, dy, gradient, numbers=(told,), kernel=f"conv_winograd_data<{m}, true>")
        left = _stack(gradient, m, conv, tiles, conv.y.channels)
        right = _stack(v, m, conv, tiles, conv.x.channels)
        shape = (positions * conv.groups, conv.filters, conv.channels)
        out = Matrices(parts, shape, number * positions * pairs)
        yield Product(left._replace(turned=conv.inner == 1), right._replace(turned=conv.inner != 1), out)
    yield from each(pairs, parts, dweight, numbers=(len(blocks),), kernel=f"conv_winograd_weights<{m}>")


def _blocks(m: int, conv: Conv, counts: tuple[int, ...]) -> list[range]:
    """Samples that are handled at a time."""
    a_sample = (m + 2) ** 2 * prod(counts) * max(conv.x.channels, conv.y.channels)
    size, n = max(1, MOST_VALUES // max(1, a_sample)), conv.x.n
    return [range(first, min(first + size, n)) for first in range(0, n, size)]


def _tiles(
    image: Image, conv: Conv, counts: tuple[int, ...], before: tuple[int, ...], m: int, side: int, some: range,
    relu: bool = False,
) -> Any:  # fmt: skip
    """The walk through the tiles of an image, `side` elements along each axis, m apart."""
    along = zip(image.extents[1:], counts, before[1:], strict=True)
    axes = [Axis(1, 1, 1, 0, 1, 1), *(Axis(extent, count, side, -pad, m, 1) for extent, count, pad in along)]
    return walk(conv._replace(x=image, y=image), axes, relu=relu, some=some)


def _stack(room: Room, m: int, conv: Conv, tiles: int, channels: int) -> Matrices:
    """Transformed tiles as matrices, for each position and group one."""
    extents = (tiles, channels // conv.groups)
    return Matrices(room, ((m + 2) ** 2 * conv.groups, *(extents if conv.inner == 1 else extents[::-1])))
