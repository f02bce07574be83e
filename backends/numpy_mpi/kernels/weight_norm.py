"""Weight normalisation: w = g·v/‖v‖ for each slice along a weight's first axis.

T. Salimans, D. Kingma, "Weight Normalization", 2016. Both gradients are linear in that of w, so that the gradients of
a rank's samples may pass through and be added up over the ranks afterwards.
"""

from __future__ import annotations

import numpy as np

from .layout import Array


def weight_norm_forward(direction: Array, magnitude: Array, y: Array, **_: object) -> None:
    """direction [out, …], magnitude [out, 1 …] -> y = magnitude·direction/‖direction‖ row by row."""
    np.multiply(direction, magnitude / norms(direction, magnitude), out=y)


def weight_norm_dw(
    dy: Array, direction: Array, magnitude: Array, ddirection: Array, dmagnitude: Array, **_: object
) -> None:
    """dg = Σ dy·v/‖v‖ over the row, dv = g/‖v‖·(dy - v/‖v‖·dg)."""
    norm = norms(direction, magnitude)
    unit = direction / norm
    dmagnitude[...] = np.sum(dy * unit, axis=tuple(range(1, dy.ndim)), keepdims=True)
    np.subtract(dy, unit * dmagnitude, out=ddirection)
    np.multiply(ddirection, magnitude / norm, out=ddirection)


def norms(direction: Array, magnitude: Array) -> Array:
    """‖v‖ of each row, shaped as the magnitude."""
    rows = direction.reshape(direction.shape[0], -1)
    found: Array = np.sqrt(np.einsum("ij,ij->i", rows, rows)).reshape(magnitude.shape)
    return found
