"""Launches of activations: a thread an element."""

from __future__ import annotations

from typing import Literal

from .launch import Array, Steps, each


def each_element(x: Array, *others: Array, **_: object) -> Steps:
    """Operands and the result."""
    return each(x.size, x, *others)


relu_forward = relu_dx = tanh_forward = tanh_dx = sigmoid_forward = sigmoid_dx = each_element
silu_forward = silu_dx = hard_swish_forward = hard_swish_dx = each_element


def leaky_relu_forward(x: Array, *others: Array, slope: float, **_: object) -> Steps:
    """With the slope below 0."""
    return each(x.size, x, *others, numbers=(float(slope),))


leaky_relu_dx = leaky_relu_forward


def elu_forward(x: Array, *others: Array, alpha: float, **_: object) -> Steps:
    """With minus the limit of the result."""
    return each(x.size, x, *others, numbers=(float(alpha),))


elu_dx = elu_forward


def gelu_forward(x: Array, *others: Array, approximate: Literal["none", "tanh"], **_: object) -> Steps:
    """The approximation has a kernel of its own."""
    return each(x.size, x, *others, kernel="gelu_forward_tanh" if approximate == "tanh" else "")


def gelu_dx(dy: Array, *others: Array, approximate: Literal["none", "tanh"], **_: object) -> Steps:
    """As `gelu_forward`."""
    return each(dy.size, dy, *others, kernel="gelu_dx_tanh" if approximate == "tanh" else "")
