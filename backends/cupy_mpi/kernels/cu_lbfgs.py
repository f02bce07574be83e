"""Launches of L-BFGS over all weights at once: what is to be done is decided on the device, so one call is as another.

The loops over pairs are as long as the history; where there are fewer pairs, launches find nothing to do.
"""

from __future__ import annotations

from collections.abc import Iterator

from .cu_update import RATE
from .launch import Array, Launch, Room, Step, Steps, each

STATES = 6
SMALLEST_GRADIENT, SMALLEST_DESCENT, SMALLEST_CURVATURE = 1e-7, 1e-9, 1e-10
"""As NumPy's (PyTorch's tolerances)."""

MOST_PARTS, PART = 264, 2048
"""Blocks that add up parts of a product, at most and each of so many elements: every block behind adds up all parts."""

FOUND = 5
"""Numbers of a call besides the shares of pairs (lbfgs.cu)."""


def lbfgs_update(*arrays: Array, lr: float, history: int = 10, **_: object) -> Steps | None:
    """Weights, their gradients, and the states: steps, changes, curvatures, last gradient, last direction, progress."""
    last = arrays[-3]
    return tuple(_steps(arrays, history)) if last.size else None


def _steps(arrays: tuple[Array, ...], history: int) -> Iterator[Step]:
    count = (len(arrays) - STATES) // 2
    weights, gradients = arrays[:count], arrays[count : 2 * count]
    steps, changes, curvatures, last, direction, progress = arrays[2 * count :]
    size = last.size
    blocks = min(MOST_PARTS, -(-size // PART))
    gradient, numbers, parts = Room(size), Room(FOUND + history), Room(2 * blocks)

    def over_all(kernel: str, *told: object) -> Launch:
        return Launch(told, (blocks,), kernel=f"lbfgs_{kernel}")

    def by_one_block(kernel: str, *told: object) -> Launch:
        return Launch(told, (1,), kernel=f"lbfgs_{kernel}")

    for array, begin in _begins(gradients):
        yield from each(array.size, array, gradient, numbers=(begin,), kernel="lbfgs_gather")
    yield over_all("sizes", gradient, parts, size)
    yield by_one_block("begin", parts, numbers, blocks, SMALLEST_GRADIENT)
    yield over_all("change", gradient, progress, numbers, last, direction, parts, size)
    kept = (parts, last, direction, progress, numbers, steps, changes)
    yield over_all("keep", *kept, size, blocks, SMALLEST_CURVATURE)
    yield by_one_block("kept", parts, numbers, curvatures, progress, blocks, history, SMALLEST_CURVATURE)
    yield over_all("turn", gradient, numbers, direction, size)
    for back, vectors, others in ((0, steps, changes), (1, changes, steps)):
        for age in reversed(range(history)) if back else range(history):
            yield over_all("product", direction, vectors, progress, numbers, parts, size, history, age)
            bent = (parts, others, curvatures, progress, numbers, direction)
            yield over_all("bend", *bent, size, blocks, history, age, back)
    yield over_all("descent", gradient, direction, numbers, last, parts, size)
    yield by_one_block("length", parts, numbers, progress, blocks, RATE)
    for array, begin in _begins(weights):
        told = (begin, SMALLEST_DESCENT)
        yield from each(array.size, direction, numbers, progress, array, numbers=told, kernel="lbfgs_move")


def _begins(arrays: tuple[Array, ...]) -> Iterator[tuple[Array, int]]:
    """Where each one begins in the vector of all."""
    begin = 0
    for array in arrays:
        yield array, begin
        begin += array.size
