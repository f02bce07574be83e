"""Pools over images in three layouts, tap by tap over strided views: pads are never stored.

Windows may hang over the end by the `ceil` rule; what lies outside the input is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .layout import Array, logical
from .sliding import Pads, Pair, Region, taps


def maxpool_forward(
    x: Array, y: Array, indices: Array, *, window: Pair, stride: Pair, pad: Pads, layout: str, **_: object
) -> None:
    """x -> the largest element of each window and where it stands in the window, ky·kx' + kx; the first one wins."""
    x, y, indices = logical(x, layout), logical(y, layout), logical(indices, layout)
    y.fill(-np.inf)
    indices.fill(0)
    for tap, outs, ins in pool_taps(x, y, window, stride, pad):
        candidate, best = x[:, :, ins[0], ins[1]], y[:, :, outs[0], outs[1]]
        np.copyto(indices[:, :, outs[0], outs[1]], tap, where=candidate > best)
        np.maximum(candidate, best, out=best)


def maxpool_dx(
    dy: Array, indices: Array, dx: Array, *, window: Pair, stride: Pair, pad: Pads, layout: str, **_: object
) -> None:
    """dy goes to the element that was the largest."""
    dy, indices, dx = logical(dy, layout), logical(indices, layout), logical(dx, layout)
    dx.fill(0)
    for tap, outs, ins in pool_taps(dx, dy, window, stride, pad):
        target, chosen = dx[:, :, ins[0], ins[1]], indices[:, :, outs[0], outs[1]] == tap
        np.add(target, dy[:, :, outs[0], outs[1]] * chosen, out=target)


def avgpool_forward(
    x: Array,
    y: Array,
    *,
    window: Pair,
    stride: Pair,
    pad: Pads,
    layout: str,
    count_pad: bool = True,
    **_: object,
) -> None:
    """x -> the mean of each window; pads count as zeros with `count_pad`, else not at all."""
    x, y = logical(x, layout), logical(y, layout)
    y.fill(0)
    for _tap, outs, ins in pool_taps(x, y, window, stride, pad):
        target = y[:, :, outs[0], outs[1]]
        np.add(target, x[:, :, ins[0], ins[1]], out=target)
    np.multiply(y, _shares(x, y, window, stride, pad, count_pad), out=y)


def avgpool_dx(
    dy: Array,
    dx: Array,
    *,
    window: Pair,
    stride: Pair,
    pad: Pads,
    layout: str,
    count_pad: bool = True,
    **_: object,
) -> None:
    """dy is shared out evenly over its window; allocates one array like dy."""
    dy, dx = logical(dy, layout), logical(dx, layout)
    share = dy * _shares(dx, dy, window, stride, pad, count_pad)
    dx.fill(0)
    for _tap, outs, ins in pool_taps(dx, dy, window, stride, pad):
        target = dx[:, :, ins[0], ins[1]]
        np.add(target, share[:, :, outs[0], outs[1]], out=target)


def global_avgpool_forward(x: Array, y: Array, *, layout: str, **_: object) -> None:
    """x -> the mean of each channel's image, with height and width 1."""
    np.mean(logical(x, layout), axis=(2, 3), keepdims=True, out=logical(y, layout))


def global_avgpool_dx(dy: Array, dx: Array, *, layout: str, **_: object) -> None:
    """dy over the number of pixels, everywhere."""
    dx = logical(dx, layout)
    np.multiply(logical(dy, layout), 1 / (dx.shape[2] * dx.shape[3]), out=dx)


def pool_taps(x: Array, y: Array, window: Pair, stride: Pair, pad: Pads) -> Iterator[tuple[int, Region, Region]]:
    """(number of the tap, rows and columns of y, rows and columns of x) for each tap that reads any of x."""
    inputs, outputs = (x.shape[2], x.shape[3]), (y.shape[2], y.shape[3])
    for ky, kx, outs, ins in taps(inputs, outputs, window, stride, pad):
        yield ky * window[1] + kx, outs, ins


def _shares(x: Array, y: Array, window: Pair, stride: Pair, pad: Pads, count_pad: bool) -> Array | float:
    """1/(number of elements) of each window; what hangs over the pads never counts (PyTorch's rule)."""
    counts = []
    for axis in (0, 1):
        before, after = pad[axis] if count_pad else (0, 0)
        starts = np.arange(y.shape[2 + axis]) * stride[axis] - pad[axis][0]
        ends = np.minimum(starts + window[axis], x.shape[2 + axis] + after)
        counts.append(ends - np.maximum(starts, -before))
    shares: Array = 1 / np.multiply.outer(*counts)
    if (shares == shares[0, 0]).all():
        return float(shares[0, 0])
    return shares.astype(y.dtype)
