"""Sums of gradients where a value was used more than once or in several microbatches, regularisers, and clipping.

Gradients may be parts of larger arrays: views whose elements do not lie together.
"""

from __future__ import annotations

from math import sqrt
from typing import Literal

import numpy as np

from .dot import square_sum
from .layout import Array


def zero(*arrays: Array, **_: object) -> None:
    """Fill with zeros what is added up from now on."""
    for array in arrays:
        array.fill(0)


def sum_gradients(*arrays: Array, **_: object) -> None:
    """Gradients, and last their sum, added from left to right; the sum may lie where the first gradient does."""
    *gradients, total = arrays
    if len(gradients) == 1:
        np.copyto(total, gradients[0])
        return
    np.add(gradients[0], gradients[1], out=total)
    for gradient in gradients[2:]:
        np.add(total, gradient, out=total)


def add_gradients(*arrays: Array, **_: object) -> None:
    """Sums, and then as many gradients that are added to them, in the same order."""
    count = len(arrays) // 2
    for total, gradient in zip(arrays[:count], arrays[count:], strict=True):
        np.add(total, gradient, out=total)


def regularise(*arrays: Array, l1: float = 0.0, l2: float = 0.0, **_: object) -> None:
    """Weights, and then their gradients in the same order: g += λ₂·w + λ₁·sign(w), in place; the sign of 0 is 0."""
    count = len(arrays) // 2
    for weight, gradient in zip(arrays[:count], arrays[count:], strict=True):
        if l2:
            np.add(gradient, l2 * weight, out=gradient)
        if l1:
            np.add(gradient, l1 * np.sign(weight), out=gradient)


def clip(
    *arrays: Array,
    kind: Literal["norm", "value"],
    bound: float,
    copies: tuple[int, ...] | None = None,
    **_: object,
) -> None:
    """Limit gradients in place.

    `norm`: all by the factor min(1, bound/(‖g‖ + 1e-6)), ‖g‖ the norm over all of them, PyTorch's clip_grad_norm_;
    `value`: each element to ±bound. With `copies` the last array is ‖g‖² over all ranks: see `clip_squares`.
    """
    gradients = arrays if copies is None else arrays[:-1]
    if kind == "value":
        for gradient in gradients:
            np.clip(gradient, -bound, bound, out=gradient)
        return
    total = sum(square_sum(gradient) for gradient in gradients) if copies is None else float(arrays[-1][0])
    factor = min(1.0, bound / (sqrt(total) + 1e-6))
    for gradient in gradients:
        np.multiply(gradient, factor, out=gradient)


def clip_squares(*arrays: Array, copies: tuple[int, ...], **_: object) -> None:
    """Gradients -> their Σ g², a table of one number that is added up over all ranks.

    `copies` says for each gradient how many ranks have the same of it: they share out its sum.
    """
    *gradients, total = arrays
    total[0] = sum(square_sum(gradient) / ranks for gradient, ranks in zip(gradients, copies, strict=True))


def norm(array: Array) -> float:
    """The square root of the sum of the squares of its elements."""
    return sqrt(square_sum(array))
