"""Counts of work, depth and bytes that several operators share (cost-models.md §1)."""

from __future__ import annotations

from typing import cast

from dlc.ops.operator import Cost, Shapes


def lg(n: int) -> int:
    """⌈log₂ n⌉ for n ≥ 1: the depth of a reduction of n values."""
    if isinstance(n, int):
        return (n - 1).bit_length()
    import numpy as np  # for the extents of many candidates, see `dlc.ops.extents`

    return cast("int", np.frexp(n - 1)[1])


def touched(shapes: Shapes) -> int:
    """Bytes read or written at least once."""
    return sum(type_.bytes for type_ in (*shapes.inputs, *shapes.outputs))


def per_element(shapes: Shapes, operations: int = 1, depth: int = 1) -> Cost:
    """So many operations for every element of the first result, all at once: an activation has W = NCHW, D = 1."""
    return Cost(0, operations * shapes.outputs[0].elements, depth, touched(shapes))


def elementwise(_pass: str, shapes: Shapes) -> Cost:
    """One operation an element, forward and backward alike."""
    return per_element(shapes)


def renamed(_pass: str, _shapes: Shapes) -> Cost:
    """Axes get other names: no work, and no memory is touched."""
    return Cost(0, 0, 0, 0)


def moved(_pass: str, shapes: Shapes) -> Cost:
    """Elements get other places: no arithmetic, all bytes touched."""
    return Cost(0, 0, 0, touched(shapes))


def by_rows(shapes: Shapes, length: int, operations: int, depth: int) -> Cost:
    """So many operations for each row of `length` elements of the first operand."""
    rows = shapes.inputs[0].elements // length
    return Cost(0, rows * operations, depth, touched(shapes))
