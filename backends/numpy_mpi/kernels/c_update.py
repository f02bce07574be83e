"""What update rules in C are told: their rates, and what the step alone decides."""

from __future__ import annotations

from .layout import Array
from .native import Numbers


def sgd_update(
    weight: Array,
    gradient: Array,
    *states: Array,
    lr: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    **_: object,
) -> Numbers | None:
    """Rates; with a velocity."""
    if not states:
        return None
    return Numbers((weight.size, float(lr), float(momentum), int(nesterov), float(weight_decay)))


def adam_update(weight: Array, *_: Array, lr: float, step: int, weight_decay: float = 0.0, **attrs: float) -> Numbers:
    """Rates, corrected for the averages' beginning at zero."""
    return Numbers((weight.size, *_rates(lr, step, **attrs), float(weight_decay)))


def adamw_update(weight: Array, *_: Array, lr: float, step: int, weight_decay: float = 0.01, **attrs: float) -> Numbers:
    """As Adam's, and what the decay leaves of the weights."""
    return Numbers((weight.size, *_rates(lr, step, **attrs), 1.0 - lr * weight_decay))


def _rates(
    lr: float, step: int, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, **_: float
) -> tuple[float, ...]:
    """The rate of the mean, the factor of the square mean's root, and the attributes."""
    rate, root = lr / (1 - beta1 ** (step + 1)), (1 - beta2 ** (step + 1)) ** -0.5
    return rate, root, float(beta1), float(beta2), float(eps)
