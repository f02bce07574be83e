"""Simple recurrent networks: h = tanh(W·x + b + U·h' + b'), or max(0, …) (J. L. Elman, 1990)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np

from .elementwise import relu_dx, relu_forward, tanh_dx, tanh_forward
from .layout import Array
from .recurrence import Cell, Track, backward, forward, previous, stops

Nonlinearity = Literal["tanh", "relu"]


def rnn_forward(*arrays: Array, nonlinearity: Nonlinearity, **attrs: Any) -> None:
    """x [batch, seq, width], weights -> y, history."""
    forward(CELLS[nonlinearity], *arrays, **attrs)


def rnn_dx(*arrays: Array, nonlinearity: Nonlinearity, **attrs: Any) -> None:
    """dy, x, weights, history -> dx and the gradients of the weights."""
    backward(CELLS[nonlinearity], *arrays, **attrs)


def cell(activate: Callable[[Array, Array], None], activate_dx: Callable[[Array, Array, Array], None]) -> Cell:
    """The cell with an activation: `activate(x, y)`, `activate_dx(dy, y, dx)`."""
    return Cell(gates=1, walk=partial(_walk, activate), walk_back=partial(_walk_back, activate_dx))


def _walk(activate: Callable[[Array, Array], None], track: Track, weight: Array, biases: Sequence[Array]) -> None:
    states, bias, product = track.states, np.add(*biases)[0], np.zeros_like(track.gates[0, 0])
    for t, (total, state) in enumerate(zip(track.gates[0], states, strict=True)):
        if t:
            np.matmul(states[t - 1], weight[0], out=product)
        np.add(total, product, out=total)
        np.add(total, bias, out=total)
        activate(total, state)


def _walk_back(
    activate_dx: Callable[[Array, Array, Array], None],
    track: Track,
    weight: Array,
    dstates: Array,
    dinputs: Array,
    dproducts: Array,
    truncate: int,
) -> None:
    product = np.empty_like(dinputs[:, 0])
    for t in reversed(range(len(dstates))):
        activate_dx(dstates[t], track.states[t], dinputs[0, t])
        if not stops(t, truncate):
            np.matmul(dinputs[:, t], weight, out=product)
            previous(dstates, product, t)


CELLS = {"tanh": cell(tanh_forward, tanh_dx), "relu": cell(relu_forward, relu_dx)}
