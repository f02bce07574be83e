"""Convolution together with ReLU: its result behind it, or the gradient of what stands before it.

They give what the kernels of the single ops give one after the other; in C the sums are changed before they are stored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .conv_direct import conv_direct_dx, conv_direct_forward
from .conv_implicit import conv_implicit_gemm_dx, conv_implicit_gemm_forward
from .conv_winograd import (
    conv_winograd2_dx,
    conv_winograd2_forward,
    conv_winograd4_dx,
    conv_winograd4_forward,
)
from .layout import Array

Convolution = Callable[..., None]


def conv_relu_direct_forward(*arrays: Array, **attrs: Any) -> None:
    """x, weight, [bias] -> y = max(conv(x), 0)."""
    _forward(conv_direct_forward, arrays, attrs)


def conv_relu_implicit_gemm_forward(*arrays: Array, **attrs: Any) -> None:
    """x, weight, [bias] -> y = max(conv(x), 0)."""
    _forward(conv_implicit_gemm_forward, arrays, attrs)


def conv_relu_implicit_gemm_dx(*arrays: Array, **attrs: Any) -> None:
    """dy, weight, what ReLU gave -> dx, which counts where that is above 0."""
    _dx(conv_implicit_gemm_dx, arrays, attrs)


def conv_relu_winograd2_forward(*arrays: Array, **attrs: Any) -> None:
    """x, weight, [bias] -> y = max(conv(x), 0)."""
    _forward(conv_winograd2_forward, arrays, attrs)


def conv_relu_winograd4_forward(*arrays: Array, **attrs: Any) -> None:
    """x, weight, [bias] -> y = max(conv(x), 0)."""
    _forward(conv_winograd4_forward, arrays, attrs)


def conv_relu_direct_dx(*arrays: Array, **attrs: Any) -> None:
    """dy, weight, what ReLU gave -> dx, which counts where that is above 0."""
    _dx(conv_direct_dx, arrays, attrs)


def conv_relu_winograd2_dx(*arrays: Array, **attrs: Any) -> None:
    """dy, weight, what ReLU gave -> dx, which counts where that is above 0."""
    _dx(conv_winograd2_dx, arrays, attrs)


def conv_relu_winograd4_dx(*arrays: Array, **attrs: Any) -> None:
    """dy, weight, what ReLU gave -> dx, which counts where that is above 0."""
    _dx(conv_winograd4_dx, arrays, attrs)


def _forward(convolution: Convolution, arrays: tuple[Array, ...], attrs: dict[str, Any]) -> None:
    convolution(*arrays, **attrs)
    y = arrays[3 if attrs.get("bias", False) else 2]
    np.maximum(y, 0, out=y)


def _dx(convolution: Convolution, arrays: tuple[Array, ...], attrs: dict[str, Any]) -> None:
    dy, weight, y, dx, *rest = arrays
    convolution(dy, weight, dx, *rest, **attrs)
    np.multiply(dx, y > 0, out=dx)
