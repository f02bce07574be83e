"""Softmax and its logarithm along one axis, in any layout."""

from __future__ import annotations

import numpy as np

from .layout import Array, physical_axis


def softmax_forward(x: Array, y: Array, *, axis: int, layout: str = "NCHW", **_: object) -> None:
    """y = eˣ/Σeˣ along a logical axis; the largest x is subtracted first, so that no exponential overflows."""
    at = physical_axis(axis, layout, x.ndim)
    np.subtract(x, x.max(axis=at, keepdims=True), out=y)
    np.exp(y, out=y)
    np.divide(y, y.sum(axis=at, keepdims=True), out=y)


def softmax_dx(dy: Array, y: Array, dx: Array, *, axis: int, layout: str = "NCHW", **_: object) -> None:
    """dx = y·(dy - Σ dy·y)."""
    at = physical_axis(axis, layout, y.ndim)
    np.multiply(dy, y, out=dx)
    total = dx.sum(axis=at, keepdims=True)
    np.subtract(dy, total, out=dx)
    np.multiply(dx, y, out=dx)


def log_softmax_forward(x: Array, y: Array, *, axis: int, layout: str = "NCHW", **_: object) -> None:
    """y = x - log Σeˣ along a logical axis, the largest x subtracted first."""
    at = physical_axis(axis, layout, x.ndim)
    largest = x.max(axis=at, keepdims=True)
    np.subtract(x, largest, out=y)
    np.exp(y, out=y)
    total = np.log(y.sum(axis=at, keepdims=True))
    np.subtract(x, largest, out=y)
    np.subtract(y, total, out=y)


def log_softmax_dx(dy: Array, y: Array, dx: Array, *, axis: int, layout: str = "NCHW", **_: object) -> None:
    """dx = dy - eʸ·Σ dy."""
    at = physical_axis(axis, layout, y.ndim)
    np.exp(y, out=dx)
    np.multiply(dx, dy.sum(axis=at, keepdims=True), out=dx)
    np.subtract(dy, dx, out=dx)
