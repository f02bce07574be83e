"""Depthwise convolution: a thread a result, which reads the window of one channel, in kernels made for the window."""

from __future__ import annotations

from math import prod
from typing import Any

from .cu_conv_parts import (
    CHUNKS,
    Conv,
    backward_axes,
    conv_bias_gradient,
    conv_sum,
    conv_told,
    forward_axes,
    results_of,
    walk,
)
from .launch import BLOCKS, THREADS, Array, Launch, Room, Steps

MOST_TAPS = 512
"""Of windows that there is code for: loops over taps are unrolled."""

WIDEST = 32
"""A thread keeps a line of taps' sums in registers."""


def depthwise_conv_forward(*arrays: Array, **attrs: Any) -> Steps | None:
    """x, weight, [bias] -> y."""
    x, weight, *bias, y = arrays
    conv = _told(x, weight, y, **attrs)
    if conv is None:
        return None
    kernel = f"depthwise_conv_forward<{', '.join(map(str, conv.window))}>"
    told = (x, weight, bias[0] if bias else None, y, y.size, walk(conv, forward_axes(conv)))
    return (Launch(told, _blocks(y.size), kernel=kernel),) if y.size else ()


def depthwise_conv_dx(dy: Array, weight: Array, dx: Array, **attrs: Any) -> Steps | None:
    """dy, weight -> dx."""
    conv = _told(dx, weight, dy, **attrs)
    if conv is None:
        return None
    steps = []
    for axes in backward_axes(conv):
        size = results_of(conv, axes) * conv.x.channels
        numbers = (size, conv.filters, walk(conv, axes, backward=True))
        kernel = f"depthwise_conv_dx<{', '.join(str(axis.taps) for axis in axes)}>"
        if size:
            steps.append(Launch((dy, weight, dx, *numbers), _blocks(size), kernel=kernel))
    return tuple(steps)


def depthwise_conv_dw(dy: Array, x: Array, dweight: Array, *dbias: Array, **attrs: Any) -> Steps | None:
    """dy, x -> dweight, [dbias]."""
    conv = _told(x, dweight, dy, **attrs)
    if conv is None or conv.window[2] > WIDEST:
        return None
    axes, lanes = forward_axes(conv), 32 if conv.inner == 1 else 1
    blocks = (-(-conv.y.channels // lanes), prod(conv.window[:2]))
    places = results_of(conv, axes)
    number = max(1, min(4 * CHUNKS // prod(blocks), places * lanes // (4 * THREADS)))
    chunk = max(1, -(-places // number))
    parts = Room(number * dweight.size)
    kernel = f"depthwise_conv_dw<{lanes}, {conv.window[2]}>"
    launch = Launch((dy, x, parts, walk(conv, axes), chunk), (*blocks, number), kernel=kernel)
    bias = conv_bias_gradient(dy, dbias[0] if dbias else None, conv.layout)
    return (launch, *conv_sum(parts, dweight, number), *bias)


def _told(x: Array, weight: Array, y: Array, **attrs: Any) -> Conv | None:
    """A convolution whose groups are the channels of x."""
    conv = conv_told(x, weight, y, **attrs)
    if conv is None or conv.taps > MOST_TAPS:
        return None
    return conv._replace(groups=conv.x.channels)


def _blocks(size: int) -> tuple[int]:
    """Blocks that go through so many elements."""
    return (min(-(-size // THREADS), BLOCKS),)
