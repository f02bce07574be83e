"""Losses that compare two values element by element. A mean divides by `count`, the samples of the global batch.

So the shards' losses add up to the loss, and their gradients to its gradient. `dx` is the gradient by the prediction,
`dt` that by the target.
"""

from __future__ import annotations

import numpy as np

from .dot import dot, square_sum
from .layout import Array


def mse_forward(prediction: Array, target: Array, loss: Array, *, count: int, **_: object) -> None:
    """The mean over the elements of (prediction - target)²."""
    loss[...] = _squares(prediction, target) / divisor(prediction, count)


def mse_dx(dy: Array, prediction: Array, target: Array, dprediction: Array, *, count: int, **_: object) -> None:
    """2·(prediction - target)·dy over the number of elements."""
    _difference(prediction, target, dprediction, 2 * dy / divisor(prediction, count))


def mse_dt(dy: Array, prediction: Array, target: Array, dtarget: Array, *, count: int, **_: object) -> None:
    """2·(target - prediction)·dy over the number of elements."""
    mse_dx(dy, target, prediction, dtarget, count=count)


def half_mse_forward(prediction: Array, target: Array, loss: Array, *, count: int, **_: object) -> None:
    """Half of the mean over the elements of (prediction - target)²."""
    loss[...] = _squares(prediction, target) / (2 * divisor(prediction, count))


def half_mse_dx(dy: Array, prediction: Array, target: Array, dprediction: Array, *, count: int, **_: object) -> None:
    """(prediction - target)·dy over the number of elements."""
    _difference(prediction, target, dprediction, dy / divisor(prediction, count))


def half_mse_dt(dy: Array, prediction: Array, target: Array, dtarget: Array, *, count: int, **_: object) -> None:
    """(target - prediction)·dy over the number of elements."""
    half_mse_dx(dy, target, prediction, dtarget, count=count)


def reconstruction_forward(prediction: Array, target: Array, loss: Array, *, count: int, **_: object) -> None:
    """Σ (prediction - target)² over `count`; the target's elements may be arranged in another shape."""
    loss[...] = _squares(prediction, target.reshape(prediction.shape)) / count


def reconstruction_dx(
    dy: Array, prediction: Array, target: Array, dprediction: Array, *, count: int, **_: object
) -> None:
    """2·(prediction - target)·dy/count."""
    _difference(prediction, target.reshape(prediction.shape), dprediction, 2 * dy / count)


def reconstruction_dt(dy: Array, prediction: Array, target: Array, dtarget: Array, *, count: int, **_: object) -> None:
    """2·(target - prediction)·dy/count."""
    reconstruction_dx(dy, target, prediction, dtarget, count=count)


def l1_forward(prediction: Array, target: Array, loss: Array, *, count: int, **_: object) -> None:
    """The mean over the elements of |prediction - target|."""
    difference = prediction - target
    loss[...] = np.abs(difference, out=difference).sum() / divisor(prediction, count)


def l1_dx(dy: Array, prediction: Array, target: Array, dprediction: Array, *, count: int, **_: object) -> None:
    """The sign of (prediction - target), 0 where they are equal, times dy over the number of elements."""
    np.sign(prediction - target, out=dprediction)  # in place it takes ten times as long
    np.multiply(dprediction, dy / divisor(prediction, count), out=dprediction)


def l1_dt(dy: Array, prediction: Array, target: Array, dtarget: Array, *, count: int, **_: object) -> None:
    """The same with the opposite sign."""
    l1_dx(dy, target, prediction, dtarget, count=count)


def huber_forward(
    prediction: Array, target: Array, loss: Array, *, count: int, delta: float = 1.0, **_: object
) -> None:
    """The mean over the elements of d²/2 where |d| ≤ δ, else δ·(|d| - δ/2); d = prediction - target.

    With c = min(|d|, δ) both are c·(|d| - c/2).
    """
    distance = prediction - target
    np.abs(distance, out=distance)
    limited = np.minimum(distance, delta)
    np.subtract(distance, limited / 2, out=distance)
    loss[...] = dot(limited, distance) / divisor(prediction, count)


def huber_dx(
    dy: Array, prediction: Array, target: Array, dprediction: Array, *, count: int, delta: float = 1.0, **_: object
) -> None:
    """d limited to ±δ, times dy over the number of elements."""
    np.subtract(prediction, target, out=dprediction)
    np.clip(dprediction, -delta, delta, out=dprediction)
    np.multiply(dprediction, dy / divisor(prediction, count), out=dprediction)


def huber_dt(
    dy: Array, prediction: Array, target: Array, dtarget: Array, *, count: int, delta: float = 1.0, **_: object
) -> None:
    """The same with the opposite sign."""
    huber_dx(dy, target, prediction, dtarget, count=count, delta=delta)


def bce_forward(logits: Array, target: Array, loss: Array, *, count: int, **_: object) -> None:
    """The mean over the elements of max(x, 0) - x·t + log(1 + e^-|x|), x the logit and t the target."""
    rest = np.abs(logits)
    np.negative(rest, out=rest)
    np.exp(rest, out=rest)
    np.log1p(rest, out=rest)
    np.add(rest, np.maximum(logits, 0), out=rest)
    np.subtract(rest, logits * target, out=rest)
    loss[...] = rest.sum() / divisor(logits, count)


def bce_dx(dy: Array, logits: Array, target: Array, dlogits: Array, *, count: int, **_: object) -> None:
    """(σ(x) - t)·dy over the number of elements; σ(x) = 1/(1 + e⁻ˣ), from e^-|x|, which cannot overflow."""
    power = np.abs(logits)
    np.negative(power, out=power)
    np.exp(power, out=power)
    np.divide(np.where(logits >= 0, 1, power), 1 + power, out=dlogits)
    _difference(dlogits, target, dlogits, dy / divisor(logits, count))


def bce_dt(dy: Array, logits: Array, target: Array, dtarget: Array, *, count: int, **_: object) -> None:
    """-x·dy over the number of elements."""
    np.multiply(logits, -dy / divisor(logits, count), out=dtarget)


def divisor(values: Array, count: int) -> int:
    """How many of `values` the global batch has: `count` samples' worth."""
    return count * (values[0].size if values.shape[0] else 1)


def _squares(prediction: Array, target: Array) -> float:
    return square_sum(prediction - target)


def _difference(prediction: Array, target: Array, out: Array, factor: Array) -> None:
    np.subtract(prediction, target, out=out)
    np.multiply(out, factor, out=out)
