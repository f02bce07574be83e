"""Gated recurrent units: h = n + z·(h' - n), n = tanh(W·x + b + r·(U·h' + b')) (K. Cho et al., 2014).

Gates lie in PyTorch's order r, z, n. Kept is U·h' + b', which r multiplies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .elementwise import sigmoid_forward
from .layout import Array
from .recurrence import Cell, Track, backward, forward, previous, stops


def gru_forward(*arrays: Array, **attrs: Any) -> None:
    """x [batch, seq, width], weights -> y, history."""
    forward(GRU, *arrays, **attrs)


def gru_dx(*arrays: Array, **attrs: Any) -> None:
    """dy, x, weights, history -> dx and the gradients of the weights."""
    backward(GRU, *arrays, **attrs)


def walk(track: Track, weight: Array, biases: Sequence[Array]) -> None:
    """Gates and states; the product of the state and U is zero at first."""
    gates, states, (own, others) = track.gates, track.states, (bias[:, None] for bias in biases)
    product, start = np.zeros_like(gates[:, 0]), np.zeros_like(states[0])
    for t, (reset_sum, state) in enumerate(zip(track.kept[0], states, strict=True)):
        gate, before = gates[:, t], states[t - 1] if t else start
        if t:
            np.matmul(before, weight, out=product)
        np.add(product[2], others[2], out=reset_sum)
        np.add(gate, own, out=gate)
        both = gate[:2]
        np.add(both, product[:2], out=both)
        np.add(both, others[:2], out=both)
        sigmoid_forward(both, both)
        r, z, n = gate
        np.multiply(r, reset_sum, out=state)
        np.add(n, state, out=n)
        np.tanh(n, out=n)
        np.subtract(before, n, out=state)
        np.multiply(state, z, out=state)
        np.add(state, n, out=state)


def walk_back(track: Track, weight: Array, dstates: Array, dinputs: Array, dproducts: Array, truncate: int) -> None:
    """The products' third part is r times the inputs', for r stands between the state's projection and n."""
    gates, sums, states = track.gates, track.kept[0], track.states
    product, carried, start = np.empty_like(gates[:, 0]), np.empty_like(sums[0]), np.zeros_like(sums[0])
    for t in reversed(range(len(states))):
        (r, z, n), dstate, before = gates[:, t], dstates[t], states[t - 1] if t else start
        dr, dz, dn = dinputs[:, t]
        np.multiply(dstate, z, out=carried)
        np.subtract(dstate, carried, out=dn)  # dh·(1 - z)·(1 - n²)
        np.multiply(n, n, out=dr)
        np.subtract(1, dr, out=dr)
        np.multiply(dn, dr, out=dn)
        np.subtract(before, n, out=dz)  # dh·(h' - n)·z·(1 - z)
        np.subtract(1, z, out=dr)
        np.multiply(dz, dr, out=dz)
        np.multiply(dz, carried, out=dz)
        np.multiply(dn, r, out=dproducts[2, t])
        np.subtract(1, r, out=dr)  # dn·(U·h' + b')·r·(1 - r)
        np.multiply(dr, sums[t], out=dr)
        np.multiply(dr, dproducts[2, t], out=dr)
        np.copyto(dproducts[:2, t], dinputs[:2, t])
        if not stops(t, truncate):
            np.matmul(dproducts[:, t], weight, out=product)
            np.add(product[0], carried, out=product[0])
            previous(dstates, product, t)


GRU = Cell(gates=3, walk=walk, walk_back=walk_back, adds=False)
