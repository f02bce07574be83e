"""Convolution by Fourier transforms, for stride 1: y = F⁻¹(Σ_c F(x)·conj F(w)) (cost-models.md §2).

`fft` transforms each image whole, `fft_tiled` overlapping tiles (overlap-save), as the NumPy kernels do. cuFFT writes
spectra with their frequencies outermost, so that for each frequency and group a product of complex matrices follows:

* forward [filter, channel]·[channel, tile], of conjugate filters: those are the turned ones as they lie;
* dx [channel, filter]·[filter, tile]: a convolution and no correlation, whose results begin reach - 1 further on;
* dw [channel, tile]·[tile, filter], of conjugate gradients.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from math import prod
from typing import Any, NamedTuple

from .cu_conv_parts import Axis, Conv, Image, conv_bias_gradient, conv_told, optional_bias, walk
from .launch import Array, Matrices, Product, Room, Step, Steps, Transform, each

TILE = 16
"""Length of the transforms of `fft_tiled`, doubled while less than half of a tile would be output."""

MOST_VALUES = 2**27
"""Values of tiles that are stored, unless those of a single sample are more."""


class Tiling(NamedTuple):
    """Along height and width: lengths of transforms, tiles, outputs of a tile, and what a window reaches over."""

    lengths: tuple[int, int]
    counts: tuple[int, int]
    outputs: tuple[int, int]
    reach: tuple[int, int]

    @property
    def inputs(self) -> tuple[int, int]:
        """Elements of a tile that its outputs are computed from."""
        return self.outputs[0] + self.reach[0] - 1, self.outputs[1] + self.reach[1] - 1

    @property
    def area(self) -> int:
        """Values of a tile."""
        return prod(self.lengths)

    @property
    def frequencies(self) -> int:
        """Complex numbers of its spectrum."""
        return self.lengths[0] * (self.lengths[1] // 2 + 1)

    @property
    def extents(self) -> tuple[int, ...]:
        """Lengths of the transforms without an axis of one element."""
        return self.lengths[1:] if self.lengths[0] == 1 else self.lengths


def forward(tiled: bool, *arrays: Array, bias: bool = False, **attrs: Any) -> Steps | None:
    """x, weight, [bias] -> y."""
    x, weight, *rest = arrays
    added, y = optional_bias(rest, bias), rest[0]
    conv = _told(x, weight, y, **attrs)
    return None if conv is None else tuple(_correlation((x, weight, added, y), conv, tiled, backward=False))


def dx(tiled: bool, dy: Array, weight: Array, dx: Array, *_: Array, **attrs: Any) -> Steps | None:
    """dy, weight -> dx."""
    conv = _told(dx, weight, dy, **attrs)
    return None if conv is None else tuple(_correlation((dy, weight, None, dx), conv, tiled, backward=True))


def dw(tiled: bool, *arrays: Array, bias: bool = False, **attrs: Any) -> Steps | None:
    """dy, x -> dweight, [dbias]."""
    dy, x, dweight, *rest = arrays
    conv = _told(x, dweight, dy, **attrs)
    if conv is None or not dy.size:
        return None
    return (*_weights(dy, x, dweight, conv, tiled), *conv_bias_gradient(dy, optional_bias(rest, bias), conv.layout))


conv_fft_forward, conv_fft_dx, conv_fft_dw = partial(forward, False), partial(dx, False), partial(dw, False)
conv_fft_tiled_forward, conv_fft_tiled_dx = partial(forward, True), partial(dx, True)
conv_fft_tiled_dw = partial(dw, True)


def transform_length(extent: int, reach: int, tiled: bool) -> int:
    """The transform's length along an axis of so many outputs: a product of 2, 3 and 5, at least the tile's inputs."""
    needed = extent + reach - 1
    if tiled:
        tile = TILE
        while tile < 2 * (reach - 1):
            tile *= 2
        needed = min(needed, tile)
    while True:
        rest = needed
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return needed
        needed += 1


def _told(x: Array, weight: Array, y: Array, **attrs: Any) -> Conv | None:
    """A convolution of sequences or images with stride 1."""
    conv = conv_told(x, weight, y, **attrs)
    return None if conv is None or x.ndim > 4 or conv.stride != (1, 1, 1) else conv


def _tiling(conv: Conv, outputs: Image, tiled: bool) -> Tiling:
    """How an image of outputs is cut."""
    reach = tuple((taps - 1) * apart + 1 for taps, apart in zip(conv.window, conv.dilation, strict=True))[1:]
    extents = outputs.extents[1:]
    height, width = (transform_length(extents[a], reach[a], tiled) for a in (0, 1))
    lengths = (height, max(2, width))
    tile = tuple(min(extents[a], lengths[a] - reach[a] + 1) for a in (0, 1))
    counts = tuple(-(-extents[a] // max(1, tile[a])) for a in (0, 1))
    return Tiling(lengths, (counts[0], counts[1]), (tile[0], tile[1]), (reach[0], reach[1]))


def _correlation(operands: tuple[Any, ...], conv: Conv, tiled: bool, *, backward: bool) -> Iterator[Step]:
    """source, weight, bias -> result."""
    source, weight, bias, result = operands
    of_source, of_result = (conv.y, conv.x) if backward else (conv.x, conv.y)
    cut = _tiling(conv, of_result, tiled)
    blocks = _blocks(conv, cut)
    if not blocks or not result.size:
        return
    before = conv.before[1:]
    if backward:  # results of a tile read what lies up to reach - 1 before them
        before = (cut.reach[0] - 1 - before[0], cut.reach[1] - 1 - before[1])
    most, pairs = len(blocks[0]) * prod(cut.counts), conv.weights // conv.taps
    widest = max(of_source.channels, of_result.channels)
    values, filters = Room(cut.area * max(pairs, most * widest)), Room(2 * cut.frequencies * pairs)
    spectra = Room(2 * cut.frequencies * most * of_source.channels)
    products = Room(2 * cut.frequencies * most * of_result.channels)
    numbers = (*cut.lengths, *conv.dilation[1:], _walk(conv, conv.x))
    yield from each(cut.area * pairs, weight, values, numbers=numbers, kernel="conv_fft_filters")
    yield Transform(values, filters, cut.extents, pairs)
    stack = cut.frequencies * conv.groups
    corner = tuple(reach - 1 for reach in cut.reach) if backward else (0, 0)
    for some in blocks:
        tiles = len(some) * prod(cut.counts)
        yield from _spectra(source, of_source, conv, cut, some, before, cut.inputs, values, spectra)
        data = Matrices(spectra, (stack, of_source.channels // conv.groups, tiles), complex=True)
        out = Matrices(products, (stack, of_result.channels // conv.groups, tiles), complex=True)
        weights = Matrices(filters, (stack, conv.channels, conv.filters), 0, not backward, complex=True)
        yield Product(weights, data, out, (not backward, False))
        yield Transform(values, products, cut.extents, tiles * of_result.channels, backward=True)
        told = _walk(conv, of_result, cut, some, (0, 0), cut.outputs)
        size = len(some) * of_result.channels * prod(of_result.extents)
        numbers = (*cut.lengths, *corner, 1 / cut.area, told)
        yield from each(size, values, bias, result, numbers=numbers, kernel="conv_fft_image")


def _weights(dy: Array, x: Array, dweight: Array, conv: Conv, tiled: bool) -> Iterator[Step]:
    """Of each block of samples the products, which are added up before they are transformed back."""
    cut = _tiling(conv, conv.y, tiled)
    blocks, pairs = _blocks(conv, cut), conv.weights // conv.taps
    most = len(blocks[0]) * prod(cut.counts)
    values = Room(cut.area * max(pairs, most * max(conv.x.channels, conv.y.channels)))
    spectra, gradient = (Room(2 * cut.frequencies * most * image.channels) for image in (conv.x, conv.y))
    parts, stack = Room(2 * cut.frequencies * pairs * len(blocks)), cut.frequencies * conv.groups
    for number, some in enumerate(blocks):
        tiles = len(some) * prod(cut.counts)
        yield from _spectra(x, conv.x, conv, cut, some, conv.before[1:], cut.inputs, values, spectra)
        yield from _spectra(dy, conv.y, conv, cut, some, (0, 0), cut.outputs, values, gradient)
        left = Matrices(spectra, (stack, conv.channels, tiles), complex=True)
        right = Matrices(gradient, (stack, conv.filters, tiles), 0, True, complex=True)
        begin = number * cut.frequencies * pairs
        out = Matrices(parts, (stack, conv.channels, conv.filters), begin, complex=True)
        yield Product(left, right, out, (False, True))
    total = parts
    if len(blocks) > 1:
        total = Room(2 * cut.frequencies * pairs)
        yield from each(total.elements, parts, total, numbers=(len(blocks),), kernel="conv_sum")
    yield Transform(values, total, cut.extents, pairs, backward=True)
    numbers = (*cut.lengths, *conv.dilation[1:], 1 / cut.area, _walk(conv, conv.x))
    yield from each(conv.weights, values, dweight, numbers=numbers, kernel="conv_fft_weights")


def _spectra(
    array: Array, image: Image, conv: Conv, cut: Tiling, some: range, before: tuple[int, ...], side: tuple[int, int],
    values: Room, spectra: Room,
) -> Iterator[Step]:  # fmt: skip
    """Spectra [frequency, channel, tile] of tiles of an image, `side` elements long."""
    count = len(some) * prod(cut.counts) * image.channels
    numbers = (*cut.lengths, _walk(conv, image, cut, some, before, side))
    yield from each(cut.area * count, array, values, numbers=numbers, kernel="conv_fft_tiles")
    yield Transform(values, spectra, cut.extents, count)


def _blocks(conv: Conv, cut: Tiling) -> list[range]:
    """Samples that are handled at a time."""
    a_sample = cut.area * prod(cut.counts) * max(conv.x.channels, conv.y.channels)
    size, n = max(1, MOST_VALUES // max(1, a_sample)), conv.x.n
    return [range(first, min(first + size, n)) for first in range(0, n, size)]


def _walk(
    conv: Conv, image: Image, cut: Tiling | None = None, some: range | None = None, before: tuple[int, ...] = (0, 0),
    side: tuple[int, int] = (1, 1),
) -> Any:  # fmt: skip
    """Of the tiles of an image; without them of the weights alone."""
    counts, steps = (cut.counts, cut.outputs) if cut else ((1, 1), (1, 1))
    along = zip(image.extents[1:], counts, side, before, steps, strict=True)
    axes = [
        Axis(1, 1, 1, 0, 1, 1),
        *(Axis(extent, count, taps, -pad, step, 1) for extent, count, taps, pad, step in along),
    ]
    if cut is None:
        return walk(conv, axes)
    return walk(conv._replace(x=image, y=image), axes, some=some)
