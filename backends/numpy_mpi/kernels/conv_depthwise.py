"""Depthwise convolution: every channel is filtered by itself, tap by tap: multiply, add.

There is nothing to contract, so a product of matrices would not pay: each tap of the window multiplies the input as it
reads it by one weight a channel, in blocks of samples and channels that fit the cache. Pads are never stored. Views
carry the layout; those in which many channels or samples lie together (NHWC, CHWN) make long inner loops.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from .conv_matrices import add_bias, bias_gradient, blocks
from .layout import Array, logical
from .sliding import Extents, Region, at, taps

BLOCK = 2**18
"""About as many values of the result are computed at a time."""


def depthwise_conv_forward(*arrays: Array, layout: str = "NCHW", **attrs: Any) -> None:
    """x, weight, [bias] -> y; allocates one array like a block of y."""
    x, weight, *bias, y = arrays
    y.fill(0)
    for image, result, filters in _blocks(x, y, weight, layout):
        for tap, outs, ins in _taps(image, result, **attrs):
            target = at(result, 2, outs)
            np.add(target, at(image, 2, ins) * _of_tap(filters, tap), out=target)
    add_bias(y, bias[0] if bias else None, layout)


def depthwise_conv_dx(dy: Array, weight: Array, dx: Array, *, layout: str = "NCHW", **attrs: Any) -> None:
    """dy, weight -> dx; allocates one array like a block of dy."""
    dx.fill(0)
    for image, result, filters in _blocks(dx, dy, weight, layout):
        for tap, outs, ins in _taps(image, result, **attrs):
            target = at(image, 2, ins)
            np.add(target, at(result, 2, outs) * _of_tap(filters, tap), out=target)


def depthwise_conv_dw(dy: Array, x: Array, dweight: Array, *dbias: Array, layout: str = "NCHW", **attrs: Any) -> None:
    """dy, x -> dweight, [dbias]."""
    bias_gradient(dy, dbias[0] if dbias else None, layout)
    dweight.fill(0)
    for image, result, filters in _blocks(x, dy, dweight, layout):
        axes = list(range(image.ndim))
        for tap, outs, ins in _taps(image, result, **attrs):
            total = at(filters, 1, tap)
            np.add(total, np.einsum(at(image, 2, ins), axes, at(result, 2, outs), axes, [1]), out=total)


def _blocks(x: Array, y: Array, weight: Array, layout: str) -> Iterator[tuple[Array, Array, Array]]:
    """Views of x and y [n, c, …] and of weights [c, *tap]: blocks of samples and channels.

    A channel has `multiplier` results, which come one after the other.
    """
    x, y = logical(x, layout), logical(y, layout)
    n, c = x.shape[:2]
    results = y.reshape(n, c, weight.shape[0] // c, *y.shape[2:])
    filters = weight.reshape(c, -1, *weight.shape[2:])
    pixels = prod(y.shape[2:])
    channels = {"NHWC": c, "CHWN": BLOCK // (pixels * max(1, n))}.get(layout, BLOCK // pixels)
    samples = n if layout == "CHWN" else BLOCK // (pixels * min(c, max(1, channels)))
    for part in blocks(n, samples):
        for some in blocks(c, channels):
            for copy in range(results.shape[2]):
                yield x[part, some], results[part, some, copy], filters[some, copy]


def _taps(
    x: Array, y: Array, *, window: Extents, stride: Extents, pad: Any, dilation: Extents, **_: object
) -> Iterator[tuple[Extents, Region, Region]]:
    return taps(x.shape[2:], y.shape[2:], window, stride, pad, dilation)


def _of_tap(filters: Array, tap: Extents) -> Array:
    """The weights of one tap, channel by channel."""
    weights = np.ascontiguousarray(at(filters, 1, tap))
    return weights.reshape(-1, *(1,) * len(tap))
