"""Transposed convolution, by the kernels of the convolution whose input's gradient it is.

Its forward pass is that convolution's dx, its dx that convolution's forward pass; dw is its dw, with x in dy's place.
Workspaces are those of the convolution's kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .conv_direct import conv_direct_dw, conv_direct_dx, conv_direct_forward
from .conv_im2col import conv_im2col_dw, conv_im2col_dx, conv_im2col_forward
from .conv_matrices import add_bias, bias_gradient
from .layout import Array

Convolution = Callable[..., None]


def conv_transpose_direct_forward(*arrays: Array, **attrs: Any) -> None:
    """x, weight, [bias] -> y."""
    _forward(conv_direct_dx, arrays, **attrs)


def conv_transpose_direct_dx(*arrays: Array, **attrs: Any) -> None:
    """dy, weight -> dx."""
    conv_direct_forward(*arrays, **_of_convolution(**attrs))


def conv_transpose_direct_dw(*arrays: Array, **attrs: Any) -> None:
    """dy, x -> dweight, [dbias]."""
    _dw(conv_direct_dw, arrays, **attrs)


def conv_transpose_im2col_forward(*arrays: Array, **attrs: Any) -> None:
    """x, weight, [bias] -> y."""
    _forward(conv_im2col_dx, arrays, **attrs)


def conv_transpose_im2col_dx(*arrays: Array, **attrs: Any) -> None:
    """dy, weight -> dx."""
    conv_im2col_forward(*arrays, **_of_convolution(**attrs))


def conv_transpose_im2col_dw(*arrays: Array, **attrs: Any) -> None:
    """dy, x -> dweight, [dbias]."""
    _dw(conv_im2col_dw, arrays, **attrs)


def _forward(dx: Convolution, arrays: tuple[Array, ...], *, bias: bool, layout: str = "NCHW", **attrs: Any) -> None:
    x, weight, *rest = arrays
    added = rest.pop(0) if bias else None
    dx(x, weight, *rest, **_of_convolution(**attrs), layout=layout)
    add_bias(rest[0], added, layout)


def _dw(dw: Convolution, arrays: tuple[Array, ...], *, bias: bool, layout: str = "NCHW", **attrs: Any) -> None:
    dy, x, dweight, *rest = arrays
    bias_gradient(dy, rest.pop(0) if bias else None, layout)
    dw(x, dy, dweight, *rest, **_of_convolution(**attrs), layout=layout)


def _of_convolution(*, output_pad: object, bias: bool = False, **attrs: Any) -> dict[str, Any]:
    """The convolution's attributes: its arrays say how long x and y are, and it has no bias."""
    return {**attrs, "bias": False}
