"""Launches of local response normalisation: a thread an element of [outer, channel, inner]."""

from __future__ import annotations

from math import prod

from .launch import MOST_COUNTED, Array, Steps, each, reciprocal


def lrn_forward(
    x: Array,
    y: Array,
    base: Array,
    *,
    size: int,
    alpha: float,
    beta: float,
    k: float,
    layout: str = "NCHW",
    **_: object,
) -> Steps | None:
    """The window goes from size//2 channels before to the last of so many."""
    if x.size >= MOST_COUNTED:
        return None
    return each(x.size, x, y, base, numbers=(*_channels(x, layout), size, alpha / size, float(beta), float(k)))


def lrn_dx(
    dy: Array,
    x: Array,
    base: Array,
    dx: Array,
    *,
    size: int,
    alpha: float,
    beta: float,
    layout: str = "NCHW",
    **_: object,
) -> Steps | None:
    """The adjoint window."""
    if x.size >= MOST_COUNTED:
        return None
    factor = -2 * alpha * beta / size
    return each(x.size, dy, x, base, dx, numbers=(*_channels(x, layout), size, factor, float(beta)))


def _channels(x: Array, layout: str) -> tuple[int, ...]:
    """How far the elements of a channel are apart, how many channels there are, and what these are divided by."""
    axis = {"NCHW": 1, "NHWC": 3, "CHWN": 0}[layout] if x.ndim == 4 else 1
    inner = prod(x.shape[axis + 1 :])
    return inner, x.shape[axis], reciprocal(inner), reciprocal(x.shape[axis])
