"""Local response normalisation across neighbouring channels, in any layout.

A. Krizhevsky, I. Sutskever, G. Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", 2012; the sum
of squares is divided by `size`, as in Caffe and PyTorch.
"""

from __future__ import annotations

import numpy as np

from .layout import Array, logical

CACHE_BYTES = 2**20
"""What is worked in at a time."""


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
) -> None:
    """base = k + α/size·Σ x² over `size` channels around each, zeros beyond the ends; y = x/baseᵝ."""
    x, y, base = logical(x, layout), logical(y, layout), logical(base, layout)
    np.multiply(x, x, out=y)
    add_neighbours(y, size, base)
    np.multiply(base, alpha / size, out=base)
    np.add(base, k, out=base)
    _power(base, beta, y)
    np.divide(x, y, out=y)


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
) -> None:
    """dx = dy/baseᵝ - 2·α·β/size·x·Σ dy·x/baseᵝ⁺¹ over the channels whose window holds this one.

    By as many samples at a time, in CHWN rows, as three arrays of theirs fit the cache.
    """
    axis = 2 if layout == "CHWN" else 0
    arrays = [np.moveaxis(logical(array, layout), axis, 0) for array in (dy, x, base, dx)]
    extent = len(arrays[0])
    step = max(1, CACHE_BYTES * extent // max(1, 3 * dy.nbytes))
    for start in range(0, extent, step):
        part = [np.moveaxis(array[start : start + step], 0, axis) for array in arrays]
        _part_dx(*part, size=size, alpha=alpha, beta=beta)


def _part_dx(dy: Array, x: Array, base: Array, dx: Array, *, size: int, alpha: float, beta: float) -> None:
    """The same of some samples or rows [sample, channel, row, column]; allocates three arrays of their size."""
    direct, pulls = np.empty_like(dx), np.empty_like(dx)
    _power(base, beta, direct)
    np.divide(dy, direct, out=direct)
    np.multiply(direct, x, out=pulls)
    np.divide(pulls, base, out=pulls)
    add_neighbours(pulls, size, dx, behind=True)
    np.multiply(dx, x, out=dx)
    np.multiply(dx, -2 * alpha * beta / size, out=dx)
    np.add(dx, direct, out=dx)


def add_neighbours(x: Array, size: int, total: Array, behind: bool = False) -> None:
    """total[c] = Σ x[c'] over `size` channels, size//2 of them before c; `behind`: size//2 behind it, the adjoint."""
    before = (size - 1) // 2 if behind else size // 2
    np.copyto(total, x)
    channels = x.shape[1]
    for offset in range(-min(before, channels - 1), min(size - before, channels)):
        if offset:
            target = total[:, max(0, -offset) : channels - max(0, offset)]
            np.add(target, x[:, max(0, offset) : channels + min(0, offset)], out=target)


def _power(base: Array, beta: float, out: Array) -> None:
    """baseᵝ; for the usual β = 3/4 by two square roots, which are faster than a power."""
    if beta != 0.75:
        np.power(base, beta, out=out)
        return
    root = np.sqrt(base, out=out)
    np.multiply(root, np.sqrt(root), out=out)
