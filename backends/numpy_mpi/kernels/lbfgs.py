"""L-BFGS over all weights at once, one gradient a step, as PyTorch's LBFGS with max_iter = 1 and no line search.

J. Nocedal, *Updating Quasi-Newton Matrices with Limited Storage*, Mathematics of Computation 1980: the two-loop
recursion. All weights and gradients count as one vector of n elements, in the order in which they are given.
"""

from __future__ import annotations

import numpy as np

from .dot import dot
from .layout import Array

SMALLEST_GRADIENT = 1e-7
"""Where no element of the gradient is larger, nothing is done (PyTorch's tolerance_grad)."""

SMALLEST_DESCENT = 1e-9
"""Where the direction descends by less than this, the weights stay (PyTorch's tolerance_change)."""

SMALLEST_CURVATURE = 1e-10
"""Pairs with less are not kept, so that the direction always descends."""

STATES = 6
BEGUN, PAIRS, NEXT, SCALE, LENGTH = range(5)
"""Entries of `progress`: whether there was a step, pairs kept, the slot for the next one, H₀'s scale, the last step."""


def lbfgs_update(*arrays: Array, lr: float, history: int = 10, **_: object) -> None:
    """w += t·d, where d = -H·g and H is made of the last `history` pairs of steps s and changes of the gradient y.

    Arrays: weights, their gradients, and the states: steps [history, n], changes [history, n], curvatures y·s
    [history], the last gradient [n], the last direction [n], progress [5]. Slots of pairs are written in turn. t is
    the rate, in the first step min(1, 1/Σ|g|) of it.
    """
    count = (len(arrays) - STATES) // 2
    weights, gradients = arrays[:count], arrays[count : 2 * count]
    steps, changes, curvatures, last, direction, progress = arrays[2 * count :]
    gradient = np.concatenate([array.reshape(-1) for array in gradients])
    if np.abs(gradient).max() <= SMALLEST_GRADIENT:
        return
    if progress[BEGUN]:
        np.subtract(gradient, last, out=last)
        np.multiply(direction, progress[LENGTH], out=direction)
        _remember(direction, last, steps, changes, curvatures, progress, history)
        _descend(gradient, direction, steps, changes, curvatures, progress, history)
        length = lr
    else:
        np.negative(gradient, out=direction)
        length = lr * min(1.0, 1.0 / float(np.abs(gradient).sum()))
        progress[SCALE] = 1
    progress[BEGUN], progress[LENGTH] = 1, length
    np.copyto(last, gradient)
    if dot(gradient, direction) <= -SMALLEST_DESCENT:
        move(weights, direction, length)


def _remember(
    step: Array, change: Array, steps: Array, changes: Array, curvatures: Array, progress: Array, history: int
) -> None:
    """Keep a pair in the next slot, where the curvature along the step is positive."""
    curvature = dot(change, step)
    if curvature <= SMALLEST_CURVATURE:
        return
    slot = int(progress[NEXT])
    steps[slot], changes[slot], curvatures[slot] = step, change, curvature
    progress[NEXT] = (slot + 1) % history
    progress[PAIRS] = min(progress[PAIRS] + 1, history)
    progress[SCALE] = curvature / dot(change, change)


def _descend(
    gradient: Array,
    direction: Array,
    steps: Array,
    changes: Array,
    curvatures: Array,
    progress: Array,
    history: int,
) -> None:
    """direction = -H·gradient: through the pairs from the newest to the oldest, times H₀, and back."""
    newest = int(progress[NEXT]) - 1
    slots = [(newest - age) % history for age in range(int(progress[PAIRS]))]
    np.negative(gradient, out=direction)
    shares = []
    for slot in slots:
        shares.append(dot(steps[slot], direction) / curvatures[slot])
        np.subtract(direction, shares[-1] * changes[slot], out=direction)
    np.multiply(direction, progress[SCALE], out=direction)
    for slot, share in zip(reversed(slots), reversed(shares), strict=True):
        back = dot(changes[slot], direction) / curvatures[slot]
        np.add(direction, (share - back) * steps[slot], out=direction)


def move(weights: tuple[Array, ...], direction: Array, length: float) -> None:
    """w += length·direction, each weight its part."""
    start = 0
    for weight in weights:
        part = direction[start : start + weight.size].reshape(weight.shape)
        np.add(weight, length * part, out=weight)
        start += weight.size
