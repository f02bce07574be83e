"""Windows that slide over images: views of an image by tap and window position, and the ranges that pads cut off.

Arrays here are views in logical order, [batch, channel, height, width] or, with groups of channels, [batch, group,
channel, height, width]; their strides carry the layout. A tap is one position inside a window.
"""

from __future__ import annotations

from collections.abc import Iterator

from numpy.lib.stride_tricks import as_strided

from .layout import Array

Pair = tuple[int, int]
Pads = tuple[Pair, Pair]
Region = tuple[slice, slice]


def padded_extents(x: Array, pad: Pads) -> Pair:
    """Height and width of an image with its pads."""
    return (x.shape[-2] + sum(pad[0]), x.shape[-1] + sum(pad[1]))


def pad_into(padded: Array, x: Array, pad: Pads) -> None:
    """Write x between zeros: `pad` is what stands before it, the rest of `padded` behind it becomes zero too.

    A negative pad crops x, and what would stand beyond `padded` is left out.
    """
    (top, _), (left, _) = pad
    row, column = max(top, 0), max(left, 0)
    bottom, right = min(padded.shape[-2], top + x.shape[-2]), min(padded.shape[-1], left + x.shape[-1])
    padded[..., :row, :] = 0
    padded[..., bottom:, :] = 0
    padded[..., row:bottom, :column] = 0
    padded[..., row:bottom, right:] = 0
    padded[..., row:bottom, column:right] = x[..., row - top : bottom - top, column - left : right - left]


def windows(x: Array, window: Pair, stride: Pair, dilation: Pair, outputs: Pair) -> Array:
    """A view [..., ky, kx, i, j] of a padded image: tap (ky, kx) of the window at output (i, j)."""
    *rest, row, column = x.strides
    steps = (row * dilation[0], column * dilation[1], row * stride[0], column * stride[1])
    return as_strided(x, (*x.shape[:-2], *window, *outputs), (*rest, *steps))


def tap_ranges(extent: int, outputs: int, window: int, stride: int, pad: int, dilation: int) -> list[Region]:
    """For each tap along one axis: the outputs whose tap lies inside the input, and the inputs that it reads there."""
    ranges = []
    for tap in range(window):
        offset = tap * dilation - pad
        first = max(0, -(offset // stride))
        last = min(outputs, (extent - 1 - offset) // stride + 1)
        if first >= last:
            ranges.append((slice(0), slice(0)))
        else:
            start = first * stride + offset
            ranges.append((slice(first, last), slice(start, start + (last - first - 1) * stride + 1, stride)))
    return ranges


def taps(
    inputs: Pair, outputs: Pair, window: Pair, stride: Pair, pad: Pads, dilation: Pair = (1, 1)
) -> Iterator[tuple[int, int, Region, Region]]:
    """(ky, kx, output rows and columns, input rows and columns) of each tap that reads any of the input."""
    rows, columns = (tap_ranges(inputs[a], outputs[a], window[a], stride[a], pad[a][0], dilation[a]) for a in (0, 1))
    for ky, (out_rows, in_rows) in enumerate(rows):
        for kx, (out_columns, in_columns) in enumerate(columns):
            if out_rows.stop and out_columns.stop:
                yield ky, kx, (out_rows, out_columns), (in_rows, in_columns)
