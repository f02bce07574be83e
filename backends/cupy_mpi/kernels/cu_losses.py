"""Losses and metrics of logits: a block a row, then one for the sum.

Where classes are split over ranks, `origin` tells which are at hand, and tables have what all ranks have found.
"""

from __future__ import annotations

from .launch import Array, Launch, Room, Steps, each

Origin = tuple[tuple[tuple[int, int], ...], ...]


def cross_entropy_forward(
    logits: Array,
    label: Array,
    *arrays: Array,
    count: int,
    smoothing: float = 0.0,
    origin: Origin | None = None,
    **_: object,
) -> Steps | None:
    """Probabilities and a loss of each row; their sum."""
    if label.dtype != "int32" or not label.size:
        return None
    *tables, loss, probabilities = arrays
    losses, told = Room(label.size), tuple[int, ...](logits.shape[-1:])
    kernel = "cross_entropy_forward_rows"
    if origin is not None:
        kernel, told = "cross_entropy_forward_part", (*told, *origin[0][-1])
    arguments = (logits, label, *tables, losses, probabilities, *told, float(smoothing))
    return (_rows(kernel, logits, label, arguments), _total(losses, loss, _divisor(label, count)))


def cross_entropy_dx(
    dy: Array,
    probabilities: Array,
    label: Array,
    *arrays: Array,
    count: int,
    smoothing: float = 0.0,
    origin: Origin | None = None,
    **_: object,
) -> Steps | None:
    """A thread an element."""
    if label.dtype != "int32":
        return None
    classes = probabilities.shape[-1]
    start, whole = (0, classes) if origin is None else origin[1][-1]
    numbers = (classes, start, whole, _divisor(label, count), float(smoothing))
    return each(probabilities.size, dy, probabilities, label, *arrays, numbers=numbers)


def cross_entropy_largest(logits: Array, label: Array, largest: Array, **_: object) -> Steps | None:
    """Of the classes at hand, row by row of the table."""
    if not logits.size:
        return None
    arguments = (logits, largest, label.size, logits.shape[-1])
    return (_rows("cross_entropy_largest", logits, largest, arguments),)


def cross_entropy_exponentials(logits: Array, label: Array, largest: Array, sums: Array, **_: object) -> Steps | None:
    """Of the classes at hand, row by row of the table."""
    if not logits.size:
        return None
    arguments = (logits, largest, sums, label.size, logits.shape[-1])
    return (_rows("cross_entropy_exponentials", logits, sums, arguments),)


def hinge_forward(logits: Array, label: Array, loss: Array, *, count: int, **_: object) -> Steps | None:
    """The missed margins of each row; their sum."""
    if label.dtype != "int32" or not label.size:
        return None
    losses, classes = Room(label.size), logits.shape[-1]
    rows = _rows("hinge_forward_rows", logits, label, (logits, label, losses, classes))
    return (rows, _total(losses, loss, classes * _divisor(label, count)))


def hinge_dx(dy: Array, logits: Array, label: Array, dlogits: Array, *, count: int, **_: object) -> Steps | None:
    """A block a row."""
    if label.dtype != "int32" or not label.size:
        return None
    classes = logits.shape[-1]
    arguments = (dy, logits, label, dlogits, classes, classes * _divisor(label, count))
    return (_rows("hinge_dx", logits, label, arguments),)


def kl_forward(
    logits: Array, target: Array, loss: Array, difference: Array, *, count: int, temperature: float = 1.0, **_: object
) -> Steps | None:
    """Of each row the distance; their sum, times the temperature's square."""
    if not logits.size:
        return None
    row = logits[..., 0]
    losses = Room(row.size)
    arguments = (logits, target, losses, difference, logits.shape[-1], float(temperature))
    rows = _rows("kl_forward_rows", logits, row, arguments)
    return (rows, _total(losses, loss, _divisor(row, count) / temperature**2))


def kl_dx(dy: Array, difference: Array, dlogits: Array, *, count: int, temperature: float = 1.0, **_: object) -> Steps:
    """A thread an element."""
    factor = temperature / _divisor(difference[..., 0], count)
    return each(difference.size, dy, difference, dlogits, numbers=(factor,))


def kl_dt(
    dy: Array, logits: Array, target: Array, dtarget: Array, *, count: int, temperature: float = 1.0, **_: object
) -> Steps | None:
    """A block a row."""
    if not logits.size:
        return None
    row = logits[..., 0]
    factor = temperature / _divisor(row, count)
    arguments = (dy, logits, target, dtarget, logits.shape[-1], float(temperature), factor)
    return (_rows("kl_dt", logits, row, arguments),)


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


def _rows(kernel: str, logits: Array, rows: Array, arguments: tuple[object, ...]) -> Launch:
    """A block for each row, with whole warps and no more than there are classes."""
    threads = min(256, -(-logits.shape[-1] // 32) * 32)
    return Launch(arguments, (rows.size,), (threads,), kernel)


def _total(values: Room, total: Array, divisor: float) -> Launch:
    return Launch((values, total, values.elements, divisor), (1,), kernel="losses_total")


def _divisor(label: Array, count: int) -> float:
    """What a sum over labels is divided by, with so many samples in the whole batch."""
    return float(count * (label.size // len(label) if len(label) else 1))
