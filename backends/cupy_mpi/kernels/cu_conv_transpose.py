"""Transposed convolution, by the kernels of the convolution whose input's gradient it is.

Its forward pass is that convolution's dx, its dx that convolution's forward pass; dw is its dw, with x in dy's place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import cu_conv_direct, cu_conv_im2col
from .cu_conv_parts import conv_bias_gradient, optional_bias
from .launch import Array, Steps


def conv_transpose_direct_forward(*arrays: Array, bias: bool = False, **attrs: Any) -> Steps | None:
    """x, weight, [bias] -> y."""
    x, weight, *rest = arrays
    added, y = optional_bias(rest, bias), rest[0]
    return cu_conv_direct.backward(x, weight, added, y, **attrs)


def conv_transpose_direct_dx(*arrays: Array, bias: bool = False, **attrs: Any) -> Steps | None:
    """dy, weight -> dx."""
    dy, weight, dx, *_ = arrays
    return cu_conv_direct.forward(dy, weight, None, dx, **attrs)


def conv_transpose_direct_dw(*arrays: Array, bias: bool = False, **attrs: Any) -> Steps | None:
    """dy, x -> dweight, [dbias]."""
    return _dw(cu_conv_direct.weights, arrays, bias, **attrs)


def conv_transpose_im2col_forward(*arrays: Array, bias: bool = False, **attrs: Any) -> Steps | None:
    """x, weight, [bias] -> y."""
    x, weight, *rest = arrays
    added, y = optional_bias(rest, bias), rest[0]
    steps = cu_conv_im2col.backward(x, weight, y, **attrs)
    return None if steps is None else (*steps, *cu_conv_im2col.add_bias(y, added, attrs.get("layout", "NCHW")))


def conv_transpose_im2col_dx(*arrays: Array, bias: bool = False, **attrs: Any) -> Steps | None:
    """dy, weight -> dx."""
    dy, weight, dx, *_ = arrays
    return cu_conv_im2col.forward(dy, weight, dx, **attrs)


def conv_transpose_im2col_dw(*arrays: Array, bias: bool = False, **attrs: Any) -> Steps | None:
    """dy, x -> dweight, [dbias]."""
    return _dw(cu_conv_im2col.weights, arrays, bias, **attrs)


def _dw(weights: Callable[..., Steps | None], arrays: tuple[Array, ...], bias: bool, **attrs: Any) -> Steps | None:
    dy, x, dweight, *rest = arrays
    steps = weights(x, dy, dweight, **attrs)
    if steps is None:
        return None
    return (*steps, *conv_bias_gradient(dy, optional_bias(rest, bias), attrs.get("layout", "NCHW")))
