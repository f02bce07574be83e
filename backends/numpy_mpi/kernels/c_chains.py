"""What the C functions of element-wise ops one after the other are told: what those of the ops alone are."""

from __future__ import annotations

from typing import Any

from .c_elementwise import (
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
from .c_philox import dropout_dx, dropout_forward
from .dispatch import Binding
from .layout import Array
from .native import Numbers


def _named(first: str, binding: Binding, last: str = "") -> Binding:
    """The numbers of an activation alone; where it has a function of its own, that of the chain is called alike."""

    def told(*arrays: Array, **attrs: Any) -> Numbers | None:
        numbers = binding(*arrays, **attrs)
        if numbers is None or not numbers.name:
            return numbers
        op, stage, *variant = numbers.name.rsplit("_", 3)
        return numbers._replace(name="_".join((f"{first}{op}", last or stage, *variant)))

    return told


def dropout_add_forward(x: Array, added: Array, y: Array, mask: Array, **told: Any) -> Numbers | None:
    """As dropout al"""
    return dropout_forward(x, y, mask, **told)


def _dropout_dx(dy: Array, mask: Array, kept: Array, dx: Array, **told: Any) -> Numbers | None:
    """As dropout al"""
    return dropout_dx(dy, mask, dx, **told)


add_relu_forward = _named("add_", relu_forward)
add_leaky_relu_forward = _named("add_", leaky_relu_forward)
add_elu_forward = _named("add_", elu_forward)
add_tanh_forward = _named("add_", tanh_forward)
add_sigmoid_forward = _named("add_", sigmoid_forward)

sum_relu_dx = _named("sum_", relu_dx)
sum_leaky_relu_dx = _named("sum_", leaky_relu_dx)
sum_elu_dx = _named("sum_", elu_dx)
sum_tanh_dx = _named("sum_", tanh_dx)
sum_sigmoid_dx = _named("sum_", sigmoid_dx)
sum_gelu_dx = _named("sum_", gelu_dx)
sum_silu_dx = _named("sum_", silu_dx)
sum_hard_swish_dx = _named("sum_", hard_swish_dx)

relu_sum = _named("", relu_dx, "sum")
leaky_relu_sum = _named("", leaky_relu_dx, "sum")
elu_sum = _named("", elu_dx, "sum")
tanh_sum = _named("", tanh_dx, "sum")
sigmoid_sum = _named("", sigmoid_dx, "sum")
gelu_sum = _named("", gelu_dx, "sum")
silu_sum = _named("", silu_dx, "sum")
hard_swish_sum = _named("", hard_swish_dx, "sum")

dropout_relu_dx = dropout_tanh_dx = dropout_sigmoid_dx = dropout_silu_dx = dropout_hard_swish_dx = _dropout_dx
