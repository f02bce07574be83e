"""Launches of update rules: a thread an element, of one weight or of many; rules that go by norms add up parts first.

Rates change from step to step: kernels read them from memory. `RULE_updates` are told tables of weights, each of which
is updated by one launch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .launch import BLOCKS, Array, Changing, Launch, Room, Steps, Table, each

PART = 2048
"""Elements whose squares a block adds up, unless there would be more than `BLOCKS` blocks."""

Numbers = tuple[float | Changing, ...]
Form = tuple[str, Numbers]
"""A rule's kernel for a call, "" for that of its name, and the numbers that it is told."""


def sgd_update(weight: Array, *arrays: Array, **told: Any) -> Steps:
    """Without a velocity there is a kernel of its own."""
    return _one(_sgd(**told), "sgd_update", weight, *arrays)


def sgd_updates(*tables: Table, **told: Any) -> Steps:
    """Of many weights."""
    return _many(_sgd(**told), "sgd_updates", tables)


def adagrad_update(weight: Array, *arrays: Array, **told: Any) -> Steps:
    """Rates."""
    return _one(_adagrad(**told), "adagrad_update", weight, *arrays)


def adagrad_updates(*tables: Table, **told: Any) -> Steps:
    """Of many weights."""
    return _many(_adagrad(**told), "adagrad_updates", tables)


def rmsprop_update(weight: Array, *arrays: Array, **told: Any) -> Steps:
    """As for `sgd_update`."""
    return _one(_rmsprop(**told), "rmsprop_update", weight, *arrays)


def rmsprop_updates(*tables: Table, **told: Any) -> Steps:
    """Of many weights."""
    return _many(_rmsprop(**told), "rmsprop_updates", tables)


def adam_update(weight: Array, *arrays: Array, **told: Any) -> Steps:
    """Rates, corrected for the averages' beginning at zero."""
    return _one(_adam(**told), "adam_update", weight, *arrays)


def adam_updates(*tables: Table, **told: Any) -> Steps:
    """Of many weights."""
    return _many(_adam(**told), "adam_updates", tables)


def adamw_update(weight: Array, *arrays: Array, **told: Any) -> Steps:
    """As Adam's, and what the decay leaves of the weights."""
    return _one(_adamw(**told), "adam_update", weight, *arrays)


def adamw_updates(*tables: Table, **told: Any) -> Steps:
    """Of many weights."""
    return _many(_adamw(**told), "adam_updates", tables)


def lars_squares(weight: Array, gradient: Array, *rest: Array, **_: object) -> Steps:
    """Parts of both sums, and their totals."""
    return _squares(weight, gradient, rest[-1])


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
) -> Steps:
    """The squares of the norms, unless they are given; then a thread an element."""
    velocity, given = (states[0] if momentum else None), states[bool(momentum) :]
    squares = given[0] if given else Room(2)
    numbers = (RATE, float(momentum), float(trust), float(weight_decay), float(eps))
    first = () if given else _squares(weight, gradient, squares)
    return (*first, *each(weight.size, weight, gradient, velocity, squares, numbers=numbers))


def lamb_squares(
    weight: Array, gradient: Array, mean: Array, square_mean: Array, squares: Array, *, step: int, **attrs: float
) -> Steps:
    """Parts of both sums with moments that are not kept, and their totals."""
    return _moments((weight, gradient, mean, square_mean), squares, False, _lamb_numbers(**attrs))


def lamb_update(
    weight: Array,
    gradient: Array,
    mean: Array,
    square_mean: Array,
    *given: Array,
    lr: float,
    step: int,
    **attrs: float,
) -> Steps:
    """The moments, and with them the squares of the norms, unless these are given; then a thread an element."""
    numbers = _lamb_numbers(**attrs)
    made = Room(2)
    first = _moments((weight, gradient, mean, square_mean), made, True, numbers)
    told = (RATE, numbers[0], *numbers[-2:])
    squares = given[0] if given else made
    return (*first, *each(weight.size, weight, mean, square_mean, squares, numbers=told, kernel="lamb_update"))


