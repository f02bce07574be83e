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
            steps += _gradient(
                (dy, da if a is None else a, db if b is None else b, dx), (a, b), kind, by_b, axes, layout
            )
        return tuple(steps)

    return binding


def _gradient(
    shaped: tuple[Array, ...], operands: tuple[Any, Any], kind: int, by_b: int, axes: Axes, layout: str
) -> Steps:
    """By one operand. Of `shaped` dy, a, b and dx have their shapes; `operands` are a and b where they are read."""
    dy, *_, dx = shaped
    views = _aligned(shaped, axes, layout)
    summed = tuple(
        at for at, pair in enumerate(zip(views[0].extents, views[3].extents, strict=True)) if pair[0] != pair[1]
    )
    order = _order(views[3])
    of_dy, of_a, of_b, of_dx = (view.ordered(order) for view in views)
    if not summed:
        spread = _spread(of_dx, of_a, of_b)
        return each(dx.size, dy, *operands, dx, spread, numbers=(kind, by_b), kernel="arithmetic_dx")
    several = tuple(extent if at in summed else 1 for at, extent in zip(order, of_dy.extents, strict=True))
    strides = (of_dy.strides, of_a.repeated(), of_b.repeated(), of_dx.repeated())
    gathered = (*four(of_dx.extents, 1), *four(several, 1), *(n for each_ in strides for n in four(each_, 0)))
    threads = min(256, -(-prod(several) // 32) * 32)
    arguments = (dy, *operands, dx, gathered, prod(several), kind, by_b)
    return (Launch(arguments, (dx.size,), (threads,), "arithmetic_dx_sums"),)


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
