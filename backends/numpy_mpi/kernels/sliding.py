"""Windows that slide over one to three axes: views of an image by tap and window position, and ranges that pads cut.

Arrays here are views in logical order, [batch, channel, …] or, with groups of channels, [batch, group, channel, …];
their strides carry the layout. The axes that windows slide over come last. A tap is one position inside a window.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from .layout import Array

Extents = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]
Region = tuple[slice, ...]


def at(x: Array, axis: int, index: tuple[int | slice, ...]) -> Array:
    """A view of an array: the axes from `axis` on at these positions."""
    place: tuple[Any, ...] = (slice(None),) * axis + index
    part: Array = x[place]
    return part


def padded_extents(x: Array, pad: Pads) -> Extents:
    """The last extents of an image with its pads."""
    return (*[extent + sum(pads) for extent, pads in zip(x.shape[-len(pad) :], pad, strict=True)],)


def pad_into(padded: Array, x: Array, pad: Pads) -> None:
    """Write x between zeros: `pad` is what stands before it, the rest of `padded` behind it becomes zero too.

    A negative pad crops x, and what would stand beyond `padded` is left out.
    """
    for axis, (before, _) in enumerate(pad, start=x.ndim - len(pad)):
        first, last = max(before, 0), min(padded.shape[axis], before + x.shape[axis])
        at(padded, axis, (slice(first),)).fill(0)
        at(padded, axis, (slice(last, None),)).fill(0)
        padded, x = at(padded, axis, (slice(first, last),)), at(x, axis, (slice(first - before, last - before),))
    np.copyto(padded, x)


def windows(x: Array, window: Extents, stride: Extents, dilation: Extents, outputs: Extents) -> Array:
    """A view [..., tap, position] of a padded image, as many axes each as windows slide over."""
    rest, along = x.strides[: -len(window)], x.strides[-len(window) :]
    taps = (step * apart for step, apart in zip(along, dilation, strict=True))
    positions = (step * apart for step, apart in zip(along, stride, strict=True))
    return as_strided(x, (*x.shape[: len(rest)], *window, *outputs), (*rest, *taps, *positions))


def tap_ranges(
    extent: int, outputs: int, window: int, stride: int, pad: int, dilation: int
) -> list[tuple[slice, slice]]:
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
    inputs: Extents, outputs: Extents, window: Extents, stride: Extents, pad: Pads, dilation: Extents
) -> Iterator[tuple[Extents, Region, Region]]:
    """(tap, region of the output, region of the input) of each tap that reads any of the input."""
    before = (first for first, _ in pad)
    along = [tap_ranges(*axis) for axis in zip(inputs, outputs, window, stride, before, dilation, strict=True)]
    for chosen in product(*map(enumerate, along)):
        outs = (*[written for _, (written, _) in chosen],)
        if all(part.stop for part in outs):
            yield (*[tap for tap, _ in chosen],), outs, (*[read for _, (_, read) in chosen],)
