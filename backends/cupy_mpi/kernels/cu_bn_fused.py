"""Launches of batch norm together with what follows it: those of cu_bn.py, told so."""

from __future__ import annotations

from typing import Any

from .cu_bn import Values, apply, gradients, infer, normalise
from .launch import Array, Steps


def bn_relu_forward(
    x: Array, scale: Array, shift: Array, mean: Array, variance: Array, y: Array, *tables: Array, **told: Any
) -> Steps | None:
    """y = max(bn(x), 0)."""
    return normalise(Values(x, scale, shift, y, relu=True), *tables, **told)


def bn_add_relu_forward(
    x: Array,
    scale: Array,
    shift: Array,
    mean: Array,
    variance: Array,
    added: Array,
    y: Array,
    *tables: Array,
    **told: Any,
) -> Steps | None:
    """y = max(bn(x) + added, 0)."""
    return normalise(Values(x, scale, shift, y, added, relu=True), *tables, **told)


def bn_relu_apply(
    x: Array, scale: Array, shift: Array, sums: Array, squares: Array, y: Array, *tables: Array, **told: Any
) -> Steps | None:
    """y = max(bn(x), 0) with whole sums."""
    return apply(Values(x, scale, shift, y, relu=True), sums, squares, *tables, **told)


def bn_add_relu_apply(
    x: Array,
    scale: Array,
    shift: Array,
    sums: Array,
    squares: Array,
    added: Array,
    y: Array,
    *tables: Array,
    **told: Any,
) -> Steps | None:
    """y = max(bn(x) + added, 0) with whole sums."""
    return apply(Values(x, scale, shift, y, added, relu=True), sums, squares, *tables, **told)


def bn_relu_inference(
    x: Array, scale: Array, shift: Array, mean: Array, variance: Array, y: Array, **told: Any
) -> Steps | None:
    """y = max(bn(x), 0) with the running averages."""
    return infer(Values(x, scale, shift, y, relu=True), mean, variance, **told)


def bn_add_relu_inference(
    x: Array, scale: Array, shift: Array, mean: Array, variance: Array, added: Array, y: Array, **told: Any
) -> Steps | None:
    """y = max(bn(x) + added, 0) with the running averages."""
    return infer(Values(x, scale, shift, y, added, relu=True), mean, variance, **told)


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
) -> Steps | None:
    """The gradients; dy counts where y > 0."""
    return gradients(dy, y, x, scale, batch_mean, batch_rstd, dx, dscale, dshift, **told)
