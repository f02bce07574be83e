"""The C functions of kernels.rnn: what they are told."""

from __future__ import annotations

from typing import Any

from .c_recurrence import backward, forward
from .layout import Array
from .native import Numbers


def rnn_forward(*arrays: Array, **attrs: Any) -> Numbers | None:
    """x, weights, y, history."""
    return forward(1, arrays, **attrs)


def rnn_dx(*arrays: Array, **attrs: Any) -> Numbers | None:
    """dy, x, weights, history, dx, gradients of the weights."""
    return backward(1, arrays, **attrs)
