"""What linear maps in C are told; those whose tiles would be mostly empty are left to BLAS."""

from __future__ import annotations

from .c_room import product_room, table
from .layout import Array
from .native import Numbers

ROWS = 16
"""Fewer rows of x are not worth packing the weight for."""

COLUMNS = 32
"""Of a tile of results, in the widest vectors."""

FILLED = 0.85
"""The least part of the tiles' columns that holds results."""


def linear_forward(x: Array, weight: Array, *rest: Array, transposed: bool = False, **_: object) -> Numbers | None:
    """x, weight, [bias] -> y."""
    inputs, outputs = x.shape[-1], rest[-1].shape[-1]
    rows = rest[-1].size // outputs
    if not fits(rows, outputs):
        return None
    room = product_room(outputs, inputs)
    return _numbers((x, weight, *rest), rows, inputs, outputs, len(rest) == 2, transposed, room)


def linear_dw(
    dy: Array, x: Array, dweight: Array, *dbias: Array, transposed: bool = False, **_: object
) -> Numbers | None:
    """dy, x -> dweight, [dbias]."""
    inputs, outputs = x.shape[-1], dy.shape[-1]
    if not fits(*dweight.shape):
        return None
    rows = dy.size // outputs
    room = product_room(max(inputs, outputs), rows)
    return _numbers((dy, x, dweight, *dbias), rows, inputs, outputs, bool(dbias), transposed, room)


def fits(rows: int, columns: int) -> bool:
    """Whether a product with so many rows and columns fills its tiles."""
    return rows >= ROWS and columns / (-(-columns // COLUMNS) * COLUMNS) >= FILLED


def _numbers(
    arrays: tuple[Array, ...], rows: int, inputs: int, outputs: int, biased: bool, transposed: bool, room: int
) -> Numbers:
    return Numbers((table(arrays), rows, inputs, outputs, int(biased), int(transposed)), room, arrays=0)
