"""Losses and metrics of logits. A loss divides the sum over the samples at hand by `count`, those of the global batch.

So the shards' losses add up to the loss, and their gradients to its gradient. `dx` is the gradient by the logits, `dt`
that by the target.

Cross-entropy whose classes are split over ranks goes in three steps (Shoeybi et al., "Megatron-LM", 2019): the ranks
find the largest logit of each row, then they sum the exponentials, then each has its classes' probabilities and its
part of the loss. `origin` tells which classes are at hand. The two tables may be longer than there are rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .distances import divisor
from .dot import dot
from .layout import Array, Origin


def cross_entropy_forward(
    logits: Array,
    label: Array,
    *arrays: Array,
    count: int,
    smoothing: float = 0.0,
    origin: Origin | None = None,
    **_: object,
) -> None:
    """-log softmax(logits) at the label; with smoothing s of C classes the target is (1-s) there and s/C everywhere.

    logits [..., classes], label [...] of integers, [tables] -> loss (0-d), probabilities (as logits). The largest logit
    is subtracted first, so that no exponential overflows. The mean is over `count` times the labels of a sample.
    """
    *tables, loss, probabilities = arrays
    if origin is not None:
        losses = _losses_of_part(logits, label, tables, probabilities, smoothing, origin[0][-1])
        loss[...] = losses.sum() / divisor(label, count)
        return
    np.subtract(logits, logits.max(axis=-1, keepdims=True), out=probabilities)
    picked = _at_label(probabilities, label)
    mean = probabilities.mean(axis=-1) if smoothing else 0.0
    np.exp(probabilities, out=probabilities)
    total = probabilities.sum(axis=-1, keepdims=True)
    np.divide(probabilities, total, out=probabilities)
    losses = np.log(total[..., 0]) - (1 - smoothing) * picked - smoothing * mean
    loss[...] = losses.sum() / divisor(label, count)


def cross_entropy_dx(
    dy: Array,
    probabilities: Array,
    label: Array,
    dlogits: Array,
    *,
    count: int,
    smoothing: float = 0.0,
    origin: Origin | None = None,
    **_: object,
) -> None:
    """dlogits = (probabilities - target)·dy/count."""
    start, classes = (0, probabilities.shape[-1]) if origin is None else origin[1][-1]
    np.subtract(probabilities, smoothing / classes, out=dlogits)
    subtract_at_label(dlogits, label, 1 - smoothing, start)
    np.multiply(dlogits, dy / divisor(label, count), out=dlogits)


def cross_entropy_largest(logits: Array, label: Array, largest: Array, **_: object) -> None:
    """logits -> the largest of each row among the classes at hand."""
    largest.fill(0)
    np.max(logits, axis=-1, out=of_rows(largest, label))


def cross_entropy_exponentials(logits: Array, label: Array, largest: Array, sums: Array, **_: object) -> None:
    """logits, the largest of each whole row -> Σ e^(logit - largest) of each row over the classes at hand."""
    sums.fill(0)
    np.exp(logits - of_rows(largest, label)[..., None]).sum(axis=-1, out=of_rows(sums, label))


def subtract_at_label(rows: Array, label: Array, value: float, start: int) -> None:
    """Subtract a value at each row's label, where it is among the classes from `start` on."""
    rows, labels = rows.reshape(-1, rows.shape[-1]), label.reshape(-1) - start
    here = np.flatnonzero((labels >= 0) & (labels < rows.shape[-1]))
    rows[here, labels[here]] -= value


def of_rows(table: Array, label: Array) -> Array:
    """The entries of a table that belong to the rows at hand, in the labels' shape."""
    return table[: label.size].reshape(label.shape)


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


def _losses_of_part(
    logits: Array,
    label: Array,
    tables: Sequence[Array],
    probabilities: Array,
    smoothing: float,
    classes: tuple[int, int],
) -> Array:
    """Each row's part of its loss, and the probabilities; the first part has the logarithms."""
    largest, total = (of_rows(table, label) for table in tables)
    start, whole = classes
    np.subtract(logits, largest[..., None], out=probabilities)
    losses: Array = np.log(total) if start == 0 else np.zeros_like(total)
    if smoothing:
        np.subtract(losses, smoothing / whole * probabilities.sum(axis=-1), out=losses)
    rows, labels = probabilities.reshape(-1, logits.shape[-1]), label.reshape(-1) - start
    here = np.flatnonzero((labels >= 0) & (labels < rows.shape[-1]))
    losses.reshape(-1)[here] -= (1 - smoothing) * rows[here, labels[here]]
    np.exp(probabilities, out=probabilities)
    np.divide(probabilities, total[..., None], out=probabilities)
    return losses


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
