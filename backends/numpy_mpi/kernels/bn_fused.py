"""Batch norm together with what follows it: ReLU, or the addition of a second value and then ReLU.

They give what the kernels of the single ops give one after the other. In NumPy they save the arrays between these; in
C, passes over memory too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .bn import bn_apply, bn_dx, bn_forward, bn_inference
from .layout import Array


def bn_relu_forward(
    x: Array,
    scale: Array,
    shift: Array,
    mean: Array,
    variance: Array,
    y: Array,
    batch_mean: Array,
    batch_rstd: Array,
    **told: Any,
) -> None:
    """y = max(bn(x), 0)."""
    bn_forward(x, scale, shift, mean, variance, y, batch_mean, batch_rstd, **told)
    np.maximum(y, 0, out=y)


def bn_add_relu_forward(
    x: Array,
    scale: Array,
    shift: Array,
    mean: Array,
    variance: Array,
    added: Array,
    y: Array,
    batch_mean: Array,
    batch_rstd: Array,
    **told: Any,
) -> None:
    """y = max(bn(x) + added, 0)."""
    bn_forward(x, scale, shift, mean, variance, y, batch_mean, batch_rstd, **told)
    np.add(y, added, out=y)
    np.maximum(y, 0, out=y)


def bn_relu_apply(
    x: Array,
    scale: Array,
    shift: Array,
    sums: Array,
    squares: Array,
    y: Array,
    batch_mean: Array,
    batch_rstd: Array,
    **told: Any,
) -> None:
    """y = max(bn(x), 0) with whole sums and sums of squares."""
    bn_apply(x, scale, shift, sums, squares, y, batch_mean, batch_rstd, **told)
    np.maximum(y, 0, out=y)


def bn_add_relu_apply(
    x: Array,
    scale: Array,
    shift: Array,
    sums: Array,
    squares: Array,
    added: Array,
    y: Array,
    batch_mean: Array,
    batch_rstd: Array,
    **told: Any,
) -> None:
    """y = max(bn(x) + added, 0) with whole sums and sums of squares."""
    bn_apply(x, scale, shift, sums, squares, y, batch_mean, batch_rstd, **told)
    np.add(y, added, out=y)
    np.maximum(y, 0, out=y)


def bn_relu_inference(
    x: Array, scale: Array, shift: Array, mean: Array, variance: Array, y: Array, **told: Any
) -> None:
    """y = max(bn(x), 0) with the running averages."""
    bn_inference(x, scale, shift, mean, variance, y, **told)
    np.maximum(y, 0, out=y)


def bn_add_relu_inference(
    x: Array, scale: Array, shift: Array, mean: Array, variance: Array, added: Array, y: Array, **told: Any
) -> None:
    """y = max(bn(x) + added, 0) with the running averages."""
    bn_inference(x, scale, shift, mean, variance, y, **told)
    np.add(y, added, out=y)
    np.maximum(y, 0, out=y)


def bn_relu_dx(
    dy: Array,
    y: Array,
    x: Array,
    scale: Array,
    batch_mean: Array,
    batch_rstd: Array,
    dx: Array,
    dscale: Array,
    dshift: Array,
    **told: Any,
) -> None:
    """The gradients by x, scale and shift of `bn_relu_forward`: dy counts where y > 0; allocates one array like dy."""
    bn_dx(dy * (y > 0), x, scale, batch_mean, batch_rstd, dx, dscale, dshift, **told)
