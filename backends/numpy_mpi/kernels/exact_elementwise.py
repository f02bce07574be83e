"""Stand-ins of activations and arithmetic for `dlc verify --exact` (see `exact`): integers in, integers out.

Sums and differences of values are exact as they are; a number beside a value is taken as 2 whatever it is. Products
are folded element by element before they are summed, so that the sum over the samples at hand stays a sum: gradients
of operands without a batch are added up over the ranks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .arithmetic import Axes, aligned, gather
from .arithmetic import add_forward as add_exactly
from .arithmetic import mul_forward as mul_exactly
from .arithmetic import sub_forward as sub_exactly
from .exact import fold, folded
from .layout import Array, physical_axis
from .matmul import matmul_dx as matmul_dx_exactly
from .matmul import matmul_forward as matmul_exactly
from .shapes import pad_forward as pad_exactly

NUMBER = 2.0
"""Stands for every number beside a value."""


def leaky_relu_forward(x: Array, y: Array, **_: object) -> None:
    """x where it is positive, else 2x, folded; stands for `elu` too."""
    np.minimum(x, 0, out=y)
    np.add(y, x, out=y)
    fold(y, y)


def gelu_forward(x: Array, y: Array, **_: object) -> None:
    """x + max(x + 3, 0), folded; stands for `silu` and `hard_swish` too."""
    np.add(x, 3, out=y)
    np.maximum(y, 0, out=y)
    np.add(y, x, out=y)
    fold(y, y)


def log_softmax_forward(x: Array, y: Array, *, axis: int, layout: str = "NCHW", **_: object) -> None:
    """x - Σx along the axis, folded."""
    fold(x, y)
    np.subtract(y, y.sum(axis=physical_axis(axis, layout, y.ndim), keepdims=True), out=y)
    fold(y, y)


def log_softmax_dx(dy: Array, y: Array, dx: Array, *, axis: int, layout: str = "NCHW", **_: object) -> None:
    """dy - y·Σ dy along the axis, folded."""
    np.multiply(y, dy.sum(axis=physical_axis(axis, layout, y.ndim), keepdims=True), out=dx)
    np.subtract(dy, dx, out=dx)
    fold(dx, dx)


def matmul_forward(a: Array, b: Array, y: Array, **attrs: Any) -> None:
    """The product of the folded operands: in a chain of products of computed values numbers would grow too large."""
    matmul_exactly(folded(a), folded(b), y, **attrs)


def matmul_dx(dy: Array, a: Array, b: Array, da: Array, db: Array, **attrs: Any) -> None:
    """The gradients of that product by the folded operands, from the folded dy."""
    matmul_dx_exactly(folded(dy), folded(a), folded(b), da, db, **attrs)


def add_forward(*arrays: Array, scalar: float | None = None, **attrs: Any) -> None:
    """The sum."""
    add_exactly(*arrays, scalar=_number(scalar), **attrs)


def sub_forward(*arrays: Array, scalar: float | None = None, **attrs: Any) -> None:
    """The difference."""
    sub_exactly(*arrays, scalar=_number(scalar), **attrs)


def mul_forward(*arrays: Array, scalar: float | None = None, **attrs: Any) -> None:
    """The product, folded; not that with a number: weighted losses are sums over ranks. Stands for `div` too."""
    mul_exactly(*arrays, scalar=_number(scalar), **attrs)
    if scalar is None:
        fold(arrays[-1], arrays[-1])


def mul_dx(
    dy: Array, *arrays: Array, scalar: float | None = None, axes: Axes = None, layout: str = "NCHW", **_: object
) -> None:
    """Twice dy beside a number; else each product folded, and what gathers several of them not again."""
    if scalar is not None:
        np.multiply(dy, NUMBER, out=arrays[-1])
        return
    dy, a, b, da, db = aligned(dy, *arrays, axes=axes, layout=layout)
    gather(folded(dy * b), da)
    gather(folded(dy * a), db)


def pad_forward(x: Array, y: Array, *, value: float = 0.0, **attrs: Any) -> None:
    """Padded by a whole number."""
    pad_exactly(x, y, value=NUMBER if value else 0.0, **attrs)


def passed_on_dx(dy: Array, *arrays: Array, **_: object) -> None:
    """dx = dy: where each rank has a share of dy, nothing may be folded before they are added up."""
    np.copyto(arrays[-1], dy)


def _number(scalar: float | None) -> float | None:
    return None if scalar is None else NUMBER
