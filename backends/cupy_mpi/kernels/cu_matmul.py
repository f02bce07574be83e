"""Products of matrices, by the library; where an operand is repeated NumPy has the code."""

from __future__ import annotations

from .launch import Array, Product, Steps


def matmul_forward(a: Array, b: Array, y: Array, *, axes: object = None, **_: object) -> Steps | None:
    """A product, or one for every index of the axes before the last two."""
    if not y.size:
        return ()
    if b.ndim == 2:
        return (Product(_rows(a), b, _rows(y)),)
    return (Product(*map(_stack, (a, b, y))),) if _alike(a, b) else None


def matmul_dx(dy: Array, a: Array, b: Array, da: Array, db: Array, *, axes: object = None, **_: object) -> Steps | None:
    """da = dy·bᵀ, db = aᵀ·dy."""
    if not dy.size:
        return None  # the results are zeros
    if b.ndim == 2:
        return (Product(_rows(dy), b.T, _rows(da)), Product(_rows(a).T, _rows(dy), db))
    if not _alike(a, b):
        return None
    dy, a, b, da, db = map(_stack, (dy, a, b, da, db))
    return (Product(dy, b.transpose(0, 2, 1), da), Product(a.transpose(0, 2, 1), dy, db))


def _alike(a: Array, b: Array) -> bool:
    return bool(a.shape[:-2] == b.shape[:-2])


def _rows(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1])


def _stack(x: Array) -> Array:
    return x.reshape(-1, *x.shape[-2:])
