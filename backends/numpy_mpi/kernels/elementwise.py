"""Activations, element by element, in any layout; each is differentiated from its own result or from its operand."""

from __future__ import annotations

from collections.abc import Iterator
from math import pi, sqrt
from typing import Literal

import numpy as np

from .erf import erf
from .layout import Array

BLOCK = 8192
"""Elements that are worked on at a time where that takes several passes: their scratch arrays stay in the cache."""


def relu_forward(x: Array, y: Array, **_: object) -> None:
    """y = max(x, 0)."""
    np.maximum(x, 0, out=y)


def relu_dx(dy: Array, y: Array, dx: Array, **_: object) -> None:
    """dx = dy where y > 0, else 0."""
    np.multiply(dy, y > 0, out=dx)


def leaky_relu_forward(x: Array, y: Array, *, slope: float, **_: object) -> None:
    """y = x where x > 0, else slope·x."""
    np.multiply(x, slope, out=y)
    np.copyto(y, x, where=x > 0)


def leaky_relu_dx(dy: Array, y: Array, dx: Array, *, slope: float, **_: object) -> None:
    """dx = dy where y > 0, else slope·dy."""
    np.multiply(dy, slope, out=dx)
    np.copyto(dx, dy, where=y > 0)


def elu_forward(x: Array, y: Array, *, alpha: float, **_: object) -> None:
    """y = x where x > 0, else alpha·(eˣ - 1)."""
    np.minimum(x, 0, out=y)
    np.expm1(y, out=y)
    np.multiply(y, alpha, out=y)
    np.copyto(y, x, where=x > 0)


def elu_dx(dy: Array, y: Array, dx: Array, *, alpha: float, **_: object) -> None:
    """dx = dy where y > 0, else dy·(y + alpha)."""
    np.add(y, alpha, out=dx)
    np.multiply(dx, dy, out=dx)
    np.copyto(dx, dy, where=y > 0)


def tanh_forward(x: Array, y: Array, **_: object) -> None:
    """y = tanh x."""
    np.tanh(x, out=y)


def tanh_dx(dy: Array, y: Array, dx: Array, **_: object) -> None:
    """dx = dy·(1 - y²)."""
    np.multiply(y, y, out=dx)
    np.subtract(1, dx, out=dx)
    np.multiply(dx, dy, out=dx)


def sigmoid_forward(x: Array, y: Array, **_: object) -> None:
    """y = 1/(1 + e⁻ˣ), to full relative precision: where e⁻ˣ overflows y is 0, as it should be."""
    np.negative(x, out=y)
    with np.errstate(over="ignore"):
        np.exp(y, out=y)
    np.add(y, 1, out=y)
    np.divide(1, y, out=y)


def sigmoid_dx(dy: Array, y: Array, dx: Array, **_: object) -> None:
    """dx = dy·y·(1 - y)."""
    np.subtract(1, y, out=dx)
    np.multiply(dx, y, out=dx)
    np.multiply(dx, dy, out=dx)


def silu_forward(x: Array, y: Array, **_: object) -> None:
    """y = x/(1 + e⁻ˣ)."""
    sigmoid_forward(x, y)
    np.multiply(y, x, out=y)


def silu_dx(dy: Array, x: Array, dx: Array, **_: object) -> None:
    """dx = dy·s·(1 + x·(1 - s)), s being the sigmoid of x."""
    for dy_, x_, dx_ in blocks(dy, x, dx):
        sigmoid_forward(x_, dx_)
        slope = 1 + x_ * (1 - dx_)
        np.multiply(dx_, slope, out=dx_)
        np.multiply(dx_, dy_, out=dx_)


def hard_swish_forward(x: Array, y: Array, **_: object) -> None:
    """y = x·min(max(x + 3, 0), 6)/6."""
    np.add(x, 3, out=y)
    np.clip(y, 0, 6, out=y)
    np.multiply(y, x, out=y)
    np.divide(y, 6, out=y)


def hard_swish_dx(dy: Array, x: Array, dx: Array, **_: object) -> None:
    """dx = 0 where x <= -3, dy where x >= 3, else dy·(2x + 3)/6."""
    np.multiply(x, 1 / 3, out=dx)
    np.add(dx, 0.5, out=dx)
    np.copyto(dx, 0, where=x <= -3)
    np.copyto(dx, 1, where=x >= 3)
    np.multiply(dx, dy, out=dx)


def gelu_forward(x: Array, y: Array, *, approximate: Literal["none", "tanh"], **_: object) -> None:
    """y = x·Φ(x), Φ the distribution function of the normal distribution or its approximation by tanh."""
    for x_, y_ in blocks(x, y):
        np.multiply(_distribution(x_, approximate), x_, out=y_)


def gelu_dx(dy: Array, x: Array, dx: Array, *, approximate: Literal["none", "tanh"], **_: object) -> None:
    """dx = dy·(Φ(x) + x·Φ'(x))."""
    for dy_, x_, dx_ in blocks(dy, x, dx):
        below = _distribution(x_, approximate)
        np.multiply(_density(x_, below, approximate), x_, out=dx_)
        np.add(dx_, below, out=dx_)
        np.multiply(dx_, dy_, out=dx_)


CUBIC = 0.044715
"""Of the approximation Φ(x) ~ (1 + tanh(√(2/π)·(x + 0.044715·x³)))/2 (D. Hendrycks, K. Gimpel, 2016)."""


def _distribution(x: Array, approximate: str) -> Array:
    """Φ(x), a new array."""
    found = np.tanh(sqrt(2 / pi) * x * (1 + CUBIC * x * x)) if approximate == "tanh" else erf(sqrt(0.5) * x)
    np.add(found, 1, out=found)
    return np.multiply(found, 0.5, out=found)


def _density(x: Array, below: Array, approximate: str) -> Array:
    """Φ'(x), a new array; `below` is Φ(x)."""
    if approximate == "tanh":
        found = below * (1 - below) * (1 + 3 * CUBIC * x * x)
        return np.multiply(found, sqrt(8 / pi), out=found)
    found: Array = np.exp(-0.5 * x * x)
    return np.multiply(found, 1 / sqrt(2 * pi), out=found)


def blocks(*arrays: Array) -> Iterator[tuple[Array, ...]]:
    """Contiguous arrays of one size, in matching stretches of at most BLOCK elements."""
    flat = [array.reshape(-1) for array in arrays]
    for start in range(0, flat[0].size, BLOCK):
        yield tuple(array[start : start + BLOCK] for array in flat)
