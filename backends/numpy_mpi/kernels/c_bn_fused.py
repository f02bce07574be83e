"""What the C functions of batch norm with what follows it are told: the same as those of batch norm alone."""

from __future__ import annotations

from typing import Any

from .c_bn import bn_apply, bn_dx, bn_forward, bn_inference
from .layout import Array
from .native import Numbers

bn_relu_forward, bn_relu_inference, bn_relu_apply = bn_forward, bn_inference, bn_apply


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
) -> Numbers | None:
    """Whole groups alone."""
    return bn_forward(x, scale, shift, mean, variance, y, batch_mean, batch_rstd, **told)


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
) -> Numbers | None:
    """Any call."""
    return bn_apply(x, scale, shift, sums, squares, y, batch_mean, batch_rstd, **told)


def bn_add_relu_inference(
    x: Array, scale: Array, shift: Array, mean: Array, variance: Array, added: Array, y: Array, **told: Any
) -> Numbers | None:
    """Any call."""
    return bn_inference(x, scale, shift, mean, variance, y, **told)


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
) -> Numbers | None:
    """Whole groups alone."""
    return bn_dx(dy, x, scale, batch_mean, batch_rstd, dx, dscale, dshift, **told)
