"""Linear maps: products of matrices by libraries, which finish them with a bias or its sums; kernels in their place."""

from __future__ import annotations

from collections.abc import Callable

from .cublaslt import Finished
from .launch import Array, ByLibrary, Held, Launch, Product, Room, Steps, each

CHUNK = 256
"""Rows that a block adds up."""


def linear_forward(x: Array, weight: Array, *rest: Array, transposed: bool = False, **_: object) -> Steps:
    """A product, and the bias."""
    *bias, y = rest
    if not y.size:
        return ()
    operands = (rows(x), weight if transposed else weight.T, rows(y))
    if not bias:
        return (Product(*operands),)
    added = each(y.size, *bias, y, numbers=(y.shape[-1],), kernel="linear_forward_bias")
    return finished(operands, "bias", (Product(*operands), *added), bias[0])


def linear_dx(dy: Array, weight: Array, dx: Array, *, transposed: bool = False, **_: object) -> Steps:
    """A product."""
    return (Product(rows(dy), weight.T if transposed else weight, rows(dx)),) if dx.size else ()


def linear_dw(
    dy: Array, x: Array, dweight: Array, *dbias: Array, transposed: bool = False, **_: object
) -> Steps | None:
    """A product, and sums over rows."""
    return by_weights(dy, x, dweight, dbias, transposed, lambda dbias: sums(dy, dbias))


def by_weights(
    dy: Array, x: Array, dweight: Array, dbias: tuple[Array, ...], transposed: bool, added: Callable[[Array], Steps]
) -> Steps | None:
    """The gradients by a weight, and by a bias where there is one: `added` sums dy where a library does not."""
    if not dy.size:
        return None  # zeros
    left, right = (x, dy) if transposed else (dy, x)
    operands = (rows(left).T, rows(right), dweight)
    if not dbias:
        return (Product(*operands),)
    own = (Product(*operands), *added(*dbias))
    return finished(operands, f"sums of {'right' if transposed else 'left'}", own, dbias[0])


def finished(
    operands: tuple[Array, Array, Array], finish: str, own: Steps, bias: Array | None = None, kept: Array | None = None
) -> Steps:
    """A product that a library finishes, where it does; what is done without it. Of nothing that is asked for."""
    if not all(array.size for array in operands):
        return own
    return (ByLibrary(Finished(*operands, finish, bias, kept), own),)


def sums(dy: Array | Held, dbias: Array) -> Steps:
    """dy summed over its rows, in chunks whose sums are added next, until there is one."""
    columns, found = dy.shape[-1], list[Launch]()
    count, values = dy.size // columns, dy
    while not found or count > 1:
        chunks = -(-count // CHUNK)
        total = dbias if chunks == 1 else Room(chunks * columns)
        blocks = (-(-columns // 32), chunks)
        found.append(Launch((values, total, count, columns, CHUNK), blocks, (32, 8), "linear_dw_bias"))
        count, values = chunks, total
    return tuple(found)


def rows(x: Array) -> Array:
    """As a matrix of its last axis."""
    return x.reshape(-1, x.shape[-1])
