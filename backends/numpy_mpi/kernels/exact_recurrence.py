"""Exact stand-ins of recurrent cells: the same walks with folded integers in place of activations and slopes.

What surrounds the cells is the real code. See `exact` for what stand-ins are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .exact import activation_dx, fold, folded, relu_forward, tanh_forward
from .layout import Array
from .recurrence import Cell, Track, backward, forward, previous, stops
from .rnn import cell


def rnn_forward(*arrays: Array, nonlinearity: str, **attrs: Any) -> None:
    """As the real kernel."""
    forward(RNN[nonlinearity], *arrays, **attrs)


def rnn_dx(*arrays: Array, nonlinearity: str, **attrs: Any) -> None:
    """As the real kernel."""
    backward(RNN[nonlinearity], *arrays, **attrs)


def lstm_forward(*arrays: Array, **attrs: Any) -> None:
    """As the real kernel."""
    forward(LSTM, *arrays, **attrs)


def lstm_dx(*arrays: Array, **attrs: Any) -> None:
    """As the real kernel."""
    backward(LSTM, *arrays, **attrs)


def gru_forward(*arrays: Array, **attrs: Any) -> None:
    """As the real kernel."""
    forward(GRU, *arrays, **attrs)


def gru_dx(*arrays: Array, **attrs: Any) -> None:
    """As the real kernel."""
    backward(GRU, *arrays, **attrs)


def lstm_walk(track: Track, weight: Array, biases: Sequence[Array]) -> None:
    """c = f·c' + i·g and h = o·(c + 1), everything folded."""
    before = carried = np.zeros_like(track.kept[0, 0])
    for t, (cell_, state) in enumerate(zip(track.kept[0], track.states, strict=True)):
        i, f, g, o = gate = track.gates[:, t]
        fold(gate + before @ weight + np.add(*biases)[:, None], gate)
        fold(f * carried + i * g, cell_)
        fold(o * (cell_ + 1), state)
        before, carried = state, cell_


def lstm_walk_back(
    track: Track, weight: Array, dstates: Array, dinputs: Array, dproducts: Array, truncate: int
) -> None:
    """dc += dh·o; the gates' are dc·g, dc·c', dc·i and dh·c, everything folded."""
    cells, dcell = track.kept[0], np.zeros_like(dstates[0])
    for t in reversed(range(len(dstates))):
        (i, f, g, o), dstate = track.gates[:, t], folded(dstates[t])
        dcell = folded(dcell + dstate * o)
        parts = (dcell * g, dcell * (cells[t - 1] if t else 0), dcell * i, dstate * cells[t])
        fold(np.stack(parts), dinputs[:, t])
        if stops(t, truncate):
            dcell = np.zeros_like(dcell)
        else:
            dcell = folded(dcell * f)
            previous(dstates, dinputs[:, t] @ weight, t)


def gru_walk(track: Track, weight: Array, biases: Sequence[Array]) -> None:
    """n = … + r·(U·h' + b') and h = n + z·(h' - n), everything folded."""
    before = np.zeros_like(track.states[0])
    for t, (kept, state) in enumerate(zip(track.kept[0], track.states, strict=True)):
        r, z, n = gate = track.gates[:, t]
        product = before @ weight + biases[1][:, None]
        fold(product[2], kept)
        fold(gate + np.stack([product[0], product[1], 0 * n]) + biases[0][:, None], gate)
        fold(n + r * kept, n)
        fold(n + z * (before - n), state)
        before = state


def gru_walk_back(track: Track, weight: Array, dstates: Array, dinputs: Array, dproducts: Array, truncate: int) -> None:
    """The gates' are dn·(U·h' + b'), dh·(h' - n) and dh·(1 - z), the third product's dn·r, everything folded."""
    start = np.zeros_like(dstates[0])
    for t in reversed(range(len(dstates))):
        (r, z, n), dstate, before = track.gates[:, t], folded(dstates[t]), track.states[t - 1] if t else start
        dn = folded(dstate * (1 - z))
        fold(np.stack([dn * track.kept[0, t], dstate * (before - n), dn]), dinputs[:, t])
        fold(np.stack([dinputs[0, t], dinputs[1, t], dn * r]), dproducts[:, t])
        if not stops(t, truncate):
            previous(dstates, dproducts[:, t] @ weight, t)
            np.add(dstates[t - 1], dstate * z, out=dstates[t - 1])


RNN = {"tanh": cell(tanh_forward, activation_dx), "relu": cell(relu_forward, activation_dx)}
LSTM = Cell(gates=4, walk=lstm_walk, walk_back=lstm_walk_back)
GRU = Cell(gates=3, walk=gru_walk, walk_back=gru_walk_back, adds=False)