def _one(form: Form, name: str, *arrays: Array) -> Steps:
    kernel, numbers = form
    return each(arrays[0].size, *arrays, numbers=numbers, kernel=f"{name}{kernel}")


def _many(form: Form, name: str, tables: tuple[Table, ...]) -> Steps:
    kernel, numbers = form
    return tuple(
        Launch((table, table.rows, table.chunks, *numbers), (min(table.chunks, BLOCKS),), kernel=f"{name}{kernel}")
        for table in tables
    )


def _sgd(*, momentum: float = 0.0, nesterov: bool = False, weight_decay: float = 0.0, **_: object) -> Form:
    if not momentum:
        return "_plain", (RATE, float(weight_decay))
    return "", (RATE, float(momentum), int(nesterov), float(weight_decay))


def _adagrad(*, eps: float = 1e-10, weight_decay: float = 0.0, **_: object) -> Form:
    return "", (RATE, float(eps), float(weight_decay))


def _rmsprop(
    *, alpha: float = 0.99, eps: float = 1e-8, momentum: float = 0.0, weight_decay: float = 0.0, **_: object
) -> Form:
    numbers = (RATE, float(alpha), 1.0 - alpha, float(eps), float(weight_decay))
    return ("", (*numbers, float(momentum))) if momentum else ("_plain", numbers)


def _adam(*, weight_decay: float = 0.0, **attrs: Any) -> Form:
    return "", (*_rates(_of_adam, ("lr", "step"), 0.0, **attrs), float(weight_decay))


def _adamw(*, weight_decay: float = 0.01, **attrs: Any) -> Form:
    """The decay is apart from gradients."""
    return "", (*_rates(_of_adam, ("lr", "step"), float(weight_decay), **attrs), 0.0)


def _lamb_numbers(*, eps: float = 1e-6, weight_decay: float = 0.0, **attrs: Any) -> Numbers:
    return (*_rates(_of_lamb, ("step",), 0.0, eps=eps, **attrs), float(weight_decay))


def _rates(
    of: Callable[..., tuple[float, ...]],
    told: tuple[str, ...],
    apart: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    **_: object,
) -> Numbers:
    """What changes from step to step, the shares of the averages, and what is added."""
    now = Changing(of, told, (float(beta1), float(beta2), apart))
    return now, float(beta1), 1.0 - beta1, float(beta2), 1.0 - beta2, float(eps)


def _rate(lr: float) -> tuple[float, ...]:
    return (float(lr),)


def _of_adam(lr: float, step: int, beta1: float, beta2: float, decay: float) -> tuple[float, ...]:
    """The rate of the mean, the factor of the square mean's root, and what AdamW leaves of the weights."""
    rate, root = lr / (1 - beta1 ** (step + 1)), (1 - beta2 ** (step + 1)) ** -0.5
    return rate, root, 1.0 - lr * decay


def _of_lamb(step: int, beta1: float, beta2: float, decay: float) -> tuple[float, ...]:
    """As Adam's with a rate of 1."""
    return _of_adam(1.0, step, beta1, beta2, decay)


RATE = Changing(_rate, ("lr",))
"""The rate of the step."""


def _squares(weight: Array, gradient: Array, squares: Array | Room) -> Steps:
    count = _parts(weight.size)
    parts = Room(2 * count)
    first = Launch((weight, gradient, parts, weight.size), (count,), kernel="lars_squares_parts")
    return first, Launch((parts, squares, count), (2,), kernel="norms_total")


def _moments(arrays: tuple[Array, ...], squares: Array | Room, keeps: bool, numbers: Numbers) -> Steps:
    size = arrays[0].size
    count = _parts(size)
    parts = Room(2 * count)
    first = Launch((*arrays, parts, size, int(keeps), *numbers), (count,), kernel="lamb_update_moments")
    return first, Launch((parts, squares, count), (2,), kernel="norms_total")


def _parts(size: int) -> int:
    """Blocks that add up squares, at least one."""
    return min(BLOCKS, max(1, -(-size // PART)))
