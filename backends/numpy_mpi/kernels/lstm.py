"""Long short-term memory: c = f·c' + i·g, h = o·tanh c (S. Hochreiter, J. Schmidhuber, 1997).

Gates lie in PyTorch's order i, f, g, o.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .layout import Array
from .recurrence import Cell, Track, backward, forward, previous, stops


def lstm_forward(*arrays: Array, **attrs: Any) -> None:
    """x [batch, seq, width], weights -> y, history."""
    forward(LSTM, *arrays, **attrs)


def lstm_dx(*arrays: Array, **attrs: Any) -> None:
    """dy, x, weights, history -> dx and the gradients of the weights."""
    backward(LSTM, *arrays, **attrs)


def walk(track: Track, weight: Array, biases: Sequence[Array]) -> None:
    """i, f, o = σ(…) and g = tanh(…), the sigmoid as (1 + tanh(x/2))/2, so that one tanh serves all gates."""
    gates, cells, states = track.gates, track.kept[0], track.states
    scale, shift, bias = halves(gates), 1 - halves(gates), np.add(*biases)[:, None]
    product, carried = np.empty_like(gates[:, 0]), np.empty_like(cells[0])
    for t, (cell, state) in enumerate(zip(cells, states, strict=True)):
        gate = gates[:, t]
        if t:
            np.matmul(states[t - 1], weight, out=product)
            np.add(gate, product, out=gate)
        np.add(gate, bias, out=gate)
        np.multiply(gate, scale, out=gate)
        np.tanh(gate, out=gate)
        np.multiply(gate, scale, out=gate)
        np.add(gate, shift, out=gate)
        i, f, g, o = gate
        np.multiply(i, g, out=cell)
        if t:
            np.multiply(f, cells[t - 1], out=carried)
            np.add(cell, carried, out=cell)
        np.tanh(cell, out=state)
        np.multiply(state, o, out=state)


def walk_back(track: Track, weight: Array, dstates: Array, dinputs: Array, dproducts: Array, truncate: int) -> None:
    """The slopes of all gates first: s·(1 - s) of a sigmoid s, 1 - g² of g."""
    gates, cells = track.gates, track.kept[0]
    sigmoid, tanh = 2 - 2 * halves(gates), 2 * halves(gates) - 1
    product, shine, dcell = np.empty_like(gates[:, 0]), np.empty_like(cells[0]), np.zeros_like(cells[0])
    for t in reversed(range(len(cells))):
        gate, dgate, dstate = gates[:, t], dinputs[:, t], dstates[t]
        i, f, g, o = gate
        np.subtract(sigmoid, gate, out=dgate)
        np.multiply(dgate, gate, out=dgate)
        np.add(dgate, tanh, out=dgate)
        np.tanh(cells[t], out=shine)
        np.multiply(dgate[3], shine, out=dgate[3])
        np.multiply(dgate[3], dstate, out=dgate[3])
        np.multiply(shine, shine, out=shine)  # dc += dh·o·(1 - tanh² c)
        np.subtract(1, shine, out=shine)
        np.multiply(shine, o, out=shine)
        np.multiply(shine, dstate, out=shine)
        np.add(dcell, shine, out=dcell)
        np.multiply(dgate[0], g, out=dgate[0])
        np.multiply(dgate[1], cells[t - 1] if t else 0, out=dgate[1])
        np.multiply(dgate[2], i, out=dgate[2])
        np.multiply(dgate[:3], dcell, out=dgate[:3])
        if stops(t, truncate):
            dcell.fill(0)
        else:
            np.multiply(dcell, f, out=dcell)
            np.matmul(dgate, weight, out=product)
            previous(dstates, product, t)


def halves(gates: Array) -> Array:
    """For each gate 1/2 where it is a sigmoid and 1 where it is tanh."""
    return np.array([0.5, 0.5, 1, 0.5], gates.dtype)[:, None, None]


LSTM = Cell(gates=4, walk=walk, walk_back=walk_back)
