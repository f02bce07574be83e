"""Activations, element by element, in any layout; each is differentiated from its own result."""

from __future__ import annotations

import numpy as np

from .layout import Array


def relu_forward(x: Array, y: Array, **_: object) -> None:
    """y = max(x, 0)."""
    np.maximum(x, 0, out=y)


def relu_dx(dy: Array, y: Array, dx: Array, **_: object) -> None:
    """dx = dy where y > 0, else 0."""
    np.multiply(dy, y > 0, out=dx)


def tanh_forward(x: Array, y: Array, **_: object) -> None:
    """y = tanh x."""
    np.tanh(x, out=y)


def tanh_dx(dy: Array, y: Array, dx: Array, **_: object) -> None:
    """dx = dy·(1 - y²)."""
    np.multiply(y, y, out=dx)
    np.subtract(1, dx, out=dx)
    np.multiply(dx, dy, out=dx)


def sigmoid_forward(x: Array, y: Array, **_: object) -> None:
    """y = 1/(1 + e⁻ˣ), as (1 + tanh(x/2))/2: exact for large |x| too."""
    np.multiply(x, 0.5, out=y)
    np.tanh(y, out=y)
    np.multiply(y, 0.5, out=y)
    np.add(y, 0.5, out=y)


def sigmoid_dx(dy: Array, y: Array, dx: Array, **_: object) -> None:
    """dx = dy·y·(1 - y)."""
    np.subtract(1, y, out=dx)
    np.multiply(dx, y, out=dx)
    np.multiply(dx, dy, out=dx)
