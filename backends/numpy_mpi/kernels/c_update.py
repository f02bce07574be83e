"""What update rules in C are told: their rates, and what the step alone decides."""

from __future__ import annotations

from .c_elementwise import variant
from .layout import Array
from .native import Numbers


def sgd_update(
    weight: Array,
    gradient: Array,
    *_: Array,
    lr: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    **_told: object,
) -> Numbers:
    """Rates; without a velocity there is a function of its own."""
    if not momentum:
        return Numbers((weight.size, float(lr), float(weight_decay)), name=variant("sgd_update_plain", weight))
    return Numbers((weight.size, float(lr), float(momentum), int(nesterov), float(weight_decay)))


def adagrad_update(
    weight: Array, *_: Array, lr: float, eps: float = 1e-10, weight_decay: float = 0.0, **_told: object
) -> Numbers:
    """Rates."""
    return Numbers((weight.size, float(lr), float(eps), float(weight_decay)))


def rmsprop_update(
    weight: Array,
    *_: Array,
    lr: float,
    alpha: float = 0.99,
    eps: float = 1e-8,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    **_told: object,
) -> Numbers:
    """As for `sgd_update`."""
    numbers = (weight.size, float(lr), float(alpha), float(eps), float(weight_decay))
    if not momentum:
        return Numbers(numbers, name=variant("rmsprop_update_plain", weight))
    return Numbers((*numbers, float(momentum)))


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


sgd_updates, adagrad_updates, rmsprop_updates = sgd_update, adagrad_update, rmsprop_update
adam_updates, adamw_updates = adam_update, adamw_update
