"""Launches of what is done element by element, one after the other: one pass over memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .cu_philox import dropout_forward
from .launch import Array, Launch, Steps, each

KINDS = ("relu", "leaky_relu", "elu", "tanh", "sigmoid", "gelu", "gelu_tanh", "silu", "hard_swish")
"""Their numbers in the text."""

Binding = Callable[..., Steps | None]


def dropout_add_forward(x: Array, added: Array, y: Array, mask: Array, **told: Any) -> Steps | None:
    """Dropout's own launch, with one more operand."""
    steps = dropout_forward(x, y, mask, **told)
    if steps is None:
        return None
    launches = (step for step in steps if isinstance(step, Launch))
    return tuple(step._replace(arguments=(x, added, y, mask, *step.arguments[3:])) for step in launches)


def _told(op: str, slope: float = 0.0, alpha: float = 0.0, approximate: str = "none", **_: object) -> tuple[int, float]:
    """An activation's number, and what it goes by."""
    name = "gelu_tanh" if op == "gelu" and approximate == "tanh" else op
    return KINDS.index(name), float({"leaky_relu": slope, "elu": alpha}.get(op, 0.0))


def _of(op: str, kernel: str) -> Binding:
    """Operands and the result, told of the activation."""

    def binding(*arrays: Array, **told: Any) -> Steps:
        return each(arrays[-1].size, *arrays, numbers=_told(op, **told), kernel=kernel)

    return binding


def _dropout(op: str) -> Binding:
    """dy, mask, what is kept, dx."""

    def binding(dy: Array, mask: Array, kept: Array, dx: Array, *, p: float, **_: object) -> Steps | None:
        if mask.dtype != "uint8":
            return None
        return each(dx.size, dy, mask, kept, dx, numbers=(KINDS.index(op), 1 / (1 - p)), kernel="dropout_relu_dx")

    return binding


add_relu_forward = _of("relu", "add_relu_forward")
add_leaky_relu_forward = _of("leaky_relu", "add_relu_forward")
add_elu_forward = _of("elu", "add_relu_forward")
add_tanh_forward = _of("tanh", "add_relu_forward")
add_sigmoid_forward = _of("sigmoid", "add_relu_forward")

sum_relu_dx = _of("relu", "sum_relu_dx")
sum_leaky_relu_dx = _of("leaky_relu", "sum_relu_dx")
sum_elu_dx = _of("elu", "sum_relu_dx")
sum_tanh_dx = _of("tanh", "sum_relu_dx")
sum_sigmoid_dx = _of("sigmoid", "sum_relu_dx")
sum_gelu_dx = _of("gelu", "sum_relu_dx")
sum_silu_dx = _of("silu", "sum_relu_dx")
sum_hard_swish_dx = _of("hard_swish", "sum_relu_dx")

relu_sum = _of("relu", "relu_sum")
leaky_relu_sum = _of("leaky_relu", "relu_sum")
elu_sum = _of("elu", "relu_sum")
tanh_sum = _of("tanh", "relu_sum")
sigmoid_sum = _of("sigmoid", "relu_sum")
gelu_sum = _of("gelu", "relu_sum")
silu_sum = _of("silu", "relu_sum")
hard_swish_sum = _of("hard_swish", "relu_sum")

dropout_relu_dx = _dropout("relu")
dropout_tanh_dx = _dropout("tanh")
dropout_sigmoid_dx = _dropout("sigmoid")
dropout_silu_dx = _dropout("silu")
dropout_hard_swish_dx = _dropout("hard_swish")
