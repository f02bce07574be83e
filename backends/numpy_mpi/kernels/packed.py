"""Weights packed once for several calls: what packs them, and the kernels that read what was packed.

Packing is for kernels in C (`c_packed`), which read weights in the order of their loops. NumPy's read them as they lie:
here nothing is packed, and a kernel that is given what was packed first leaves it alone.
"""

from __future__ import annotations

from collections.abc import Callable
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

Kernel = Callable[..., None]


def _pack(name: str) -> Kernel:
    def pack(*arrays: Array, **attrs: Any) -> None:
        """weight, [bias] -> packed: nothing to do, nobody here reads that."""

    pack.__name__ = name
    return pack


def _packed(kernel: Kernel) -> Kernel:
    def of_packed(packed: Array, *arrays: Array, **attrs: Any) -> None:
        """packed, then what the kernel takes."""
        kernel(*arrays, **attrs)

    of_packed.__name__ = f"{kernel.__name__}_packed"
    return of_packed


conv_direct_forward_pack = _pack("conv_direct_forward_pack")
conv_direct_dx_pack = _pack("conv_direct_dx_pack")
conv_winograd2_forward_pack = _pack("conv_winograd2_forward_pack")
conv_winograd2_dx_pack = _pack("conv_winograd2_dx_pack")
conv_winograd4_forward_pack = _pack("conv_winograd4_forward_pack")
conv_winograd4_dx_pack = _pack("conv_winograd4_dx_pack")

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
