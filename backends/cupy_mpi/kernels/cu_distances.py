"""Launches of losses that compare two values element by element: parts of the sum, then one block for all of them."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from .launch import THREADS, Array, Launch, Room, Steps, each

KINDS = ("square", "absolute", "huber", "logistic")
"""Their numbers in the text."""

BLOCKS = 264
"""Blocks that add up distances, at most: two for each processor of the largest devices."""

PART = 4096
"""Elements that a block adds up, at least."""

Binding = Callable[..., Steps | None]


def _distance(
    kind: str, share: float = 1.0, slope: float = 1.0, whole: bool = False
) -> tuple[Binding, Binding, Binding]:
    """The loss and its gradients by prediction and target; a loss takes a share of the distance, and so its slope.

    `whole` divides by the samples alone.
    """
    number = KINDS.index(kind)

    def forward(x: Array, t: Array, loss: Array, *, count: int, delta: float = 1.0, **_: object) -> Steps | None:
        if t.dtype != x.dtype:
            return None
        blocks = min(BLOCKS, -(-x.size // PART))
        parts = Room(max(1, blocks))
        divisor = _divisor(x, count, whole) / share
        sums = (Launch((x, t, parts, x.size, number, float(delta)), (blocks,), kernel="mse_forward_parts"),)
        total = Launch((parts, loss, blocks, divisor), (1,), (THREADS,), "mse_forward_total")
        return (*(sums if blocks else ()), total)

    def dx(
        dy: Array, x: Array, t: Array, result: Array, *, count: int, delta: float = 1.0, **_: object
    ) -> Steps | None:
        if t.dtype != x.dtype:
            return None
        numbers = (number, float(delta), _divisor(x, count, whole) / slope)
        return each(x.size, dy, x, t, result, numbers=numbers, kernel="mse_dx")

    def dt(
        dy: Array, x: Array, t: Array, result: Array, *, count: int, delta: float = 1.0, **_: object
    ) -> Steps | None:
        return dx(dy, t, x, result, count=count, delta=delta)

    return forward, dx, dt


def bce_dt(dy: Array, x: Array, t: Array, result: Array, *, count: int, **_: object) -> Steps:
    """A thread an element."""
    return each(x.size, dy, x, result, numbers=(_divisor(x, count, False),))


def _divisor(x: Array, count: int, whole: bool) -> float:
    """How many elements, or samples, the global batch has."""
    return float(count * (1 if whole or not x.shape[0] else prod(x.shape[1:])))


mse_forward, mse_dx, mse_dt = _distance("square", slope=2.0)
half_mse_forward, half_mse_dx, half_mse_dt = _distance("square", share=0.5)
reconstruction_forward, reconstruction_dx, reconstruction_dt = _distance("square", slope=2.0, whole=True)
l1_forward, l1_dx, l1_dt = _distance("absolute")
huber_forward, huber_dx, huber_dt = _distance("huber")
bce_forward, bce_dx, _ = _distance("logistic")
