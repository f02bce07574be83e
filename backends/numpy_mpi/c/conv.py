"""A convolution as the generators of C see it: all that is known when the text is made."""

from __future__ import annotations

from dataclasses import dataclass

Pair = tuple[int, int]

NUMBERS = ("n", "rows", "pad_top", "pad_bottom")
"""Run-time extents: samples, rows of x and its pads above and below."""


@dataclass(frozen=True, slots=True)
class Conv:
    """Extents of a convolution over images and its attributes, (rows, columns) each; `pad` is (before, after).

    `height` and the pads of rows are those of the whole image: calls may be for a part of its rows.
    """

    channels: int
    filters: int
    height: int
    width: int
    window: Pair
    stride: Pair = (1, 1)
    pad: tuple[Pair, Pair] = ((0, 0), (0, 0))
    dilation: Pair = (1, 1)
    groups: int = 1
    bias: bool = False
    dtype: str = "f32"
    relu: bool = False  # whether results pass a ReLU; dx is then that of what a ReLU gave
    packed: bool = False  # whether what a function packs of weights and bias is there before it is called

    @property
    def reach(self) -> Pair:
        """How many rows and columns a window covers."""
        (r, s), (dr, ds) = self.window, self.dilation
        return (r - 1) * dr + 1, (s - 1) * ds + 1

    @property
    def outputs(self) -> Pair:
        """Rows and columns of y."""
        extents = zip((self.height, self.width), self.pad, self.reach, self.stride, strict=True)
        rows, columns = ((extent + sum(pads) - reach) // stride + 1 for extent, pads, reach, stride in extents)
        return rows, columns

    @property
    def padded(self) -> bool:
        """Whether there are pads."""
        return any(map(any, self.pad))

    @property
    def group_channels(self) -> int:
        """Channels that a filter reads."""
        return self.channels // self.groups

    @property
    def group_filters(self) -> int:
        """Filters of a group."""
        return self.filters // self.groups

    @property
    def taps(self) -> int:
        """Positions of the window."""
        return self.window[0] * self.window[1]


def arguments(conv: Conv, *, backward: bool) -> tuple[str, ...]:
    """The arrays that a function takes."""
    bias = conv.bias and not backward
    names = ("dy", "weight", *(["y"] * conv.relu), "dx") if backward else ("x", "weight", *(["bias"] * bias), "y")
    return (*(["packed"] * conv.packed), *names)
