"""Sums of gradients, regularisers and clipping: a launch an array."""

from __future__ import annotations

from collections.abc import Sequence

from .launch import Array, Launch, Room, Step, Steps, each

BLOCKS = 264
"""Blocks that add up the squares of an array, at most: two for each processor of the largest devices."""

PART = 4096
"""Elements whose squares a block adds up, at least."""


def zero(*arrays: Array, **_: object) -> Steps:
    """Each array."""
    return tuple(step for array in arrays for step in each(array.size, array))


def sum_gradients(*arrays: Array, **_: object) -> Steps:
    """From left to right."""
    first, *others, total = arrays
    if not others:
        return each(total.size, first, total, kernel="sum_gradients_one")
    found = [*each(total.size, first, others[0], total)]
    for gradient in others[1:]:
        found += each(total.size, total, gradient, total)
    return tuple(found)


def add_gradients(*arrays: Array, **_: object) -> Steps:
    """Each sum with its gradient."""
    pairs = zip(*_halves(arrays), strict=True)
    return tuple(step for a, b in pairs for step in each(a.size, a, b, a, kernel="sum_gradients"))


def regularise(*arrays: Array, l1: float = 0.0, l2: float = 0.0, **_: object) -> Steps:
    """Each weight with its gradient."""
    pairs, numbers = zip(*_halves(arrays), strict=True), (float(l1), float(l2))
    return tuple(step for weight, gradient in pairs for step in each(weight.size, weight, gradient, numbers=numbers))


def clip(*arrays: Array, kind: str, bound: float, copies: tuple[int, ...] | None = None, **_: object) -> Steps | None:
    """By values, or by the norm of all together: sums of squares first, unless they are given."""
    if kind == "value":
        return tuple(step for array in arrays for step in _limited(array, bound, "clip_value"))
    squares: Array | Room = Room(1)
    found: list[Step] = []
    if copies is None:
        found += _squares(arrays, [1.0] * len(arrays), squares)
    else:
        *arrays, squares = arrays  # type: ignore[assignment]
    for gradient in arrays:
        found += _limited(gradient, bound, "clip_scale", squares)
    return tuple(found)


def _limited(gradient: Array, bound: float, kernel: str, *squares: Array | Room) -> Steps:
    return each(gradient.size, gradient, *squares, numbers=(float(bound),), kernel=kernel)


def clip_squares(*arrays: Array, copies: tuple[int, ...], **_: object) -> Steps:
    """Sums of squares, each over how many ranks have the same."""
    *gradients, total = arrays
    return tuple(_squares(gradients, [*map(float, copies)], total))


def _squares(gradients: Sequence[Array], divisors: Sequence[float], total: Array | Room) -> list[Launch]:
    """Parts of each array's sum, and of all these the sum."""
    blocks = [min(BLOCKS, -(-gradient.size // PART)) for gradient in gradients]
    parts, at, found = Room(max(1, sum(blocks))), 0, list[Launch]()
    for gradient, count, divisor in zip(gradients, blocks, divisors, strict=True):
        if count:
            found.append(Launch((gradient, parts, gradient.size, at, divisor), (count,), kernel="clip_parts"))
        at += count
    return [*found, Launch((parts, total, at), (1,), kernel="clip_total")]


def _halves(arrays: tuple[Array, ...]) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    middle = len(arrays) // 2
    return arrays[:middle], arrays[middle:]
