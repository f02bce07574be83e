"""Dropout: a thread an element, whose random number depends on its place in its sample alone."""

from __future__ import annotations

from math import ceil

from .launch import Array, Changing, Steps, each


def dropout_forward(
    x: Array,
    y: Array,
    mask: Array,
    *,
    p: float,
    key: tuple[int, int],
    step: int,
    position: int,
    origin: object = None,
    **_: object,
) -> Steps | None:
    """Numbers of 24 bits are compared with the rate as such; parts of samples are NumPy's. The step is in memory."""
    if origin is not None or mask.dtype != "uint8":
        return None
    columns = x.size // len(x) if len(x) else 1
    numbers = (columns, position, STEP, *key, ceil(p * 2**24), 1 / (1 - p))
    return each(x.size, x, y, mask, numbers=numbers)


def dropout_dx(dy: Array, mask: Array, dx: Array, *, p: float, **_: object) -> Steps | None:
    """As the kernel of the same name."""
    return each(dy.size, dy, mask, dx, numbers=(1 / (1 - p),)) if mask.dtype == "uint8" else None


def _step(step: int) -> tuple[int, ...]:
    return (int(step),)


STEP = Changing(_step, ("step",))
"""The number of the step."""
