"""Weights packed once for several calls: what packs them, and the kernels that read what was packed.

Packing is for kernels in C, which read weights in the order of their loops. NumPy's read them as they lie: here nothing
is packed, and a kernel that is given what was packed first leaves it alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from .conv_direct import conv_direct_dx, conv_direct_forward
from .conv_fused import (
    conv_relu_direct_dx,
    conv_relu_direct_forward,
    conv_relu_winograd2_dx,
    conv_relu_winograd2_forward,
    conv_relu_winograd4_dx,
    conv_relu_winograd4_forward,
)
from .conv_winograd import (
    conv_winograd2_dx,
    conv_winograd2_forward,
    conv_winograd4_dx,
    conv_winograd4_forward,
)
from .layout import Array
from .linear import linear_dx, linear_forward

Kernel = Callable[..., None]


def _pack(kernel: Kernel) -> Kernel:
    """What packs for a kernel: weight, [bias] -> packed."""

    @wraps(kernel)
    def pack(*arrays: Array, **attrs: Any) -> None:
        """Nothing: nobody here reads it."""

    pack.__name__ = f"{kernel.__name__}_pack"
    return pack


def _packed(kernel: Kernel) -> Kernel:
    """A kernel that takes what was packed for it in front of its other arrays."""

    @wraps(kernel)
    def of_packed(packed: Array, *arrays: Array, **attrs: Any) -> None:
        kernel(*arrays, **attrs)

    of_packed.__name__ = f"{kernel.__name__}_packed"
    return of_packed


conv_direct_forward_pack = _pack(conv_direct_forward)
conv_direct_dx_pack = _pack(conv_direct_dx)
conv_winograd2_forward_pack = _pack(conv_winograd2_forward)
conv_winograd2_dx_pack = _pack(conv_winograd2_dx)
conv_winograd4_forward_pack = _pack(conv_winograd4_forward)
conv_winograd4_dx_pack = _pack(conv_winograd4_dx)
linear_forward_pack = _pack(linear_forward)
linear_dx_pack = _pack(linear_dx)

conv_direct_forward_packed = _packed(conv_direct_forward)
conv_direct_dx_packed = _packed(conv_direct_dx)
conv_winograd2_forward_packed = _packed(conv_winograd2_forward)
conv_winograd2_dx_packed = _packed(conv_winograd2_dx)
conv_winograd4_forward_packed = _packed(conv_winograd4_forward)
conv_winograd4_dx_packed = _packed(conv_winograd4_dx)
conv_relu_direct_forward_packed = _packed(conv_relu_direct_forward)
conv_relu_direct_dx_packed = _packed(conv_relu_direct_dx)
conv_relu_winograd2_forward_packed = _packed(conv_relu_winograd2_forward)
conv_relu_winograd2_dx_packed = _packed(conv_relu_winograd2_dx)
conv_relu_winograd4_forward_packed = _packed(conv_relu_winograd4_forward)
conv_relu_winograd4_dx_packed = _packed(conv_relu_winograd4_dx)
linear_forward_packed = _packed(linear_forward)
linear_dx_packed = _packed(linear_dx)
