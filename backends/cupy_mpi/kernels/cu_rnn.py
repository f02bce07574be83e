"""Steps of simple recurrent networks."""

from __future__ import annotations

from typing import Any

from .cu_recurrence import Cell, backward, forward
from .launch import Array, Steps

CELLS = {
    "tanh": Cell("rnn_forward_cell", "rnn_dx_cell", gates=1, before_is_state=True),
    "relu": Cell("rnn_forward_cell_relu", "rnn_dx_cell_relu", gates=1, before_is_state=True),
}


def rnn_forward(*arrays: Array, nonlinearity: str, **attrs: Any) -> Steps | None:
    """x, weights -> y, history."""
    return forward(CELLS[nonlinearity], *arrays, **attrs)


def rnn_dx(*arrays: Array, nonlinearity: str, **attrs: Any) -> Steps | None:
    """dy, x, weights, history -> dx and the gradients of the weights."""
    return backward(CELLS[nonlinearity], *arrays, **attrs)
