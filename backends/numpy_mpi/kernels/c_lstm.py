"""The C functions of kernels.lstm: what they are told."""

from __future__ import annotations

from typing import Any

from .c_recurrence import backward, forward
from .layout import Array
from .native import Numbers


def lstm_forward(*arrays: Array, **attrs: Any) -> Numbers | None:
    """x, weights, y, history."""
    return forward(4, arrays, **attrs)


def lstm_dx(*arrays: Array, **attrs: Any) -> Numbers | None:
    """dy, x, weights, history, dx, gradients of the weights."""
    return backward(4, arrays, **attrs)
