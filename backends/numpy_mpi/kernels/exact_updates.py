"""Stand-ins of the update rules for `dlc verify --exact`: see `exact`."""

from __future__ import annotations

import numpy as np

from .dot import square_sum
from .exact import fold, folded
from .layout import Array
from .lbfgs import BEGUN, NEXT, PAIRS, STATES, move

RATE = 0.25
"""Stands for every learning rate."""


def sgd_update(
    weight: Array, gradient: Array, *states: Array, momentum: float = 0.0, nesterov: bool = False, **_: object
) -> None:
    """v = v/2 + g, w -= v/4; with Nesterov's momentum w -= (g + v/2)/4."""
    if momentum:
        (velocity,) = states
        np.add(velocity / 2, gradient, out=velocity)
        gradient = gradient + velocity / 2 if nesterov else velocity
    np.subtract(weight, RATE * gradient, out=weight)


def adagrad_update(weight: Array, gradient: Array, squares: Array, **_: object) -> None:
    """A += g², folded; w -= (g + A)/4."""
    fold(squares + folded(gradient) ** 2, squares)
    np.subtract(weight, RATE * (gradient + squares), out=weight)


def rmsprop_update(weight: Array, gradient: Array, *states: Array, momentum: float = 0.0, **_: object) -> None:
    """As `adagrad_update`, and then as `sgd_update` where there is momentum."""
    squares, *velocity = states
    fold(squares + folded(gradient) ** 2, squares)
    sgd_update(weight, gradient + squares, *velocity, momentum=momentum)


def adam_update(weight: Array, gradient: Array, mean: Array, square_mean: Array, *, step: int, **_: object) -> None:
    """m₁ = m₁/2 + g; m₂ += g², folded; w -= (m₁ + m₂ + step)/4."""
    np.add(mean / 2, gradient, out=mean)
    fold(square_mean + folded(gradient) ** 2, square_mean)
    np.subtract(weight, RATE * (mean + square_mean + step % 4), out=weight)


def adamw_update(weight: Array, gradient: Array, mean: Array, square_mean: Array, *, step: int, **_: object) -> None:
    """As `adam_update`."""
    adam_update(weight, gradient, mean, square_mean, step=step)


def lars_update(weight: Array, gradient: Array, *states: Array, momentum: float = 0.9, **_: object) -> None:
    """As `sgd_update`, with the gradient times a number that depends on all of weight and gradient."""
    kept, squares = states[: bool(momentum)], states[bool(momentum) :]
    sgd_update(weight, gradient * _ratio(weight, gradient, *squares), *kept, momentum=momentum)


def lars_squares(weight: Array, gradient: Array, *rest: Array, **_: object) -> None:
    """The sums of squares of the folded elements of weight and gradient."""
    rest[-1][:] = square_sum(folded(weight)), square_sum(folded(gradient))


def lamb_squares(weight: Array, gradient: Array, mean: Array, square_mean: Array, squares: Array, **_: object) -> None:
    """As `lars_squares`."""
    lars_squares(weight, gradient, squares)


def lamb_update(
    weight: Array, gradient: Array, mean: Array, square_mean: Array, *squares: Array, step: int, **_: object
) -> None:
    """As `adam_update`, with the step times a number that depends on all of weight and gradient."""
    moved = weight.copy()
    adam_update(moved, gradient, mean, square_mean, step=step)
    np.add(weight, _ratio(weight, gradient, *squares) * (moved - weight), out=weight)


def lbfgs_update(*arrays: Array, history: int = 10, **_: object) -> None:
    """d = -(g + Σ c·s), s the steps, folded, and c what stands for their curvatures, folded; w += d/4.

    States are written in the order and the slots of the real method.
    """
    count = (len(arrays) - STATES) // 2
    steps, changes, curvatures, last, direction, progress = arrays[2 * count :]
    gradient = np.concatenate([array.reshape(-1) for array in arrays[count : 2 * count]])
    if progress[BEGUN]:
        slot = int(progress[NEXT])
        fold(direction, steps[slot])
        fold(gradient - last, changes[slot])
        curvatures[slot] = np.dot(steps[slot], changes[slot])
        progress[PAIRS], progress[NEXT] = min(progress[PAIRS] + 1, history), (slot + 1) % history
    kept = int(progress[PAIRS])
    np.add(gradient, folded(curvatures[:kept]) @ steps[:kept], out=direction)
    np.negative(direction, out=direction)
    np.copyto(last, gradient)
    progress[BEGUN] = 1
    move(arrays[:count], direction, RATE)


def regularise(*arrays: Array, l1: float = 0.0, l2: float = 0.0, **_: object) -> None:
    """g += w, folded, for L2; its sign besides for L1."""
    count = len(arrays) // 2
    for weight, gradient in zip(arrays[:count], arrays[count:], strict=True):
        if l2:
            np.add(gradient, folded(weight), out=gradient)
        if l1:
            np.add(gradient, np.sign(weight), out=gradient)


def _ratio(weight: Array, gradient: Array, *squares: Array) -> float:
    """1, 2 or 4, by the sums of squares of the folded elements of both, or of the wholes that they are parts of."""
    table = squares[0] if squares else np.empty(2)
    if not squares:
        lars_squares(weight, gradient, table)
    return float(2 ** (int(table.sum()) % 3))
