"""What the activations in C are told besides their arrays: how many elements there are, and their attributes."""

from __future__ import annotations

from .layout import Array
from .native import Numbers


def each_element(x: Array, *_: Array, **_told: object) -> Numbers:
    """The elements of an array."""
    return Numbers((x.size,))


relu_forward = relu_dx = tanh_forward = tanh_dx = sigmoid_forward = sigmoid_dx = each_element
