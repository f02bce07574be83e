"""Activations, element by element, in any layout; each is differentiated from its own result or from its operand.

Cases are chosen by arithmetic, not by masks: copying where a mask is true takes NumPy up to a hundred times as long.
Results may lie where operands do, as the table of runtime/in_place.py says.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import pi, sqrt
from typing import Literal

import numpy as np

from .erf import erf
from .layout import Array

BLOCK = 2**15
"""Elements that are worked on at a time where that takes several passes: their scratch arrays stay in the cache."""

ROOM = 2**14
"""Elements of slopes: the allocator has so many at hand."""


def relu_forward(x: Array, y: Array, **_: object) -> None:
    """y = max(x, 0)."""
    np.maximum(x, 0, out=y)


def relu_dx(dy: Array, y: Array, dx: Array, **_: object) -> None:
    """dx = dy where y > 0, else 0."""
    np.multiply(dy, y > 0, out=dx)


def leaky_relu_forward(x: Array, y: Array, *, slope: float, **_: object) -> None:
    """y = x where x > 0, else slope·x: the larger one, or with a slope above 1 the smaller one."""
    np.multiply(x, slope, out=y)
    (np.maximum if slope <= 1 else np.minimum)(x, y, out=y)


def leaky_relu_dx(dy: Array, y: Array, dx: Array, *, slope: float, **_: object) -> None:
    """dx = dy where y > 0, else slope·dy."""
    for dy_, y_, dx_, times in _with_slopes(dy, y, dx):
        if slope <= 1:
            np.greater(y_, 0, out=times)
            np.maximum(times, slope, out=times)
        else:
            np.less_equal(y_, 0, out=times)
            np.multiply(times, slope, out=times)
            np.maximum(times, 1, out=times)
        np.multiply(times, dy_, out=dx_)


def elu_forward(x: Array, y: Array, *, alpha: float, **_: object) -> None:
    """y = x where x > 0, else alpha·(eˣ - 1): the sum of both, for one of them is 0."""
    for x_, y_ in blocks(x, y):
        np.minimum(x_, 0, out=y_)
        np.expm1(y_, out=y_)
        np.multiply(y_, alpha, out=y_)
        np.add(y_, np.maximum(x_, 0), out=y_)


def elu_dx(dy: Array, y: Array, dx: Array, *, alpha: float, **_: object) -> None:
    """dx = dy where y > 0, else dy·(y + alpha)."""
    for dy_, y_, dx_, slope in _with_slopes(dy, y, dx, BLOCK):
        np.minimum(y_, 0, out=slope)
        np.add(slope, alpha, out=slope)
        if alpha != 1:
            np.add(slope, np.multiply(y_ > 0, 1 - alpha, dtype=slope.dtype), out=slope)
        np.multiply(slope, dy_, out=dx_)


def tanh_forward(x: Array, y: Array, **_: object) -> None:
    """y = tanh x."""
    np.tanh(x, out=y)


def tanh_dx(dy: Array, y: Array, dx: Array, **_: object) -> None:
    """dx = dy·(1 - y²)."""
    for dy_, y_, dx_, slope in _with_slopes(dy, y, dx):
        np.multiply(y_, y_, out=slope)
        np.subtract(1, slope, out=slope)
        np.multiply(slope, dy_, out=dx_)


def sigmoid_forward(x: Array, y: Array, **_: object) -> None:
    """y = 1/(1 + e⁻ˣ), to full relative precision: where e⁻ˣ overflows y is 0, as it should be."""
    np.multiply(x, -1, out=y)  # np.negative of NumPy 2.4 is wrong on views of every 4th float32 or 8th float64
    with np.errstate(over="ignore"):
        np.exp(y, out=y)
    np.add(y, 1, out=y)
    np.divide(1, y, out=y)


def sigmoid_dx(dy: Array, y: Array, dx: Array, **_: object) -> None:
    """dx = dy·y·(1 - y)."""
    for dy_, y_, dx_, slope in _with_slopes(dy, y, dx):
        np.subtract(1, y_, out=slope)
        np.multiply(slope, y_, out=slope)
        np.multiply(slope, dy_, out=dx_)


def silu_forward(x: Array, y: Array, **_: object) -> None:
    """y = x/(1 + e⁻ˣ)."""
    sigmoid_forward(x, y)
    np.multiply(y, x, out=y)


def silu_dx(dy: Array, x: Array, dx: Array, **_: object) -> None:
    """dx = dy·s·(1 + x·(1 - s)), s being the sigmoid of x."""
    for dy_, x_, dx_, slope in _with_slopes(dy, x, dx, BLOCK):
        sigmoid_forward(x_, slope)
        np.multiply(slope, 1 + x_ * (1 - slope), out=slope)
        np.multiply(slope, dy_, out=dx_)


def hard_swish_forward(x: Array, y: Array, **_: object) -> None:
    """y = x·min(max(x + 3, 0), 6)/6."""
    np.add(x, 3, out=y)
    np.clip(y, 0, 6, out=y)
    np.multiply(y, x, out=y)
    np.divide(y, 6, out=y)


def hard_swish_dx(dy: Array, x: Array, dx: Array, **_: object) -> None:
    """dx = 0 where x <= -3, dy where x >= 3, else dy·(2x + 3)/6."""
    for dy_, x_, dx_, slope in _with_slopes(dy, x, dx, BLOCK):
        np.clip(x_, -3, 3, out=slope)
        np.multiply(slope, 1 / 3, out=slope)
        np.add(slope, 0.5, out=slope)
        np.multiply(slope, np.abs(x_) < 3, out=slope)
        np.add(slope, x_ >= 3, out=slope)
        np.multiply(slope, dy_, out=dx_)


def gelu_forward(x: Array, y: Array, *, approximate: Literal["none", "tanh"], **_: object) -> None:
    """y = x·Φ(x), Φ the distribution function of the normal distribution or its approximation by tanh."""
    for x_, y_ in blocks(x, y):
        np.multiply(_distribution(x_, approximate), x_, out=y_)


def gelu_dx(dy: Array, x: Array, dx: Array, *, approximate: Literal["none", "tanh"], **_: object) -> None:
    """dx = dy·(Φ(x) + x·Φ'(x))."""
    for dy_, x_, dx_ in blocks(dy, x, dx):
        below = _distribution(x_, approximate)
        slope = _density(x_, below, approximate)
        np.multiply(slope, x_, out=slope)
        np.add(slope, below, out=slope)
        np.multiply(slope, dy_, out=dx_)


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
        slope: Array = below * (1 - below) * (1 + 3 * CUBIC * x * x)
        return np.multiply(slope, sqrt(8 / pi), out=slope)
    found: Array = np.exp(-0.5 * x * x)
    return np.multiply(found, 1 / sqrt(2 * pi), out=found)


def _with_slopes(dy: Array, kept: Array, dx: Array, block: int = 0) -> Iterator[tuple[Array, Array, Array, Array]]:
    """The arrays, at most so many elements at a time where that is said, and where to work out the slope: in dx, or,
    where that lies in the place of another, in an array that stays in the cache."""
    if not (np.may_share_memory(dy, dx) or np.may_share_memory(kept, dx)):
        for dy_, kept_, dx_ in blocks(dy, kept, dx, size=block) if block else ((dy, kept, dx),):
            yield dy_, kept_, dx_, dx_
        return
    room = np.empty(min(dx.size, ROOM), dx.dtype)
    for dy_, kept_, dx_ in blocks(dy, kept, dx, size=ROOM):
        yield dy_, kept_, dx_, room[: dx_.size]


def blocks(*arrays: Array, size: int = 0) -> Iterator[tuple[Array, ...]]:
    """Contiguous arrays of one size, in matching stretches of at most `size` or BLOCK elements."""
    flat, most = [array.reshape(-1) for array in arrays], size or BLOCK
    for start in range(0, flat[0].size, most):
        yield (*[array[start : start + most] for array in flat],)
