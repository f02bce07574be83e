"""Launches of loss scaling: whether all gradients are finite stays on the device, and what follows from it."""

from __future__ import annotations

from .launch import BLOCKS, Array, Launch, Room, Step, Steps, each

GROWTH_INTERVAL = 2000
"""Good steps in a row behind which a dynamic scale doubles, as NumPy's kernel has it."""

PART = 4096
"""Elements that a block counts, unless there would be more than `BLOCKS` blocks."""


def not_finite(*arrays: Array, **_: object) -> Steps:
    """Parts of each gradient's count, and of all these the sum."""
    *gradients, found = arrays
    blocks = [min(BLOCKS, -(-gradient.size // PART)) for gradient in gradients]
    parts, at, steps = Room(max(1, sum(blocks))), 0, list[Step]()
    for gradient, count in zip(gradients, blocks, strict=True):
        if count:
            steps.append(Launch((gradient, parts, gradient.size, at), (count,), kernel="not_finite_parts"))
        at += count
    return (*steps, Launch((parts, found, at), (1,), kernel="not_finite_total"))


def unscale_gradients(*arrays: Array, dynamic: bool, **_: object) -> Steps:
    """A thread an element, and one thread for the scale."""
    *gradients, scale, steps, found = arrays
    divided = (
        step
        for gradient in gradients
        for step in each(gradient.size, gradient, scale, found, kernel="unscale_gradients")
    )
    told = (scale, steps, found, int(dynamic), GROWTH_INTERVAL)
    return (*divided, Launch(told, (1,), (1,), "unscale_gradients_steps"))
