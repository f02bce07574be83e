"""What the C functions that join and cut values are told for a call of the NumPy kernel of the same name."""

from __future__ import annotations

from math import prod

from .layout import Array, physical_axis
from .native import Numbers

SUFFIXES = {"float32": "f32", "float64": "f64"}

PARTS = (2, 3, 4)
"""How many values C joins or cuts in one call."""


def concat_forward(*arrays: Array, axis: int, layout: str = "NCHW", **_: object) -> Numbers | None:
    """So many operands that there is a function for them."""
    return _joined("concat_forward", arrays[:-1], arrays[-1], axis, layout)


def concat_dx(dy: Array, *dxs: Array, axis: int, layout: str = "NCHW", **_: object) -> Numbers | None:
    """So many gradients that there is a function for them."""
    return _joined("concat_dx", dxs, dy, axis, layout)


def split_forward(x: Array, *ys: Array, axis: int, layout: str = "NCHW", **_: object) -> Numbers | None:
    """So many results that there is a function for them."""
    return _joined("split_forward", ys, x, axis, layout)


def split_dx(
    *arrays: Array, n: tuple[int, ...], axis: int, reached: tuple[int, ...], layout: str = "NCHW", **_: object
) -> Numbers | None:
    """Where all stretches have a gradient."""
    if tuple(reached) != tuple(range(len(n))):
        return None
    return _joined("split_dx", arrays[:-1], arrays[-1], axis, layout)


def slice_forward(
    x: Array, y: Array, *, axis: int, start: int, step: int, layout: str = "NCHW", **_: object
) -> Numbers | None:
    """A stretch of real numbers without gaps."""
    if step != 1 or start < 0 or not x.size or x.dtype.name not in SUFFIXES:
        return None
    rows, elements = _rows(x, axis, layout)
    return Numbers((rows, x.size // rows, start * elements, y.size // rows))


def slice_dx(
    dy: Array, dx: Array, *, axis: int, start: int, step: int, layout: str = "NCHW", **_: object
) -> Numbers | None:
    """A stretch without gaps."""
    return slice_forward(dx, dy, axis=axis, start=start, step=step, layout=layout)


def _joined(name: str, parts: tuple[Array, ...], whole: Array, axis: int, layout: str) -> Numbers | None:
    """The function for so many parts, with the rows and the elements of a row of each."""
    if len(parts) not in PARTS or whole.dtype.name not in SUFFIXES:
        return None
    at = physical_axis(axis, layout, whole.ndim)
    rows, elements = _rows(whole, axis, layout)
    lengths = (part.shape[at] * elements for part in parts)
    return Numbers((rows, *lengths), name=f"{name}_{len(parts)}_{SUFFIXES[whole.dtype.name]}")


def _rows(x: Array, axis: int, layout: str) -> tuple[int, int]:
    """How many rows lie before an axis in memory, and how many elements behind one index of it."""
    at = physical_axis(axis, layout, x.ndim)
    return prod(x.shape[:at]), prod(x.shape[at + 1 :])
