"""Update rules, in place, as PyTorch writes them (cost-models.md §3); `step` counts from 0.

A kernel takes weight, gradient and states. It works through them in chunks that stay in the cache, so that its
temporaries are a chunk long, however large the weight. They may be parts of larger arrays, whose elements do not lie
together. Rules that go by norms of whole tensors then need a table of two sums of squares, added up over the parts.
`RULE_updates` takes any number of rows, each with the arrays of one weight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from math import sqrt
from typing import Any

import numpy as np

from .dot import square_sum
from .gradients import norm
from .layout import Array

CHUNK = 2**14
"""Elements handled at a time: four arrays of them in double precision take half a megabyte."""


def sgd_update(
    weight: Array,
    gradient: Array,
    *states: Array,
    lr: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    **_: object,
) -> None:
    """g += λw; v = μv + g; w -= η·v, with Nesterov's momentum w -= η(g + μv); without momentum w -= η·g."""
    for w, g, *velocity in _chunks(weight, gradient, *states):
        g = g + weight_decay * w if weight_decay else g
        if momentum:
            (v,) = velocity
            np.multiply(v, momentum, out=v)
            np.add(v, g, out=v)
            g = g + momentum * v if nesterov else v
        np.subtract(w, lr * g, out=w)


def adagrad_update(
    weight: Array,
    gradient: Array,
    squares: Array,
    *,
    lr: float,
    eps: float = 1e-10,
    weight_decay: float = 0.0,
    **_: object,
) -> None:
    """A += g²; w -= η·g/(√A + ε)."""
    for w, g, a in _chunks(weight, gradient, squares):
        g = g + weight_decay * w if weight_decay else g
        np.add(a, g * g, out=a)
        np.subtract(w, lr * g / (np.sqrt(a) + eps), out=w)


def rmsprop_update(
    weight: Array,
    gradient: Array,
    *states: Array,
    lr: float,
    alpha: float = 0.99,
    eps: float = 1e-8,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    **_: object,
) -> None:
    """A = αA + (1-α)g²; u = g/(√A + ε), with momentum v = μv + u and u = v; w -= η·u."""
    for w, g, a, *velocity in _chunks(weight, gradient, *states):
        g = g + weight_decay * w if weight_decay else g
        _average(a, g * g, alpha)
        u = g / (np.sqrt(a) + eps)
        if momentum:
            (v,) = velocity
            np.multiply(v, momentum, out=v)
            u = np.add(v, u, out=v)
        np.subtract(w, lr * u, out=w)


def adam_update(
    weight: Array,
    gradient: Array,
    mean: Array,
    square_mean: Array,
    *,
    lr: float,
    step: int,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    **_: object,
) -> None:
    """m₁ = β₁m₁ + (1-β₁)g; m₂ = β₂m₂ + (1-β₂)g²; w -= η·m̂₁/(√m̂₂ + ε) with m̂ = m/(1-βᵗ), t = step + 1."""
    rate, root = lr / (1 - beta1 ** (step + 1)), (1 - beta2 ** (step + 1)) ** -0.5
    for w, g, m1, m2 in _chunks(weight, gradient, mean, square_mean):
        g = g + weight_decay * w if weight_decay else g
        _average(m1, g, beta1)
        _average(m2, g * g, beta2)
        np.subtract(w, rate * m1 / (np.sqrt(m2) * root + eps), out=w)


def adamw_update(
    weight: Array,
    gradient: Array,
    mean: Array,
    square_mean: Array,
    *,
    lr: float,
    step: int,
    weight_decay: float = 0.01,
    **attrs: float,
) -> None:
    """w -= η·λ·w, then Adam's update without weight decay."""
    np.multiply(weight, 1 - lr * weight_decay, out=weight)
    adam_update(weight, gradient, mean, square_mean, lr=lr, step=step, **attrs)


def lars_update(
    weight: Array,
    gradient: Array,
    *states: Array,
    lr: float,
    momentum: float = 0.9,
    trust: float = 0.001,
    weight_decay: float = 0.0,
    eps: float = 1e-8,
    **_: object,
) -> None:
    """λ = τ·‖w‖/(‖g‖ + β‖w‖ + ε), 1 where either norm is 0; then as `sgd` with the gradient λ·(g + βw).

    weight, gradient, [velocity], [‖w‖² and ‖g‖² of the whole].
    """
    kept, squares = states[: bool(momentum)], states[bool(momentum) :]
    sizes = roots(squares[0]) if squares else (norm(weight), norm(gradient))
    rate = trust * sizes[0] / (sizes[1] + weight_decay * sizes[0] + eps) if all(sizes) else 1.0
    for w, g, *velocity in _chunks(weight, gradient, *kept):
        u = rate * (g + weight_decay * w if weight_decay else g)
        if momentum:
            (v,) = velocity
            np.multiply(v, momentum, out=v)
            u = np.add(v, u, out=v)
        np.subtract(w, lr * u, out=w)


