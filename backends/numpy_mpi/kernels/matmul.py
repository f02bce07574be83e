"""Products of matrices, one for every index of the axes before the last two; these broadcast as in `arithmetic`."""

from __future__ import annotations

import numpy as np

from .arithmetic import Axes, aligned, gather
from .layout import Array


def matmul_forward(a: Array, b: Array, y: Array, *, axes: Axes = None, **_: object) -> None:
    """a [..., m, k], b [..., k, n] -> y [..., m, n]."""
    if b.ndim == 2:
        np.matmul(_rows(a), b, out=_rows(y))
    else:
        a, b = _spread(a, b, axes=axes)
        np.matmul(a, b, out=y)


def matmul_dx(dy: Array, a: Array, b: Array, da: Array, db: Array, *, axes: Axes = None, **_: object) -> None:
    """dy -> da = dy·bᵀ, db = aᵀ·dy; allocates products where an operand is repeated."""
    if b.ndim == 2:
        np.matmul(_rows(dy), b.T, out=_rows(da))
        np.matmul(_rows(a).T, _rows(dy), out=db)
        return
    dy, a, b, da, db = _spread(dy, a, b, da, db, axes=axes)
    _product(dy, b.swapaxes(-1, -2), da)
    _product(a.swapaxes(-1, -2), dy, db)


def _spread(*arrays: Array, axes: Axes) -> list[Array]:
    """Views of one rank; `axes` are positions of the axes before the last two."""
    rank = max(array.ndim for array in arrays)
    return aligned(*arrays, axes=None if axes is None else (*axes, rank - 2, rank - 1))


def _rows(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1])


def _product(left: Array, right: Array, found: Array) -> None:
    """left·right, summed over the axes along which `found` was repeated."""
    batches = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    if found.shape[:-2] == batches:
        np.matmul(left, right, out=found)
    else:
        gather(left @ right, found)
