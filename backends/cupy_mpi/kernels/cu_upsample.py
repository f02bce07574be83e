"""Launches of upsampling: a thread an element of the result."""

from __future__ import annotations

from .cu_images import Extents, extents_of, three
from .launch import MOST_COUNTED, Array, Steps, each, reciprocal


def upsample_forward(
    x: Array, y: Array, *, factor: Extents, mode: str, layout: str = "NCHW", **_: object
) -> Steps | None:
    """A thread an output."""
    return _steps(x, y, x, y, factor, mode, layout)


def upsample_dx(dy: Array, dx: Array, *, factor: Extents, mode: str, layout: str = "NCHW", **_: object) -> Steps | None:
    """A thread an input."""
    return _steps(dx, dx, dy, dx, factor, mode, layout)


def _steps(
    small: Array, result: Array, read: Array, written: Array, factor: Extents, mode: str, layout: str
) -> Steps | None:
    """`small` is what is upsampled, or its gradient."""
    if max(read.size, written.size) >= MOST_COUNTED:
        return None
    (inputs, inner), (extents, _) = extents_of(small, layout), extents_of(result, layout)
    divisors = map(reciprocal, (*extents, inner))
    numbers = (*inputs, *three(factor), inner, *divisors, int(mode != "nearest"))
    return each(written.size, read, written, numbers=numbers)
