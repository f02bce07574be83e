"""Linear maps: products of matrices by the library, and kernels for the bias."""

from __future__ import annotations

from .launch import Array, Launch, Product, Room, Steps, each

CHUNK = 256
"""Rows that a block adds up."""


def linear_forward(x: Array, weight: Array, *rest: Array, transposed: bool = False, **_: object) -> Steps:
    """A product, and the bias."""
    *bias, y = rest
    if not y.size:
        return ()
    product = Product(_rows(x), weight if transposed else weight.T, _rows(y))
    return (product, *(each(y.size, *bias, y, numbers=(y.shape[-1],), kernel="linear_forward_bias") if bias else ()))


def linear_dx(dy: Array, weight: Array, dx: Array, *, transposed: bool = False, **_: object) -> Steps:
    """A product."""
    return (Product(_rows(dy), weight.T if transposed else weight, _rows(dx)),) if dx.size else ()


def linear_dw(
    dy: Array, x: Array, dweight: Array, *dbias: Array, transposed: bool = False, **_: object
) -> Steps | None:
    """A product, and sums over rows."""
    if not dy.size:
        return None  # zeros
    left, right = (x, dy) if transposed else (dy, x)
    return (Product(_rows(left).T, _rows(right), dweight), *(sums(dy, *dbias) if dbias else ()))


def sums(dy: Array, dbias: Array) -> Steps:
    """dy summed over its rows, in chunks whose sums are added next, until there is one."""
    columns, found = dy.shape[-1], list[Launch]()
    rows, values = dy.size // columns, dy
    while not found or rows > 1:
        chunks = -(-rows // CHUNK)
        total = dbias if chunks == 1 else Room(chunks * columns)
        blocks = (-(-columns // 32), chunks)
        found.append(Launch((values, total, rows, columns, CHUNK), blocks, (32, 8), "linear_dw_bias"))
        rows, values = chunks, total
    return tuple(found)


def _rows(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1])
