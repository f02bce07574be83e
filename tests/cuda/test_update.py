"""Update rules in CUDA."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.cuda.calling import compare, drawn, needs_compiler

pytestmark = needs_compiler

RULES: list[tuple[str, int, dict[str, Any]]] = [
    ("sgd", 0, {}),
    ("sgd", 0, {"weight_decay": 0.01}),
    ("sgd", 1, {"momentum": 0.9}),
    ("sgd", 1, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    ("adagrad", 1, {"weight_decay": 0.01}),
    ("rmsprop", 1, {}),
    ("rmsprop", 2, {"momentum": 0.9, "weight_decay": 0.01}),
    ("adam", 2, {"step": 0}),
    ("adam", 2, {"step": 12, "weight_decay": 0.01, "beta1": 0.8}),
    ("adamw", 2, {"step": 3}),
]


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize(("rule", "states", "told"), RULES)
def test_rules(rule: str, states: int, told: dict[str, Any], dtype: str) -> None:
    for shape in ((), (1000,), (3, 7, 5)):
        weight, gradient = drawn(dtype, *shape), drawn(dtype, *shape) + 0.25
        kept = [np.asarray(np.abs(drawn(dtype, *shape))) for _ in range(states)]
        compare((rule, "update", ""), dtype, [weight, gradient, *kept], lr=0.0625, **told)
