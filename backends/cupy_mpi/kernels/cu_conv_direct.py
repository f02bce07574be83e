"""Direct convolution: a thread a place of the result and some of its filters, in kernels made for the window.

dx where the stride is not 1 is made of several results, each of places a stride apart, which the same taps meet. The
gradient of the weights is summed by blocks, each for some filters, a channel and a line of taps.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from .cu_conv_parts import (
    CHUNKS,
    Axis,
    Conv,
    backward_axes,
    conv_bias_gradient,
    conv_sum,
    conv_told,
    forward_axes,
    optional_bias,
    results_of,
    walk,
)
from .launch import BLOCKS, THREADS, Array, Launch, Room, Steps

MOST_WEIGHTS = 3072
"""A block keeps the weights of one channel, at least, in shared memory."""

WIDEST = 16
"""Of the windows that dw has code for: a thread keeps a line of taps' sums in registers."""


def conv_direct_forward(*arrays: Array, bias: bool = False, **attrs: Any) -> Steps | None:
    """x, weight, [bias] -> y."""
    x, weight, *rest = arrays
    added, y = optional_bias(rest, bias), rest[0]
    return forward(x, weight, added, y, **attrs)


def conv_direct_dx(*arrays: Array, bias: bool = False, **attrs: Any) -> Steps | None:
    """dy, weight -> dx."""
    return backward(arrays[0], arrays[1], None, arrays[2], **attrs)


def conv_direct_dw(*arrays: Array, bias: bool = False, **attrs: Any) -> Steps | None:
    """dy, x -> dweight, [dbias]."""
    dy, x, dweight, *rest = arrays
    steps = weights(dy, x, dweight, **attrs)
    if steps is None:
        return None
    return (*steps, *conv_bias_gradient(dy, optional_bias(rest, bias), attrs.get("layout", "NCHW")))


def forward(x: Array, weight: Array, bias: Array | None, y: Array, relu: bool = False, **attrs: Any) -> Steps | None:
    """The walk from y to x."""
    conv = conv_told(x, weight, y, **attrs)
    if conv is None or not _filters(conv.taps, conv.filters):
        return None
    axes = forward_axes(conv)
    return _correlation("forward", (x, weight, bias, None, y), conv, axes, walk(conv, axes, relu=relu))


def backward(
    dy: Array, weight: Array, bias: Array | None, dx: Array, mask: Array | None = None, **attrs: Any
) -> Steps | None:
    """The walks from x to y."""
    conv = conv_told(dx, weight, dy, **attrs)
    if conv is None or not _filters(conv.taps, conv.channels):
        return None
    operands = (dy, weight, bias, mask, dx)
    walks = (_correlation("dx", operands, conv, axes, walk(conv, axes, backward=True)) for axes in backward_axes(conv))
    return tuple(step for some in walks for step in some)


def weights(dy: Array, x: Array, dweight: Array, **attrs: Any) -> Steps | None:
    """The gradient of the weights, in parts that are added up."""
    conv = conv_told(x, dweight, dy, **attrs)
    if conv is None or conv.window[2] > WIDEST:
        return None
    axes = forward_axes(conv)
    size = 4 if conv.filters >= 4 and conv.window[2] <= 8 else 1
    blocks = (-(-conv.filters // size) * conv.groups, conv.channels * conv.taps // conv.window[2])
    places = results_of(conv, axes)
    number = max(1, min(CHUNKS // prod(blocks), places // (4 * THREADS)))
    chunk = max(1, -(-places // number))
    parts = Room(number * conv.weights)
    told, kernel = (dy, x, parts, walk(conv, axes), chunk), f"conv_direct_dw<{size}, {conv.window[2]}>"
    return (Launch(told, (*blocks, number), kernel=kernel), *conv_sum(parts, dweight, number))


def _correlation(
    stage: str, operands: tuple[Any, ...], conv: Conv, axes: Sequence[Axis], told: tuple[int, ...]
) -> Steps:
    """source, weights, bias, mask -> result."""
    places, channels = results_of(conv, axes), conv.filters if stage == "forward" else conv.channels
    taps = [axis.taps for axis in axes]
    if not places:
        return ()
    if not prod(taps):
        return (Launch((*operands[2:], told), (min(-(-places // THREADS), BLOCKS),), kernel="conv_direct_dx_unmet"),)
    size = _filters(prod(taps), channels)
    kernel = f"conv_direct_{stage}<{size}, {', '.join(map(str, taps))}>"
    blocks = (-(-places // THREADS), -(-channels // size) * conv.groups)
    return (Launch((*operands, told), blocks, kernel=kernel),)


def _filters(taps: int, channels: int) -> int:
    """How many filters a thread computes: as many as there are up to 8, and as shared memory has room for."""
    return next((size for size in (8, 4, 2, 1) if size * taps <= MOST_WEIGHTS and (size < 2 * channels)), 0)
