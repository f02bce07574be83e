"""Batch norm in C together with what follows it: what is stored, or what is taken for dy, is another expression."""

from __future__ import annotations

from .bn_backward import dx, gradients
from .bn_forward import Store, apply, forward, inference
from .bn_groups import Make

POSITIVE = "t < 0 ? 0 : t"  # as NumPy's maximum: not a number stays that

RELU = Store("bn_relu", "y = max(bn(x), 0) by groups of samples.", stored=POSITIVE)
ADD_RELU = Store("bn_add_relu", "y = max(bn(x) + added, 0) by groups of samples.", operand="added", stored=POSITIVE)
RELU_GRADIENTS = gradients("bn_relu_gradient", ("y",), "dy[i] * (y[i] > 0)")

FUNCTIONS: dict[tuple[str, str, str], Make] = {
    ("bn_relu", "forward", ""): forward(RELU),
    ("bn_relu", "inference", ""): inference(RELU),
    ("bn_relu", "apply", ""): apply(RELU),
    ("bn_relu", "dx", ""): dx("bn_relu", RELU_GRADIENTS),
    ("bn_add_relu", "forward", ""): forward(ADD_RELU),
    ("bn_add_relu", "inference", ""): inference(ADD_RELU),
    ("bn_add_relu", "apply", ""): apply(ADD_RELU),
}
"""(ops, pass, "") -> its generator for a target and a dtype."""
