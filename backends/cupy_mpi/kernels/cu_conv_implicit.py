"""Convolutions as products of matrices whose columns are read from the images, tile by tile, and never stored.

A block computes up to 128 filters by 128 places. The gradient of the weights is summed over samples and positions, in
parts that many blocks compute, which are added up in order.
"""

from __future__ import annotations

from typing import Any

from .cu_conv_parts import (
    CHUNKS,
    Axis,
    Conv,
    backward_axes,
    conv_bias_gradient,
    conv_pack,
    conv_told,
    conv_unpack,
    forward_axes,
    optional_bias,
    results_of,
    walk,
)
from .launch import Array, Launch, Room, Steps

COLUMNS = 128
"""Places, or pairs of tap and channel, of a block."""

DEPTH = 8
"""Parts of a sum are multiples of it."""

MOST_TAPS = 256


def conv_implicit_gemm_forward(*arrays: Array, bias: bool = False, relu: bool = False, **attrs: Any) -> Steps | None:
    """x, weight, [bias] -> y, which has passed a ReLU where that is asked for."""
    x, weight, *rest = arrays
    added, y = optional_bias(rest, bias), rest[0]
    conv = conv_told(x, weight, y, **attrs)
    if conv is None or conv.inner == 2 or conv.taps > MOST_TAPS:
        return None
    packed, steps = conv_pack(weight, conv)
    return (*steps, *_correlation("forward", (x, packed, added, None, y), conv, forward_axes(conv), relu))


def conv_implicit_gemm_dx(*arrays: Array, bias: bool = False, mask: Array | None = None, **attrs: Any) -> Steps | None:
    """dy, weight -> dx, which counts where a mask is above 0."""
    dy, weight, dx, *_ = arrays
    conv = conv_told(dx, weight, dy, **attrs)
    if conv is None or conv.inner == 2 or conv.taps > MOST_TAPS:
        return None
    packed, steps = conv_pack(weight, conv, turned=True)
    walks = (_correlation("dx", (dy, packed, None, mask, dx), conv, axes) for axes in backward_axes(conv))
    return (*steps, *(step for some in walks for step in some))


def conv_implicit_gemm_dw(*arrays: Array, bias: bool = False, **attrs: Any) -> Steps | None:
    """dy, x -> dweight, [dbias]."""
    dy, x, dweight, *rest = arrays
    conv = conv_told(x, dweight, dy, **attrs)
    if conv is None or conv.inner == 2:
        return None
    axes = forward_axes(conv)
    size, across = _rows(conv.filters), -(-conv.channels * conv.taps // COLUMNS)
    blocks = (across, -(-conv.filters // size))
    places = results_of(conv, axes)
    number = max(1, min(CHUNKS // (blocks[0] * blocks[1] * conv.groups), places // (8 * DEPTH)))
    chunk = -(-places // (number * DEPTH)) * DEPTH or DEPTH
    number = max(1, -(-places // chunk))
    parts = Room(number * conv.weights)
    kernel = f"conv_implicit_gemm_dw<{size}, {_across(conv)}>"
    launch = Launch((dy, x, parts, walk(conv, axes), chunk), (*blocks, conv.groups * number), kernel=kernel)
    summed = conv_unpack(parts, dweight, conv, number)
    return (launch, *summed, *conv_bias_gradient(dy, optional_bias(rest, bias), conv.layout))


def _correlation(
    stage: str, operands: tuple[Any, ...], conv: Conv, axes: list[Axis] | tuple[Axis, ...], relu: bool = False
) -> Steps:
    """source, packed weights, bias, mask -> result."""
    places, channels = results_of(conv, axes), conv.filters if stage == "forward" else conv.channels
    size = _rows(channels)
    blocks = (-(-places // COLUMNS), -(-channels // size), conv.groups)
    kernel = f"conv_implicit_gemm_{stage}<{size}, {_across(conv)}>"
    told = (*operands, walk(conv, axes, stage == "dx", relu))
    return (Launch(told, blocks, kernel=kernel),) if places else ()


def _rows(channels: int) -> int:
    """Of a block: as many as leave few empty."""
    return 128 if channels > 64 else 64 if channels > 32 else 32


def _across(conv: Conv) -> str:
    """Whether channels lie together."""
    return "true" if conv.inner == 1 else "false"
