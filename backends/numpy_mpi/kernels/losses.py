"""Losses and metrics. A mean divides the sum over the samples at hand by `count`, the samples of the global batch.

So the shards' losses add up to the loss, and their gradients to its gradient.
"""

from __future__ import annotations

import numpy as np

from .layout import Array


def cross_entropy_forward(
    logits: Array, label: Array, loss: Array, probabilities: Array, *, count: int, smoothing: float = 0.0, **_: object
) -> None:
    """-log softmax(logits) at the label; with smoothing s of C classes the target is (1-s) there and s/C everywhere.

    logits [..., classes], label [...] of integers -> loss (0-d), probabilities (as logits). The largest logit is
    subtracted first, so that no exponential overflows. The mean is over `count` times the labels of a sample.
    """
    np.subtract(logits, logits.max(axis=-1, keepdims=True), out=probabilities)
    picked = _at_label(probabilities, label)
    mean = probabilities.mean(axis=-1) if smoothing else 0.0
    np.exp(probabilities, out=probabilities)
    total = probabilities.sum(axis=-1, keepdims=True)
    np.divide(probabilities, total, out=probabilities)
    losses = np.log(total[..., 0]) - (1 - smoothing) * picked - smoothing * mean
    loss[...] = losses.sum() / _divisor(label, count)


def cross_entropy_dx(
    dy: Array, probabilities: Array, label: Array, dlogits: Array, *, count: int, smoothing: float = 0.0, **_: object
) -> None:
    """dlogits = (probabilities - target)·dy/count."""
    np.subtract(probabilities, smoothing / probabilities.shape[-1], out=dlogits)
    rows, labels = dlogits.reshape(-1, dlogits.shape[-1]), label.reshape(-1)
    rows[np.arange(labels.size), labels] -= 1 - smoothing
    np.multiply(dlogits, dy / _divisor(label, count), out=dlogits)


def mse_forward(prediction: Array, target: Array, loss: Array, *, count: int, **_: object) -> None:
    """The mean over the elements of (prediction - target)²."""
    loss[...] = _squares(prediction, target) / _divisor(prediction, count)


def mse_dx(dy: Array, prediction: Array, target: Array, dprediction: Array, *, count: int, **_: object) -> None:
    """2·(prediction - target)·dy over the number of elements."""
    _difference(prediction, target, dprediction, 2 * dy / _divisor(prediction, count))


def half_mse_forward(prediction: Array, target: Array, loss: Array, *, count: int, **_: object) -> None:
    """Half of the mean over the elements of (prediction - target)²."""
    loss[...] = _squares(prediction, target) / (2 * _divisor(prediction, count))


def half_mse_dx(dy: Array, prediction: Array, target: Array, dprediction: Array, *, count: int, **_: object) -> None:
    """(prediction - target)·dy over the number of elements."""
    _difference(prediction, target, dprediction, dy / _divisor(prediction, count))


def accuracy_forward(logits: Array, label: Array, correct: Array, *, top: int = 1, **_: object) -> None:
    """How many labels are among their sample's `top` largest logits; equal logits count in order of class.

    A sample whose logit at the label is not a number is not correct.
    """
    at_label = _at_label(logits, label)[..., None]
    before = ~(logits <= at_label)
    before |= (logits == at_label) & (np.arange(logits.shape[-1]) < label[..., None])
    correct[...] = np.count_nonzero(before.sum(axis=-1) < top)


def _at_label(values: Array, label: Array) -> Array:
    return np.take_along_axis(values, label[..., None], axis=-1)[..., 0]


def _divisor(values: Array, count: int) -> int:
    """How many of `values` the global batch has: `count` samples' worth."""
    return count * (values[0].size if values.shape[0] else 1)


def _squares(prediction: Array, target: Array) -> Array:
    difference = (prediction - target).reshape(-1)
    return np.asarray(np.dot(difference, difference))


def _difference(prediction: Array, target: Array, out: Array, factor: Array) -> None:
    np.subtract(prediction, target, out=out)
    np.multiply(out, factor, out=out)
