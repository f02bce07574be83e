"""The C functions of kernels.gru: what they are told."""

from __future__ import annotations

from typing import Any

from .c_recurrence import backward, forward
from .layout import Array
from .native import Numbers


def gru_forward(*arrays: Array, **attrs: Any) -> Numbers | None:
    """x, weights, y, history."""
    return forward(3, arrays, **attrs)


def gru_dx(*arrays: Array, **attrs: Any) -> Numbers | None:
    """dy, x, weights, history, dx, gradients of the weights."""
    return backward(3, arrays, **attrs)
