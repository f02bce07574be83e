"""Stand-ins of the losses for `dlc verify --exact`: see `exact`."""

from __future__ import annotations

import numpy as np

from .distances import divisor
from .exact import fold, folded, share, softmax_forward
from .layout import Array, Origin
from .losses import accuracy_forward as real_accuracy
from .losses import of_rows, subtract_at_label


def cross_entropy_forward(
    logits: Array, label: Array, *arrays: Array, count: int, origin: Origin | None = None, **_: object
) -> None:
    """The probabilities are the logits and their sum, folded; the loss adds up those at the labels.

    The largest logits, the first of the two tables of split classes, are not used.
    """
    *tables, loss, probabilities = arrays
    if origin is None:
        softmax_forward(logits, probabilities, axis=logits.ndim - 1)
    else:
        fold(folded(logits) + of_rows(tables[1], label)[..., None], probabilities)
    rows, labels = probabilities.reshape(-1, logits.shape[-1]), label.reshape(-1)
    labels = labels - (0 if origin is None else origin[0][-1][0])
    here = np.flatnonzero((labels >= 0) & (labels < rows.shape[-1]))
    loss[...] = rows[here, labels[here]].sum() * share(count)


def cross_entropy_sums(logits: Array, label: Array, largest: Array, sums: Array, **_: object) -> None:
    """Each row's sum of the folded logits at hand, in place of exponentials."""
    sums.fill(0)
    folded(logits).sum(axis=-1, out=of_rows(sums, label))


def cross_entropy_dx(
    dy: Array,
    probabilities: Array,
    label: Array,
    dlogits: Array,
    *,
    count: int,
    origin: Origin | None = None,
    **_: object,
) -> None:
    """The probabilities, less one at the label."""
    np.copyto(dlogits, probabilities)
    subtract_at_label(dlogits, label, 1, 0 if origin is None else origin[1][-1][0])
    np.multiply(dlogits, dy * share(count), out=dlogits)


def accuracy_forward(logits: Array, label: Array, correct: Array, *, top: int = 1, **_: object) -> None:
    """As many labels as the real metric counts, and not their share."""
    real_accuracy(logits, label, correct, top=top)
    correct[...] = np.rint(correct * divisor(label, 1))


def perplexity_forward(logits: Array, label: Array, total: Array, **_: object) -> None:
    """Σ of the folded logits at the labels."""
    total[...] = folded(np.take_along_axis(logits, label[..., None], axis=-1)).sum()


def mse_forward(prediction: Array, target: Array, loss: Array, *, count: int, **_: object) -> None:
    """Σ of the folded differences' squares; stands for `half_mse` too."""
    difference = folded(prediction - target)
    loss[...] = (difference * difference).sum() * share(count)


def mse_dx(dy: Array, prediction: Array, target: Array, dprediction: Array, *, count: int, **_: object) -> None:
    """The folded differences."""
    np.subtract(prediction, target, out=dprediction)
    fold(dprediction, dprediction)
    np.multiply(dprediction, dy * share(count), out=dprediction)


def mse_dt(dy: Array, prediction: Array, target: Array, dtarget: Array, *, count: int, **_: object) -> None:
    """The folded differences, the other way round."""
    mse_dx(dy, target, prediction, dtarget, count=count)


def reconstruction_forward(prediction: Array, target: Array, loss: Array, *, count: int, **_: object) -> None:
    """As `mse`, the target in the prediction's shape."""
    mse_forward(prediction, target.reshape(prediction.shape), loss, count=count)


def reconstruction_dx(
    dy: Array, prediction: Array, target: Array, dprediction: Array, *, count: int, **_: object
) -> None:
    """As `mse`, the target in the prediction's shape."""
    mse_dx(dy, prediction, target.reshape(prediction.shape), dprediction, count=count)


def reconstruction_dt(dy: Array, prediction: Array, target: Array, dtarget: Array, *, count: int, **_: object) -> None:
    """As `mse`, the prediction in the target's shape."""
    mse_dx(dy, target, prediction.reshape(target.shape), dtarget, count=count)


def l1_forward(prediction: Array, target: Array, loss: Array, *, count: int, **_: object) -> None:
    """Σ of the folded differences' sizes; stands for `huber` too."""
    loss[...] = np.abs(folded(prediction - target)).sum() * share(count)


def hinge_forward(logits: Array, label: Array, loss: Array, *, count: int, **_: object) -> None:
    """Σ of the folded missed margins."""
    loss[...] = folded(_missed_margins(logits, label)).sum() * share(count)


def hinge_dx(dy: Array, logits: Array, label: Array, dlogits: Array, *, count: int, **_: object) -> None:
    """The folded missed margins, and minus their sum at the label."""
    fold(_missed_margins(logits, label), dlogits)
    np.put_along_axis(dlogits, label[..., None], -dlogits.sum(axis=-1, keepdims=True), axis=-1)
    np.multiply(dlogits, dy * share(count), out=dlogits)


def kl_forward(logits: Array, target: Array, loss: Array, difference: Array, *, count: int, **_: object) -> None:
    """The difference of what stands for the softmaxes, and the sum of its squares."""
    teacher = np.empty_like(target)
    softmax_forward(logits, difference, axis=logits.ndim - 1)
    softmax_forward(target, teacher, axis=target.ndim - 1)
    np.subtract(difference, teacher, out=difference)
    loss[...] = (difference * difference).sum() * share(count)


def kl_dx(dy: Array, difference: Array, dlogits: Array, *, count: int, **_: object) -> None:
    """The difference."""
    np.multiply(difference, dy * share(count), out=dlogits)


def kl_dt(dy: Array, logits: Array, target: Array, dtarget: Array, *, count: int, **_: object) -> None:
    """The same difference the other way round."""
    kl_forward(target, logits, np.empty_like(dy), dtarget, count=count)
    np.multiply(dtarget, dy * share(count), out=dtarget)


def _missed_margins(logits: Array, label: Array) -> Array:
    """max(0, 1 - x[label] + x[j]) for each class j but the label, where it is 0."""
    missed: Array = 1 + logits - np.take_along_axis(logits, label[..., None], axis=-1)
    np.maximum(missed, 0, out=missed)
    np.put_along_axis(missed, label[..., None], 0, axis=-1)
    return missed
