"""Losses and metrics of logits: a block a row, then one for the sum. Classes that are split over ranks are NumPy's."""

from __future__ import annotations

from .launch import Array, Launch, Room, Steps, each


def cross_entropy_forward(
    logits: Array,
    label: Array,
    *arrays: Array,
    count: int,
    smoothing: float = 0.0,
    origin: object = None,
    **_: object,
) -> Steps | None:
    """Probabilities and a loss of each row; their sum."""
    if origin is not None or label.dtype != "int32" or not label.size:
        return None
    loss, probabilities = arrays
    losses = Room(label.size)
    arguments = (logits, label, losses, probabilities, logits.shape[-1], float(smoothing))
    return (_rows("cross_entropy_forward_rows", logits, label, arguments), _total(losses, loss, _divisor(label, count)))


def cross_entropy_dx(
    dy: Array,
    probabilities: Array,
    label: Array,
    *arrays: Array,
    count: int,
    smoothing: float = 0.0,
    origin: object = None,
    **_: object,
) -> Steps | None:
    """A thread an element."""
    if origin is not None or label.dtype != "int32":
        return None
    numbers = (probabilities.shape[-1], _divisor(label, count), float(smoothing))
    return each(probabilities.size, dy, probabilities, label, *arrays, numbers=numbers)


def accuracy_forward(logits: Array, label: Array, correct: Array, *, top: int = 1, **_: object) -> Steps | None:
    """Whether each row is correct; how many are."""
    if label.dtype != "int32" or not label.size:
        return None
    found = Room(label.size)
    arguments = (logits, label, found, logits.shape[-1], top)
    return (_rows("accuracy_forward_rows", logits, label, arguments), _total(found, correct, _divisor(label, 1)))


def perplexity_forward(logits: Array, label: Array, total: Array, **_: object) -> Steps | None:
    """A loss of each row; their sum."""
    if label.dtype != "int32" or not label.size:
        return None
    losses = Room(label.size)
    arguments = (logits, label, losses, logits.shape[-1])
    return (_rows("perplexity_forward_rows", logits, label, arguments), _total(losses, total, _divisor(label, 1)))


def _rows(kernel: str, logits: Array, label: Array, arguments: tuple[object, ...]) -> Launch:
    """A block for each row, with whole warps and no more than there are classes."""
    threads = min(256, -(-logits.shape[-1] // 32) * 32)
    return Launch(arguments, (label.size,), (threads,), kernel)


def _total(values: Room, total: Array, divisor: float) -> Launch:
    return Launch((values, total, values.elements, divisor), (1,), kernel="losses_total")


def _divisor(label: Array, count: int) -> float:
    """What a sum over labels is divided by, with so many samples in the whole batch."""
    return float(count * (label.size // len(label) if len(label) else 1))
