"""What softmax and its logarithm in C are told: how the axis lies in memory."""

from __future__ import annotations

from math import prod

from .layout import Array, physical_axis
from .native import Numbers


def along_axis(x: Array, *_: Array, axis: int, layout: str = "NCHW", **_told: object) -> Numbers:
    """Extents outside of the axis, along it and inside it."""
    at = physical_axis(axis, layout, x.ndim) % x.ndim
    return Numbers((prod(x.shape[:at]), x.shape[at], prod(x.shape[at + 1 :])))


softmax_forward = softmax_dx = log_softmax_forward = log_softmax_dx = along_axis
