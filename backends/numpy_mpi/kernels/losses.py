"""Losses and metrics of logits. A loss divides the sum over the samples at hand by `count`, those of the global batch.

So the shards' losses add up to the loss, and their gradients to its gradient. `dx` is the gradient by the logits, `dt`
that by the target.
"""

from __future__ import annotations

import numpy as np

from .distances import divisor
from .dot import dot
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
    loss[...] = losses.sum() / divisor(label, count)


def cross_entropy_dx(
    dy: Array, probabilities: Array, label: Array, dlogits: Array, *, count: int, smoothing: float = 0.0, **_: object
) -> None:
    """dlogits = (probabilities - target)·dy/count."""
    np.subtract(probabilities, smoothing / probabilities.shape[-1], out=dlogits)
    rows, labels = dlogits.reshape(-1, dlogits.shape[-1]), label.reshape(-1)
    rows[np.arange(labels.size), labels] -= 1 - smoothing
    np.multiply(dlogits, dy / divisor(label, count), out=dlogits)


def hinge_forward(logits: Array, label: Array, loss: Array, *, count: int, **_: object) -> None:
    """Σ max(0, 1 - x[label] + x[j]) over the other classes j, over the number of classes; the mean over rows."""
    missed = _missed_margins(logits, label)
    loss[...] = missed.sum() / (logits.shape[-1] * divisor(label, count))


def hinge_dx(dy: Array, logits: Array, label: Array, dlogits: Array, *, count: int, **_: object) -> None:
    """dy/classes where the margin is missed, and minus their sum at the label; over the number of rows."""
    np.greater(_missed_margins(logits, label), 0, out=dlogits)
    np.put_along_axis(dlogits, label[..., None], -dlogits.sum(axis=-1, keepdims=True), axis=-1)
    np.multiply(dlogits, dy / (logits.shape[-1] * divisor(label, count)), out=dlogits)


def kl_forward(
    logits: Array,
    target: Array,
    loss: Array,
    difference: Array,
    *,
    count: int,
    temperature: float = 1.0,
    **_: object,
) -> None:
    """T²·Σ p·(log p - log q), the mean over the rows; p = softmax(target/T), q = softmax(logits/T).

    The difference q - p is kept for the gradient.
    """
    p, q, logarithms = _softened(logits, target, temperature)
    np.subtract(q, p, out=difference)
    loss[...] = temperature**2 * dot(p, logarithms) / divisor(logits[..., 0], count)


def kl_dx(dy: Array, difference: Array, dlogits: Array, *, count: int, temperature: float = 1.0, **_: object) -> None:
    """T·(q - p)·dy over the number of rows."""
    np.multiply(difference, temperature * dy / divisor(difference[..., 0], count), out=dlogits)


def kl_dt(
    dy: Array, logits: Array, target: Array, dtarget: Array, *, count: int, temperature: float = 1.0, **_: object
) -> None:
    """T·p·(log p - log q - Σ p·(log p - log q))·dy over the number of rows."""
    p, _q, logarithms = _softened(logits, target, temperature)
    np.multiply(p, logarithms, out=dtarget)
    np.subtract(logarithms, dtarget.sum(axis=-1, keepdims=True), out=logarithms)
    np.multiply(p, logarithms, out=dtarget)
    np.multiply(dtarget, temperature * dy / divisor(logits[..., 0], count), out=dtarget)


def accuracy_forward(logits: Array, label: Array, correct: Array, *, top: int = 1, **_: object) -> None:
    """How many labels are among their row's `top` largest logits, over the labels of a sample; equal logits count in
    order of class.

    A row whose logit at the label is not a number is not correct.
    """
    at_label = _at_label(logits, label)[..., None]
    before = ~(logits <= at_label)
    before |= (logits == at_label) & (np.arange(logits.shape[-1]) < label[..., None])
    correct[...] = np.count_nonzero(before.sum(axis=-1) < top) / divisor(label, 1)


def perplexity_forward(logits: Array, label: Array, total: Array, **_: object) -> None:
    """The sum over the samples of their mean of -log softmax(logits) at the label."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    picked = _at_label(shifted, label)
    sums = np.exp(shifted, out=shifted).sum(axis=-1)
    total[...] = (np.log(sums) - picked).sum() / divisor(label, 1)


def _at_label(values: Array, label: Array) -> Array:
    return np.take_along_axis(values, label[..., None], axis=-1)[..., 0]


def _missed_margins(logits: Array, label: Array) -> Array:
    """max(0, 1 - x[label] + x[j]) for each class j but the label, where it is 0."""
    missed = 1 + logits - _at_label(logits, label)[..., None]
    np.maximum(missed, 0, out=missed)
    np.put_along_axis(missed, label[..., None], 0, axis=-1)
    return missed


def _softened(logits: Array, target: Array, temperature: float) -> tuple[Array, Array, Array]:
    """p = softmax(target/T), q = softmax(logits/T) and log p - log q, which counts as 0 where p is 0."""
    log_p, log_q = (_log_softmax(x / temperature) for x in (target, logits))
    p, q = np.exp(log_p), np.exp(log_q)
    np.subtract(log_p, log_q, out=log_p, where=p > 0)
    np.copyto(log_p, 0, where=p == 0)
    return p, q, log_p


def _log_softmax(x: Array) -> Array:
    """In place, along the last axis."""
    np.subtract(x, x.max(axis=-1, keepdims=True), out=x)
    np.subtract(x, np.log(np.exp(x).sum(axis=-1, keepdims=True)), out=x)
    return x
