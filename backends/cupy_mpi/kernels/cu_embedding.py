"""Launches of embeddings. The gradient of the table is added up in the order of places, without atomics.

Pieces of the places are sorted by token, each by a block; then a block for each row of the table finds its own in them.
"""

from __future__ import annotations

from .launch import MOST_COUNTED, THREADS, Array, Launch, Room, Steps, each, reciprocal

Origin = tuple[tuple[tuple[int, int], ...], ...]

SORTED = 2048
"""Places of a piece, at most: `SORTED` in embedding.cu."""


def embedding_forward(x: Array, weight: Array, y: Array, *, origin: Origin | None = None, **_: object) -> Steps | None:
    """A thread an element of y."""
    if y.size >= MOST_COUNTED:
        return None
    rows, width = weight.shape
    begin = 0 if origin is None else origin[1][0][0]
    return each(y.size, x, weight, y, numbers=(width, rows, begin, int(origin is not None), reciprocal(width)))


def embedding_dw(dy: Array, x: Array, dweight: Array, *, origin: Origin | None = None, **_: object) -> Steps | None:
    """Sorted pieces, then a block a row."""
    if x.size >= MOST_COUNTED or not dweight.size:
        return None if dweight.size else ()
    extent = min(SORTED, 1 << max(0, x.size - 1).bit_length())
    pieces = max(1, -(-x.size // extent))
    tokens, places = Room(pieces * extent), Room(pieces * extent)
    begin = 0 if origin is None else origin[2][0][0]
    rows, width = dweight.shape
    threads = min(THREADS, -(-width // 32) * 32)
    return (
        Launch((x, tokens, places, x.size, extent, begin), (pieces,), kernel="embedding_dw_sort"),
        Launch((dy, tokens, places, dweight, width, pieces, extent), (rows,), (threads,), "embedding_dw_rows"),
    )


def position_embedding_forward(x: Array, weight: Array, y: Array, **_: object) -> Steps | None:
    """A thread an element of y."""
    if y.size >= MOST_COUNTED:
        return None
    return each(y.size, weight, y, numbers=(weight.size, reciprocal(weight.size)))


def position_embedding_dw(dy: Array, dweight: Array, **_: object) -> Steps:
    """A thread an element of the table."""
    return each(dweight.size, dy, dweight, numbers=(dy.size // max(1, dweight.size),))
