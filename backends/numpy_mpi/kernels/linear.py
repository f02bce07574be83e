"""Linear maps of the last axis: y = x·Wᵀ + b, with W [out, in] as PyTorch's, or [in, out] where it is `transposed`."""

from __future__ import annotations

import numpy as np

from .layout import Array

FEW = 16
"""Rows that a bias is added to one by one, without the buffer that NumPy takes for adding it to all."""


def linear_forward(x: Array, weight: Array, *rest: Array, transposed: bool = False, **_: object) -> None:
    """x [..., in], weight, [bias] -> y [..., out]."""
    *bias, y = rest
    rows = y.reshape(-1, y.shape[-1])
    np.matmul(x.reshape(-1, x.shape[-1]), weight if transposed else weight.T, out=rows)
    if bias and len(rows) <= FEW:
        for row in rows:
            np.add(row, bias[0], out=row)
    elif bias:
        np.add(rows, bias[0], out=rows)


def linear_dx(dy: Array, weight: Array, dx: Array, *, transposed: bool = False, **_: object) -> None:
    """dy [..., out], weight -> dx [..., in]."""
    turned = weight.T if transposed else weight
    np.matmul(dy.reshape(-1, dy.shape[-1]), turned, out=dx.reshape(-1, dx.shape[-1]))


def linear_dw(dy: Array, x: Array, dweight: Array, *dbias: Array, transposed: bool = False, **_: object) -> None:
    """dy [..., out], x [..., in] -> dweight, [dbias]."""
    rows, columns = dy.reshape(-1, dy.shape[-1]), x.reshape(-1, x.shape[-1])
    if transposed:
        np.matmul(columns.T, rows, out=dweight)
    else:
        np.matmul(rows.T, columns, out=dweight)
    if dbias:
        np.add.reduce(rows, axis=0, out=dbias[0])
