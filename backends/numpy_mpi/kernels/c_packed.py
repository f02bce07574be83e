"""Linear maps in C whose weight is packed before: what they are told, and which calls take the weight as it lies."""

from __future__ import annotations

from .c_linear import FEW, linear_dx, linear_forward
from .c_room import THREADS, table
from .layout import Array
from .native import Numbers


def linear_forward_pack(weight: Array, packed: Array, *, transposed: bool = False, **_: object) -> Numbers:
    """weight -> packed."""
    return _extents(weight, transposed)


def linear_dx_pack(weight: Array, packed: Array, *, transposed: bool = False, **_: object) -> Numbers:
    """weight -> packed."""
    return _extents(weight, transposed)


def linear_forward_packed(
    packed: Array, *arrays: Array, transposed: bool = False, threads: int = THREADS, **_: object
) -> Numbers | None:
    """packed, x, weight, [bias] -> y; few rows are computed while the weight is read as it lies."""
    return _packed(packed, arrays, linear_forward(*arrays, transposed=transposed, threads=threads))


def linear_dx_packed(
    packed: Array, *arrays: Array, transposed: bool = False, threads: int = THREADS, **_: object
) -> Numbers | None:
    """packed, dy, weight -> dx."""
    return _packed(packed, arrays, linear_dx(*arrays, transposed=transposed, threads=threads))


def _packed(packed: Array, arrays: tuple[Array, ...], plain: Numbers | None) -> Numbers | None:
    """The numbers of a call, of those that it has where nothing is packed."""
    if plain is None or plain.values[1] <= FEW:
        return plain
    _, rows, inputs, outputs, biased, _ = plain.values
    return Numbers((table((packed, *arrays)), rows, inputs, outputs, biased), arrays=0)


def _extents(weight: Array, transposed: bool) -> Numbers:
    outputs, inputs = weight.shape[::-1] if transposed else weight.shape
    return Numbers((inputs, outputs, int(transposed)), arrays=2)
