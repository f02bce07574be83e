"""Launches of update rules: a thread an element. Rates change from step to step: kernels read them from memory."""

from __future__ import annotations

from .launch import Array, Changing, Steps, each


def sgd_update(
    weight: Array,
    *arrays: Array,
    lr: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    **_: object,
) -> Steps:
    """Without a velocity there is a kernel of its own."""
    if not momentum:
        return each(weight.size, weight, *arrays, numbers=(RATE, float(weight_decay)), kernel="sgd_update_plain")
    numbers = (RATE, float(momentum), int(nesterov), float(weight_decay))
    return each(weight.size, weight, *arrays, numbers=numbers)


def adagrad_update(
    weight: Array, *arrays: Array, lr: float, eps: float = 1e-10, weight_decay: float = 0.0, **_: object
) -> Steps:
    """Rates."""
    return each(weight.size, weight, *arrays, numbers=(RATE, float(eps), float(weight_decay)))


def rmsprop_update(
    weight: Array,
    *arrays: Array,
    lr: float,
    alpha: float = 0.99,
    eps: float = 1e-8,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    **_: object,
) -> Steps:
    """As for `sgd_update`."""
    numbers = (RATE, float(alpha), 1.0 - alpha, float(eps), float(weight_decay))
    if not momentum:
        return each(weight.size, weight, *arrays, numbers=numbers, kernel="rmsprop_update_plain")
    return each(weight.size, weight, *arrays, numbers=(*numbers, float(momentum)))


def adam_update(
    weight: Array, *arrays: Array, lr: float, step: int, weight_decay: float = 0.0, **attrs: float
) -> Steps:
    """Rates, corrected for the averages' beginning at zero."""
    return _adam(weight, arrays, 0.0, float(weight_decay), **attrs)


def adamw_update(
    weight: Array, *arrays: Array, lr: float, step: int, weight_decay: float = 0.01, **attrs: float
) -> Steps:
    """As Adam's, and what the decay leaves of the weights."""
    return _adam(weight, arrays, float(weight_decay), 0.0, **attrs)


def _adam(
    weight: Array,
    arrays: tuple[Array, ...],
    apart: float,
    decay: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    **_: float,
) -> Steps:
    """What changes, the shares of the averages, and what is added; a decay `apart` from gradients is AdamW's."""
    now = Changing(_rates, ("lr", "step"), (float(beta1), float(beta2), apart))
    numbers = (now, float(beta1), 1.0 - beta1, float(beta2), 1.0 - beta2, float(eps), decay)
    return each(weight.size, weight, *arrays, numbers=numbers, kernel="adam_update")


def _rate(lr: float) -> tuple[float, ...]:
    return (float(lr),)


def _rates(lr: float, step: int, beta1: float, beta2: float, decay: float) -> tuple[float, ...]:
    """The rate of the mean, the factor of the square mean's root, and what AdamW leaves of the weights."""
    rate, root = lr / (1 - beta1 ** (step + 1)), (1 - beta2 ** (step + 1)) ** -0.5
    return rate, root, 1.0 - lr * decay


RATE = Changing(_rate, ("lr",))
"""The rate of the step."""
