"""What losses and metrics in C are told; where the classes of a row are split over ranks NumPy has the code."""

from __future__ import annotations

from .distances import divisor
from .layout import Array, Origin
from .native import Numbers


def cross_entropy_forward(
    logits: Array,
    label: Array,
    *arrays: Array,
    count: int,
    smoothing: float = 0.0,
    origin: Origin | None = None,
    **_: object,
) -> Numbers | None:
    """Rows, classes, what the sum is divided by; a loss of each row is scratch."""
    if origin is not None or label.dtype != "int32":
        return None
    numbers = (label.size, logits.shape[-1], float(divisor(label, count)), float(smoothing))
    return Numbers(numbers, scratch=max(label.size, 1))


def cross_entropy_dx(
    dy: Array,
    probabilities: Array,
    label: Array,
    *_: Array,
    count: int,
    smoothing: float = 0.0,
    origin: Origin | None = None,
    **_told: object,
) -> Numbers | None:
    """The same without scratch."""
    found = cross_entropy_forward(probabilities, label, count=count, smoothing=smoothing, origin=origin)
    return found and Numbers(found.values)


def accuracy_forward(logits: Array, label: Array, *_: Array, top: int = 1, **_told: object) -> Numbers | None:
    """Rows, classes, how many places count, labels of a sample."""
    if label.dtype != "int32":
        return None
    return Numbers((label.size, logits.shape[-1], top, float(divisor(label, 1))))


def perplexity_forward(logits: Array, label: Array, _total: Array, **_told: object) -> Numbers | None:
    """Rows, classes, labels of a sample; a loss of each row is scratch."""
    if label.dtype != "int32":
        return None
    numbers = (label.size, logits.shape[-1], float(divisor(label, 1)))
    return Numbers(numbers, scratch=max(label.size, 1))
