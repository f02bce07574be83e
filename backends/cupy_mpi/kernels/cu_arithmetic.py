"""Sums, differences, products and quotients, of operands that may be repeated along some axes."""

from __future__ import annotations

from math import prod
from typing import Any

from .cu_places import View, countable, four, logical
from .launch import Array, Launch, Steps, each

KINDS = ("add", "sub", "mul", "div")
"""Their numbers in the text."""

Axes = tuple[int, ...] | None


def _forward(op: str) -> Any:
    kind = KINDS.index(op)

    def binding(
        *arrays: Array,
        scalar: float | None = None,
        scalar_first: bool = False,
        axes: Axes = None,
        layout: str = "NCHW",
        **_: object,
    ) -> Steps | None:
        if scalar is not None:
            x, y = arrays
            return each(y.size, x, y, numbers=(kind, int(scalar_first), float(scalar)), kernel="arithmetic_number")
        a, b, y = arrays
        if a.shape == b.shape:
            return each(y.size, a, b, y, numbers=(kind,), kernel="arithmetic_alike")
        if not countable(*arrays):
            return None
        view_a, view_b, view_y = _aligned(arrays, axes, layout)
        order = _order(view_y)
        spread = _spread(view_y.ordered(order), view_a.ordered(order), view_b.ordered(order))
        return each(y.size, a, b, y, spread, numbers=(kind,), kernel="arithmetic_forward") if y.size else ()

    return binding


def _backward(op: str) -> Any:
    kind = KINDS.index(op)

    def binding(
        dy: Array,
        *arrays: Array,
        scalar: float | None = None,
        scalar_first: bool = False,
        axes: Axes = None,
        layout: str = "NCHW",
        **_: object,
    ) -> Steps | None:
        if scalar is not None or (kind < 2 and len(arrays) == 1):
            x, dx = arrays[0] if len(arrays) > 1 else None, arrays[-1]
            numbers = (kind, int(scalar_first), float(scalar or 0.0))
            return each(dx.size, dy, x, dx, numbers=numbers, kernel="arithmetic_dx_number")
        a, b, da, db = (None, None, *arrays) if kind < 2 else arrays
        if not countable(dy, da, db) or not dy.size:
            return None
        steps: list[Any] = []
        for by_b, dx in enumerate((da, db)):
            shaped = (dy, da if a is None else a, db if b is None else b, dx)
            steps += _gradient(_aligned(shaped, axes, layout), (dy, a, b, dx), kind, by_b)
        return tuple(steps)

    return binding


def _gradient(views: list[View], arrays: tuple[Any, ...], kind: int, by_b: int) -> Steps:
    """By one operand, of dy, a, b and dx; a and b are None where they are not read."""
    order = _order(views[-1])
    of_dy, of_a, of_b, of_dx = (view.ordered(order) for view in views)
    pairs = zip(of_dy.extents, of_dx.extents, strict=True)
    summed = tuple(whole if whole != kept else 1 for whole, kept in pairs)
    if summed == (1,) * len(summed):
        spread = _spread(of_dx, of_a, of_b)
        return each(arrays[-1].size, *arrays, spread, numbers=(kind, by_b), kernel="arithmetic_dx")
    strides = (of_dy.strides, of_a.repeated(), of_b.repeated(), of_dx.repeated())
    gathered = (*four(of_dx.extents, 1), *four(summed, 1), *(n for several in strides for n in four(several, 0)))
    threads = min(256, -(-prod(summed) // 32) * 32)
    arguments = (*arrays, gathered, prod(summed), kind, by_b)
    return (Launch(arguments, (arrays[-1].size,), (threads,), "arithmetic_dx_sums"),)


def _aligned(arrays: tuple[Array, ...], axes: Axes, layout: str) -> list[View]:
    """Views in logical order and of one rank."""
    views = [logical(array, layout) for array in arrays]
    rank = max(len(view.extents) for view in views)
    return [view.spread(rank, axes) for view in views]


def _order(view: View) -> tuple[int, ...]:
    """The axes as they lie in memory, so that neighbours are written together."""
    return tuple(sorted(range(len(view.extents)), key=lambda at: (-view.strides[at], view.extents[at] != 1)))


def _spread(result: View, a: View, b: View) -> tuple[int, ...]:
    return (*four(result.extents, 1), *four(a.repeated(), 0), *four(b.repeated(), 0))


add_forward, sub_forward, mul_forward, div_forward = map(_forward, KINDS)
add_dx, sub_dx, mul_dx, div_dx = map(_backward, KINDS)
