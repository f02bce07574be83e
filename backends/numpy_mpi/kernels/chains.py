"""What is done element by element, one after the other: a sum and an activation, dropout and what follows it.

They give what the kernels of the single ops give. In NumPy they allocate what these hand to one another; in C they are
one pass over memory.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from .arithmetic import add_forward
from .elementwise import (
    elu_dx,
    elu_forward,
    gelu_dx,
    hard_swish_dx,
    leaky_relu_dx,
    leaky_relu_forward,
    relu_dx,
    relu_forward,
    sigmoid_dx,
    sigmoid_forward,
    silu_dx,
    tanh_dx,
    tanh_forward,
)
from .gradients import sum_gradients
from .layout import Array
from .philox import dropout_dx, dropout_forward

Kernel = Callable[..., None]


def _sum_then(name: str, add: Kernel, last: Kernel) -> Kernel:
    """a, b, what `last` takes besides, its result: two are added, and the sum is its first operand."""

    @wraps(last)
    def both(a: Array, b: Array, *arrays: Array, **told: Any) -> None:
        between = np.empty_like(a)
        add(a, b, between)
        last(between, *arrays, **told)

    both.__name__ = name
    return both


def _then_sum(name: str, first: Kernel) -> Kernel:
    """What `first` takes, what is added to its result, and the sum."""

    @wraps(first)
    def both(*arrays: Array, **told: Any) -> None:
        *operands, added, total = arrays
        between = np.empty_like(total)
        first(*operands, between, **told)
        np.add(between, added, out=total)

    both.__name__ = name
    return both


def _dropout_then(name: str, last: Kernel) -> Kernel:
    """dy, mask, what the activation goes by, dx: the gradient of dropout of an activation."""

    @wraps(dropout_dx)
    def both(dy: Array, mask: Array, kept: Array, dx: Array, **told: Any) -> None:
        between = np.empty_like(dy)
        dropout_dx(dy, mask, between, **told)
        last(between, kept, dx)

    both.__name__ = name
    return both


@wraps(dropout_forward)
def dropout_add_forward(x: Array, added: Array, y: Array, mask: Array, **told: Any) -> None:
    """y = dropout(x) + added."""
    dropout_forward(x, y, mask, **told)
    np.add(y, added, out=y)


dropout_add_forward.__name__ = "dropout_add_forward"

add_relu_forward = _sum_then("add_relu_forward", add_forward, relu_forward)
add_leaky_relu_forward = _sum_then("add_leaky_relu_forward", add_forward, leaky_relu_forward)
add_elu_forward = _sum_then("add_elu_forward", add_forward, elu_forward)
add_tanh_forward = _sum_then("add_tanh_forward", add_forward, tanh_forward)
add_sigmoid_forward = _sum_then("add_sigmoid_forward", add_forward, sigmoid_forward)

sum_relu_dx = _sum_then("sum_relu_dx", sum_gradients, relu_dx)
sum_leaky_relu_dx = _sum_then("sum_leaky_relu_dx", sum_gradients, leaky_relu_dx)
sum_elu_dx = _sum_then("sum_elu_dx", sum_gradients, elu_dx)
sum_tanh_dx = _sum_then("sum_tanh_dx", sum_gradients, tanh_dx)
sum_sigmoid_dx = _sum_then("sum_sigmoid_dx", sum_gradients, sigmoid_dx)
sum_gelu_dx = _sum_then("sum_gelu_dx", sum_gradients, gelu_dx)
sum_silu_dx = _sum_then("sum_silu_dx", sum_gradients, silu_dx)
sum_hard_swish_dx = _sum_then("sum_hard_swish_dx", sum_gradients, hard_swish_dx)

relu_sum = _then_sum("relu_sum", relu_dx)
leaky_relu_sum = _then_sum("leaky_relu_sum", leaky_relu_dx)
elu_sum = _then_sum("elu_sum", elu_dx)
tanh_sum = _then_sum("tanh_sum", tanh_dx)
sigmoid_sum = _then_sum("sigmoid_sum", sigmoid_dx)
gelu_sum = _then_sum("gelu_sum", gelu_dx)
silu_sum = _then_sum("silu_sum", silu_dx)
hard_swish_sum = _then_sum("hard_swish_sum", hard_swish_dx)

dropout_relu_dx = _dropout_then("dropout_relu_dx", relu_dx)
dropout_tanh_dx = _dropout_then("dropout_tanh_dx", tanh_dx)
dropout_sigmoid_dx = _dropout_then("dropout_sigmoid_dx", sigmoid_dx)
dropout_silu_dx = _dropout_then("dropout_silu_dx", silu_dx)
dropout_hard_swish_dx = _dropout_then("dropout_hard_swish_dx", hard_swish_dx)
