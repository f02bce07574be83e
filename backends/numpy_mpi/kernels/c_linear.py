"""What linear maps in C are told, and which of their functions a call is for.

One thread leaves mostly empty tiles to BLAS. Several do not: BLAS has threads of its own, which would fight with those
of the other kernels for the cores.
"""

from __future__ import annotations

from .c_room import THREADS, product_room, table
from .layout import Array
from .native import Numbers

FEW = 16
"""So many rows of x at most are computed all at once, while the weight is read."""

SUFFIXES = {"float32": "f32", "float64": "f64"}

ROWS = 16
"""Fewer rows of x are not worth packing the weight for."""

COLUMNS = 32
"""Of a tile of results, in the widest vectors."""

FILLED = 0.85
"""The least part of the tiles' columns that holds results."""


def linear_forward(
    x: Array, weight: Array, *rest: Array, transposed: bool = False, threads: int = THREADS, **_: object
) -> Numbers | None:
    """x, weight, [bias] -> y."""
    inputs, outputs = x.shape[-1], rest[-1].shape[-1]
    rows = rest[-1].size // outputs
    values = (table((x, weight, *rest)), rows, inputs, outputs, int(len(rest) == 2), int(transposed))
    if 0 < rows <= FEW:
        return Numbers(values, arrays=0, name=f"linear_forward_few_{SUFFIXES[x.dtype.name]}")
    return Numbers(values, product_room(outputs, inputs), arrays=0) if threads > 1 or fits(rows, outputs) else None


def linear_dx(
    dy: Array, weight: Array, dx: Array, *, transposed: bool = False, threads: int = THREADS, **_: object
) -> Numbers | None:
    """dy, weight -> dx."""
    inputs, outputs = dx.shape[-1], dy.shape[-1]
    rows = dy.size // outputs
    values = (table((dy, weight, dx)), rows, inputs, outputs, 0, int(transposed))
    if 0 < rows <= FEW:
        return Numbers(values, arrays=0, name=f"linear_dx_few_{SUFFIXES[dy.dtype.name]}")
    return Numbers(values, product_room(inputs, outputs), arrays=0) if threads > 1 or fits(rows, inputs) else None


def linear_dw(
    dy: Array, x: Array, dweight: Array, *dbias: Array, transposed: bool = False, threads: int = THREADS, **_: object
) -> Numbers | None:
    """dy, x -> dweight, [dbias]."""
    inputs, outputs = x.shape[-1], dy.shape[-1]
    if threads == 1 and not fits(*dweight.shape):
        return None
    rows = dy.size // outputs
    values = (table((dy, x, dweight, *dbias)), rows, inputs, outputs, int(bool(dbias)), int(transposed))
    return Numbers(values, product_room(max(inputs, outputs), rows), arrays=0)


def fits(rows: int, columns: int) -> bool:
    """Whether a product with so many rows and columns fills its tiles."""
    return rows >= ROWS and columns / (-(-columns // COLUMNS) * COLUMNS) >= FILLED
