"""A convolution's forward pass and data gradient as one loop nest, in NHWC: what is read where, and how much at a time.

A result at some position reads a window of the *strip*, a copy of rows of the source with the zeros around it. dx takes
the results by *phases*, one for each remainder of their position by the stride: each has taps of its own, and none
multiplies zeros.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from .conv import Conv
from .target import WIDTHS, Target

STRIP_BYTES = 512 * 1024
"""How much of the source is worked on at a time: what a second-level cache holds beside a block of weights."""

PAGE = 4096
"""Bytes after which addresses have the same place in a first-level cache again."""


@dataclass(frozen=True, slots=True)
class Taps:
    """The taps along one axis that results of a phase read, in order of what they read.

    `start` is the first one's index, `step` from one index to the next; for position 0 the first reads `first` of the
    strip, the next `apart` further.
    """

    phase: int
    count: int
    start: int
    step: int
    first: int
    apart: int


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a correlation: position u stands for result u·spread + phase less the pad.

    It reads `span` positions of the strip from u·stride on.
    """

    phases: tuple[Taps, ...]
    stride: int
    spread: int
    span: int


def forward_axis(window: int, stride: int, dilation: int) -> Axis:
    """Every result reads all taps."""
    return Axis((Taps(0, window, 0, 1, 0, dilation),), stride, 1, (window - 1) * dilation + 1)


def backward_axis(window: int, stride: int, dilation: int) -> Axis:
    """Tap r of dx at p reads dy at (p + pad - r·dilation)/stride where that is a whole number."""
    span = (window - 1) * dilation // stride + 1
    return Axis(tuple(_phase(phase, window, stride, dilation, span) for phase in range(stride)), 1, stride, span)


def _phase(phase: int, window: int, stride: int, dilation: int, span: int) -> Taps:
    found = [tap for tap in range(window) if (tap * dilation - phase) % stride == 0]
    if not found:
        return Taps(phase, 0, 0, 0, 0, 0)
    common, last = gcd(stride, dilation), (found[-1] * dilation - phase) // stride
    return Taps(phase, len(found), found[-1], -(stride // common), span - 1 - last, dilation // common)


@dataclass(frozen=True, slots=True)
class Correlation:
    """A correlation along the axes y and x; c counts channels of the source, k those of the result, of a group."""

    conv: Conv
    target: Target
    name: str
    y: Axis
    x: Axis
    backward: bool
    strip_bytes: int = STRIP_BYTES

    @property
    def lanes(self) -> int:
        """Elements of a vector."""
        return self.target.lanes(self.conv.dtype)

    @property
    def c(self) -> int:
        """Channels of the source that a result reads."""
        return self.conv.group_filters if self.backward else self.conv.group_channels

    @property
    def k(self) -> int:
        """Channels of the result in a group."""
        return self.conv.group_channels if self.backward else self.conv.group_filters

    @property
    def blocks(self) -> int:
        """Blocks of channels that images of the source consist of."""
        return 1

    @property
    def vectors(self) -> int:
        """Vectors of a group's channels of the result."""
        return -(-self.k // self.lanes)

    @property
    def bias(self) -> bool:
        """Whether sums begin with a bias."""
        return self.conv.bias and not self.backward

    @property
    def plain(self) -> bool:
        """Whether the source serves as its own strip."""
        return self._bare and self.pixel == self.c

    @property
    def _bare(self) -> bool:
        return self.conv.taps == 1 and not self.conv.padded and self.conv.groups == 1

    @property
    def pixel(self) -> int:
        """From one pixel of a strip to the next.

        A tile's pixels are no page apart: they would all have the same place in a cache.
        """
        crowded = self.x.stride * self.c * WIDTHS[self.conv.dtype] % PAGE == 0
        return self.c + self.lanes * crowded

    @property
    def widths(self) -> tuple[int, int]:
        """Columns of the source and of the result."""
        inner, outer = self.conv.width, self.conv.outputs[1]
        return (outer, inner) if self.backward else (inner, outer)

    @property
    def left(self) -> int:
        """The pad on the left that results of dx are behind by."""
        return self.conv.pad[1][0] if self.backward else 0

    @property
    def base(self) -> int:
        """The first position along a row."""
        return self.left // self.x.spread

    @property
    def strip_width(self) -> int:
        """Columns of the strip."""
        last = (self.widths[1] - 1 + self.left) // self.x.spread
        return (last - self.base) * self.x.stride + self.x.span

    @property
    def strip_left(self) -> int:
        """Columns of the strip in front of the source's first; those it leaves out count negative."""
        return self.x.span - 1 - self.base if self.backward else self.conv.pad[1][0]

    @property
    def pitch(self) -> int:
        """Elements of a row of what is read."""
        return (self.widths[0] if self.plain else self.strip_width) * self.pixel

    @property
    def strip_rows(self) -> int:
        """Rows of the source that are worked on at a time, if they are those of one sample."""
        return max(
            self.y.span, self.strip_bytes // (self.pitch * self.blocks * self.conv.groups * WIDTHS[self.conv.dtype])
        )

    @property
    def padded_k(self) -> int:
        """Channels of a group of the result with those that fill the last vector."""
        return self.vectors * self.lanes

    @property
    def phases(self) -> list[tuple[Taps, Taps, int]]:
        """(taps of a column, taps of a row, where their packed weights begin)."""
        found, begin = [], 0
        for y in self.y.phases:
            for x in self.x.phases:
                found.append((y, x, begin))
                begin += y.count * x.count * self.conv.groups * self.padded_k * self.c
        return found

    @property
    def packed(self) -> int:
        """Elements of the packed weights and of the bias behind them."""
        return (self.conv.taps * self.c + self.bias) * self.conv.groups * self.padded_k

    def columns(self, taps: Taps) -> tuple[int, int]:
        """The first position of a phase along a row, and how many there are."""
        shift, spread = taps.phase - self.left, self.x.spread
        first = -(shift // spread)
        return first, -((shift - self.widths[1]) // spread) - first

    def scratch(self, n: int, threads: int) -> int:
        """Elements of scratch: packed weights, unless they are there before, and a strip."""
        packed = 0 if self.conv.packed else self.packed
        if self.plain:
            return packed
        rows = (self.conv.height if self.backward else self.conv.outputs[0]) * self.y.stride + 2 * self.y.span
        return packed + min(n * rows, self.strip_rows + self.y.span) * self.pitch * self.blocks * self.conv.groups
