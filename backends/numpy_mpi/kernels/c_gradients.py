"""What sums of gradients and clipping in C are told."""

from __future__ import annotations

from .c_elementwise import variant
from .c_room import lengths, table
from .layout import Array
from .native import Numbers

MOST = 6
"""Gradients that there is a function for."""


def sum_gradients(*arrays: Array, **_: object) -> Numbers | None:
    """Elements; sums of more than two have functions of their own."""
    count = len(arrays) - 1
    if not 2 <= count <= MOST or any(array.shape != arrays[0].shape for array in arrays):
        return None
    name = variant(f"sum_gradients_{count}", arrays[0]) if count > 2 else ""
    return Numbers((arrays[0].size,), name=name)


def clip(*arrays: Array, kind: str, bound: float, copies: object = None, **_: object) -> Numbers | None:
    """Addresses and sizes of gradients, and the bound of their norm; of other bounds, and of many ranks, none."""
    if kind != "norm" or copies is not None:
        return None
    return Numbers((table(arrays), lengths(arrays), len(arrays), float(bound)), arrays=0)
