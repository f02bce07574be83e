"""What stands for the convolutions of cuDNN, which a program on a GPU calls: the same results up to rounding."""

from __future__ import annotations

from typing import Any

import numpy as np

from .conv_implicit import conv_implicit_gemm_dw, conv_implicit_gemm_dx, conv_implicit_gemm_forward
from .layout import Array


def conv_cudnn_forward(*arrays: Array, **attrs: Any) -> None:
    """x, weight, [bias] -> y; the workspace behind them is the library's."""
    conv_implicit_gemm_forward(*arrays[:-1], **attrs)


def conv_cudnn_dx(*arrays: Array, **attrs: Any) -> None:
    """dy, weight -> dx."""
    conv_implicit_gemm_dx(*arrays[:-1], **attrs)


def conv_cudnn_dw(*arrays: Array, **attrs: Any) -> None:
    """dy, x -> dweight, [dbias]."""
    conv_implicit_gemm_dw(*arrays[:-1], **attrs)


def conv_relu_cudnn_forward(*arrays: Array, **attrs: Any) -> None:
    """x, weight, [bias] -> y = max(conv(x), 0)."""
    conv_cudnn_forward(*arrays, **attrs)
    np.maximum(arrays[-2], 0, out=arrays[-2])
