"""Upsampling of sequences, images in three layouts and volumes by whole factors.

Linear interpolation goes axis by axis. Output f·q + r (phase r of f) lies at q + (2r + 1 - f)/(2f) of the input, so all
outputs of a phase mix an element and one of its neighbours by the same shares; beyond the edges stands the edge's own
element.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .layout import Array, logical
from .sliding import Extents, at


def upsample_forward(x: Array, y: Array, *, factor: Extents, mode: str, layout: str = "NCHW", **_: object) -> None:
    """x -> y; linear: allocates what is interpolated along all axes but the last."""
    x, y = logical(x, layout), logical(y, layout)
    if mode == "nearest":
        np.copyto(_repeated(y, x, factor), np.expand_dims(x, _repeats(factor)))
        return
    for axis, times in enumerate(factor, start=2):
        shape = (*y.shape[: axis + 1], *x.shape[axis + 1 :])
        longer = y if axis + 1 == y.ndim else np.empty_like(x, shape=shape)
        _interpolate(x, longer, axis, times)
        x = longer


def upsample_dx(dy: Array, dx: Array, *, factor: Extents, mode: str, layout: str = "NCHW", **_: object) -> None:
    """dy -> dx; allocates the gradients along all axes but one (linear: the first, nearest: the last)."""
    dy, dx = logical(dy, layout), logical(dx, layout)
    if mode == "nearest":
        _sum_repeats(dy, dx, factor)
        return
    for axis in range(dy.ndim - 1, 1, -1):
        shape = (*dy.shape[:axis], *dx.shape[axis:])
        shorter = dx if axis == 2 else np.empty_like(dy, shape=shape)
        _collect(dy, shorter, axis, factor[axis - 2])
        dy = shorter


def _repeats(factor: Extents) -> Extents:
    """Where the axes of repetitions stand in `_repeated`."""
    return tuple(range(3, 3 + 2 * len(factor), 2))


def _repeated(y: Array, x: Array, factor: Extents) -> Array:
    """A view of y in which each axis of x is followed by one of its repetitions."""
    pairs = (extent for axis in zip(x.shape[2:], factor, strict=True) for extent in axis)
    return y.reshape(*x.shape[:2], *pairs)


def _sum_repeats(dy: Array, dx: Array, factor: Extents) -> None:
    """Sums of the repetitions, axis by axis, phase by phase: one NumPy sum over all of them is several times slower."""
    for axis, times in enumerate(factor, start=2):
        shape = (*dx.shape[: axis + 1], *dy.shape[axis + 1 :])
        shorter = dx if axis + 1 == dx.ndim else np.empty_like(dy, shape=shape)
        np.copyto(shorter, at(dy, axis, (slice(None, None, times),)))
        for phase in range(1, times):
            np.add(shorter, at(dy, axis, (slice(phase, None, times),)), out=shorter)
        dy = shorter


def _interpolate(x: Array, y: Array, axis: int, times: int) -> None:
    """y is x, `times` as long along an axis."""
    for phase, middle, side, neighbours in _phases(times):
        target = at(y, axis, (slice(phase, None, times),))
        np.multiply(x, middle, out=target)
        for mixed, read in neighbours:
            part = at(target, axis, (mixed,))
            np.add(part, side * at(x, axis, (read,)), out=part)


def _collect(dy: Array, dx: Array, axis: int, times: int) -> None:
    """The gradient of `_interpolate`."""
    dx.fill(0)
    for phase, middle, side, neighbours in _phases(times):
        source = at(dy, axis, (slice(phase, None, times),))
        np.add(dx, middle * source, out=dx)
        for mixed, read in neighbours:
            part = at(dx, axis, (read,))
            np.add(part, side * at(source, axis, (mixed,)), out=part)


def _phases(times: int) -> Iterator[tuple[int, float, float, tuple[tuple[slice, slice], ...]]]:
    """(phase, share of the element, share of its neighbour, (elements, their neighbours) inside and at the edge)."""
    first, last, all_but_first, all_but_last = slice(1), slice(-1, None), slice(1, None), slice(-1)
    for phase in range(times):
        place = (2 * phase + 1 - times) / (2 * times)
        before = ((all_but_first, all_but_last), (first, first))
        behind = ((all_but_last, all_but_first), (last, last))
        neighbours = before if place < 0 else behind if place > 0 else ()
        yield phase, 1 - abs(place), abs(place), neighbours
