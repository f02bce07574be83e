"""What the activations in C are told besides their arrays: how many elements there are, and their attributes."""

from __future__ import annotations

from typing import Literal

from .layout import Array
from .native import Numbers


def each_element(x: Array, *_: Array, **_told: object) -> Numbers:
    """The elements of an array."""
    return Numbers((x.size,))


relu_forward = relu_dx = tanh_forward = tanh_dx = sigmoid_forward = sigmoid_dx = each_element
silu_forward = silu_dx = hard_swish_forward = hard_swish_dx = each_element


def leaky_relu_forward(x: Array, *_: Array, slope: float, **_told: object) -> Numbers:
    """Elements and their slope below 0."""
    return Numbers((x.size, float(slope)))


leaky_relu_dx = leaky_relu_forward


def elu_forward(x: Array, *_: Array, alpha: float, **_told: object) -> Numbers:
    """Elements, and minus the limit of the result."""
    return Numbers((x.size, float(alpha)))


elu_dx = elu_forward


def gelu_forward(x: Array, *_: Array, approximate: Literal["none", "tanh"], **_told: object) -> Numbers:
    """Elements; the approximation has a function of its own."""
    return Numbers((x.size,), name=variant("gelu_forward_tanh", x) if approximate == "tanh" else "")


def gelu_dx(dy: Array, *_: Array, approximate: Literal["none", "tanh"], **_told: object) -> Numbers:
    """As `gelu_forward`."""
    return Numbers((dy.size,), name=variant("gelu_dx_tanh", dy) if approximate == "tanh" else "")


def variant(name: str, x: Array) -> str:
    """The name of a function for arrays of this precision."""
    return f"{name}_f{8 * x.itemsize}"
