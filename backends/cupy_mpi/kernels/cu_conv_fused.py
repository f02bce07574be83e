"""Convolution together with ReLU: sums pass it, or count where what it gave is above 0, before they are stored."""

from __future__ import annotations

from functools import partial
from typing import Any

from . import cu_conv_direct, cu_conv_implicit, cu_conv_winograd
from .cu_conv_parts import optional_bias
from .launch import Array, Steps


def conv_relu_direct_forward(*arrays: Array, bias: bool = False, **attrs: Any) -> Steps | None:
    """x, weight, [bias] -> y = max(conv(x), 0)."""
    x, weight, *rest = arrays
    added, y = optional_bias(rest, bias), rest[0]
    return cu_conv_direct.forward(x, weight, added, y, relu=True, **attrs)


def conv_relu_direct_dx(
    dy: Array, weight: Array, y: Array, dx: Array, *_: Array, bias: bool = False, **attrs: Any
) -> Steps | None:
    """dy, weight, what ReLU gave -> dx, which counts where that is above 0."""
    return cu_conv_direct.backward(dy, weight, None, dx, mask=y, **attrs)


def conv_relu_implicit_gemm_dx(dy: Array, weight: Array, y: Array, dx: Array, *_: Array, **attrs: Any) -> Steps | None:
    """dy, weight, what ReLU gave -> dx, which counts where that is above 0."""
    return cu_conv_implicit.conv_implicit_gemm_dx(dy, weight, dx, mask=y, **attrs)


def _winograd_dx(m: int, dy: Array, weight: Array, y: Array, dx: Array, *_: Array, **attrs: Any) -> Steps | None:
    return cu_conv_winograd.dx(m, dy, weight, dx, mask=y, **attrs)


conv_relu_implicit_gemm_forward = partial(cu_conv_implicit.conv_implicit_gemm_forward, relu=True)
conv_relu_winograd2_forward = partial(cu_conv_winograd.forward, 2, relu=True)
conv_relu_winograd4_forward = partial(cu_conv_winograd.forward, 4, relu=True)
conv_relu_winograd2_dx, conv_relu_winograd4_dx = partial(_winograd_dx, 2), partial(_winograd_dx, 4)