def lars_squares(weight: Array, gradient: Array, *rest: Array, **_: object) -> None:
    """weight, gradient, [velocity] -> ‖w‖² and ‖g‖² of the part at hand."""
    rest[-1][:] = square_sum(weight), square_sum(gradient)


def lamb_update(
    weight: Array,
    gradient: Array,
    mean: Array,
    square_mean: Array,
    *squares: Array,
    lr: float,
    step: int,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-6,
    weight_decay: float = 0.0,
    **_: object,
) -> None:
    """u = m̂₁/(√m̂₂ + ε) + λw with Adam's moments; w -= η·‖w‖/‖u‖·u, the ratio 1 where either norm is 0.

    weight, gradient, moments, [‖w‖² and ‖u‖² of the whole].
    """
    scales = _lamb_scales(step, beta1, beta2)
    total = 0.0
    for w, g, m1, m2 in _chunks(weight, gradient, mean, square_mean):
        _average(m1, g, beta1)
        _average(m2, g * g, beta2)
        total += 0.0 if squares else square_sum(_direction(w, m1, m2, scales, eps, weight_decay))
    sizes = roots(squares[0]) if squares else (norm(weight), sqrt(total))
    rate = lr * sizes[0] / sizes[1] if all(sizes) else lr
    for w, m1, m2 in _chunks(weight, mean, square_mean):
        np.subtract(w, rate * _direction(w, m1, m2, scales, eps, weight_decay), out=w)


def lamb_squares(
    weight: Array,
    gradient: Array,
    mean: Array,
    square_mean: Array,
    squares: Array,
    *,
    step: int,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-6,
    weight_decay: float = 0.0,
    **_: object,
) -> None:
    """weight, gradient, moments before the step -> ‖w‖² and ‖u‖² of the part at hand."""
    scales = _lamb_scales(step, beta1, beta2)
    squares.fill(0)
    for w, g, *moments in _chunks(weight, gradient, mean, square_mean):
        m1, m2 = (moment.copy() for moment in moments)
        _average(m1, g, beta1)
        _average(m2, g * g, beta2)
        squares += square_sum(w), square_sum(_direction(w, m1, m2, scales, eps, weight_decay))


def roots(squares: Array) -> tuple[float, float]:
    """Two norms of their squares."""
    return sqrt(squares[0]), sqrt(squares[1])


def _of_each(update: Callable[..., None]) -> Callable[..., None]:
    """The kernel that takes any number of rows, each of which has a weight, its gradient and its states."""

    @wraps(update)
    def updates(*rows: tuple[Array, ...], **told: Any) -> None:
        for arrays in rows:
            update(*arrays, **told)

    updates.__name__ = f"{update.__name__}s"
    return updates


sgd_updates = _of_each(sgd_update)
adagrad_updates = _of_each(adagrad_update)
rmsprop_updates = _of_each(rmsprop_update)
adam_updates = _of_each(adam_update)
adamw_updates = _of_each(adamw_update)


def _lamb_scales(step: int, beta1: float, beta2: float) -> tuple[float, float]:
    """What makes m̂₁ of m₁, and √m̂₂ of √m₂."""
    return 1 / (1 - beta1 ** (step + 1)), (1 - beta2 ** (step + 1)) ** -0.5


def _direction(w: Array, m1: Array, m2: Array, scales: tuple[float, float], eps: float, decay: float) -> Array:
    scale, root = scales
    u: Array = scale * m1 / (np.sqrt(m2) * root + eps)
    return np.add(u, decay * w, out=u)


def _average(average: Array, value: Array, share: float) -> None:
    """average = share·average + (1 - share)·value."""
    np.multiply(average, share, out=average)
    np.add(average, (1 - share) * value, out=average)


def _chunks(*arrays: Array) -> Iterator[list[Array]]:
    """The same stretch of each array, as views, chunk by chunk: flat ones where the elements of all lie together."""
    if all(array.flags.c_contiguous for array in arrays):
        arrays = (*[array.reshape(-1) for array in arrays],)
    length, size = len(arrays[0]), arrays[0].size
    if size > CHUNK * length:  # a row is longer than a chunk
        for rows in zip(*arrays, strict=True):
            yield from _chunks(*rows)
        return
    step = CHUNK * length // size if size else 1
    for start in range(0, length, step):
        yield [array[start : start + step] for array in arrays]
