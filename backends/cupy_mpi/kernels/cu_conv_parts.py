"""What convolutions in CUDA share: the numbers that describe one, weights in another order, and bias gradients.

A *walk* is the struct of conv_parts.cu that says which elements of a source each result of a correlation reads. The
forward pass is one walk. dx is one for each place in which a stride lets windows meet an element: results of one walk
read through the same taps, so none multiplies zeros.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import gcd, prod
from typing import Any, NamedTuple

from .launch import Array, Launch, Room, Steps, each

CHUNKS = 264
"""About as many blocks work at a time at what is summed over samples and pixels: two for each of 132 processors."""

MOST = 2**31 - 1
"""Numbers of elements above it are for NumPy: kernels count with ints."""


class Axis(NamedTuple):
    """Result i reads at tap j the element start + i·step + j·apart of the source; see conv_parts.cu."""

    extent: int
    results: int
    taps: int
    start: int
    step: int
    apart: int
    first: int = 0
    every: int = 1
    tap: int = 0
    every_tap: int = 1


class Image(NamedTuple):
    """An array of images: extents, and how many elements apart samples, channels and positions lie."""

    n: int
    channels: int
    extents: tuple[int, ...]
    apart_n: int
    apart_c: int
    apart: tuple[int, ...]


class Conv(NamedTuple):
    """A convolution from x to y, (three numbers each) with 1 and no pads along axes that there are not."""

    x: Image
    y: Image
    groups: int
    window: tuple[int, ...]
    stride: tuple[int, ...]
    before: tuple[int, ...]
    dilation: tuple[int, ...]
    layout: str

    @property
    def channels(self) -> int:
        """Channels of x of a group."""
        return self.x.channels // self.groups

    @property
    def filters(self) -> int:
        """Filters of a group."""
        return self.y.channels // self.groups

    @property
    def taps(self) -> int:
        """Taps of a window."""
        return prod(self.window)

    @property
    def weights(self) -> int:
        """How many weights there are."""
        return self.y.channels * self.channels * self.taps

    @property
    def inner(self) -> int:
        """What lies together in memory: 0 positions, 1 channels, 2 samples."""
        return ("NCHW", "NHWC", "CHWN").index(self.layout)

    @property
    def plain(self) -> bool:
        """Whether each result reads the element at its place alone."""
        return self.taps == prod(self.stride) == 1 and not any(self.before) and self.x.extents == self.y.extents


def conv_told(
    x: Array,
    weight: Array,
    y: Array,
    *,
    window: Sequence[int],
    stride: Sequence[int] = (),
    pad: Sequence[Sequence[int]] = (),
    dilation: Sequence[int] = (),
    layout: str = "NCHW",
    **_: object,
) -> Conv | None:
    """As the NumPy kernels are told; None where there is too much for ints."""
    layout = layout if x.ndim == 4 else "NCHW"
    if max(x.size, y.size) > MOST:
        return None
    rank = len(window)
    ones, missing = (1,) * rank, 3 - rank
    before = tuple(int(first) for first, _ in pad) or (0,) * rank
    groups = max(1, x.shape[_channel_axis(x, layout)] // max(1, weight.shape[1]))

    def three(one: int, numbers: Sequence[int]) -> tuple[int, ...]:
        return (one,) * missing + tuple(map(int, numbers))

    return Conv(
        _image(x, layout), _image(y, layout), groups, three(1, window), three(1, stride or ones), three(0, before),
        three(1, dilation or ones), layout,
    )  # fmt: skip


def _channel_axis(x: Array, layout: str) -> int:
    return layout.index("C") if x.ndim == 4 else 1


def _image(x: Array, layout: str) -> Image:
    """The extents of an array in a layout, whose elements all lie together."""
    names = layout if x.ndim == 4 else "NCDHW"[:2] + "DHW"[5 - x.ndim :]
    apart, step = {}, 1
    for name, extent in zip(reversed(names), reversed(x.shape), strict=True):
        apart[name], step = step, step * extent
    extents = dict(zip(names, x.shape, strict=True))
    return Image(
        extents["N"], extents["C"], tuple(extents.get(name, 1) for name in "DHW"),
        apart["N"], apart["C"], tuple(apart.get(name, 0) for name in "DHW"),
    )  # fmt: skip


def forward_axes(conv: Conv) -> list[Axis]:
    """The walk from y to the x that it reads."""
    along = zip(conv.x.extents, conv.y.extents, conv.window, conv.before, conv.stride, conv.dilation, strict=True)
    return [Axis(x, y, taps, -before, stride, dilation) for x, y, taps, before, stride, dilation in along]


def backward_axes(conv: Conv) -> Iterator[tuple[Axis, ...]]:
    """The walks from x to the y that read it."""
    along = zip(conv.x.extents, conv.y.extents, conv.window, conv.before, conv.stride, conv.dilation, strict=True)
    return product(*(list(_meetings(*axis)) for axis in along))


def _meetings(x: int, y: int, window: int, before: int, stride: int, dilation: int) -> Iterator[Axis]:
    """Elements of x, a stride apart, and the taps that can meet them: element + before - tap·dilation is a multiple."""
    for first in range(min(stride, x)):
        met = [tap for tap in range(window) if (first + before - tap * dilation) % stride == 0]
        every = stride // gcd(stride, dilation)
        tap = met[0] if met else 0
        start = (first + before - tap * dilation) // stride
        apart = -every * dilation // stride
        yield Axis(y, -(-(x - first) // stride), len(met), start, 1, apart, first, stride, tap, every)


def walk(
    conv: Conv, axes: Sequence[Axis], backward: bool = False, relu: bool = False, some: range | None = None
) -> Any:
    """The struct of a walk: from y to x, or `backward` from x to y; of some samples."""
    source, result = (conv.y, conv.x) if backward else (conv.x, conv.y)
    some = range(conv.x.n) if some is None else some
    return (
        some.start, len(some), conv.groups, source.channels // conv.groups, result.channels // conv.groups,
        source.apart_n, source.apart_c, result.apart_n, result.apart_c,
        *source.apart, *result.apart, *conv.window, *(number for axis in axes for number in axis),
        conv.inner, int(relu),
    )  # fmt: skip


def results_of(conv: Conv, axes: Sequence[Axis]) -> int:
    """Places of the results of a walk, samples times positions."""
    return conv.x.n * prod(axis.results for axis in axes)


def conv_pack(weight: Array, conv: Conv, turned: bool = False) -> tuple[Room, Steps]:
    """Weights as [group, tap, channel, filter], or turned as [group, tap, filter, channel]."""
    packed = Room(conv.weights)
    numbers = (conv.filters, conv.channels, conv.taps, int(turned))
    return packed, each(conv.weights, weight, packed, numbers=numbers, kernel="conv_pack")


def conv_unpack(parts: Room, dweight: Array, conv: Conv, number: int) -> Steps:
    """dweight from so many parts [group, filter, tap, channel], which are added up."""
    return each(
        conv.weights, parts, dweight, numbers=(conv.channels, conv.taps, number), kernel="conv_unpack"
    )  # fmt: skip


def conv_sum(parts: Room, total: Array, number: int) -> Steps:
    """The sum of parts that lie one behind the other."""
    return each(total.size, parts, total, numbers=(number,), kernel="conv_sum")


def conv_bias_gradient(dy: Array, dbias: Array | None, layout: str = "NCHW") -> Steps:
    """The sum of dy over all but the channels."""
    if dbias is None:
        return ()
    image, channels = _image(dy, layout if dy.ndim == 4 else "NCHW"), dbias.size
    inner = image.apart_c
    outer = dy.size // max(1, channels * inner)
    across = channels if inner > 1 else -(-channels // 32)
    chunk = max(1, -(-outer * across // CHUNKS), 1 if inner > 1 else 8)
    number = max(1, -(-outer // chunk))
    parts = Room(number * channels)
    rows = inner > 1
    told = (dy, parts, outer, channels, *[inner] * rows, chunk)
    kernel = "conv_bias_gradient_rows" if rows else "conv_bias_gradient_columns"
    return (Launch(told, (across, number), kernel=kernel), *conv_sum(parts, dbias, number))


def optional_bias(rest: list[Any], bias: bool) -> Array | None:
    """Takes the bias, or its gradient, off the arguments where there is one."""
    return rest.pop(0) if bias else None
