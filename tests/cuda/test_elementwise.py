"""Activations in CUDA: their text on the processor against the NumPy kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.cuda.calling import compare, empty, needs_compiler

ATTRS: dict[str, list[dict[str, Any]]] = {
    "leaky_relu": [{"slope": 0.01}, {"slope": 3.0}],
    "elu": [{"alpha": 1.0}, {"alpha": 0.5}],
    "gelu": [{"approximate": "none"}, {"approximate": "tanh"}],
}
OPS = ("relu", "leaky_relu", "elu", "tanh", "sigmoid", "silu", "hard_swish", "gelu")
CASES = [(op, told) for op in OPS for told in ATTRS.get(op, [{}])]

pytestmark = needs_compiler


@pytest.mark.parametrize("size", [0, 1, 257, 3000])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize(("op", "told"), CASES)
def test_activations(op: str, told: dict[str, Any], dtype: str, size: int) -> None:
    x, dy = np.random.default_rng(size).normal(0, 2, (2, size)).astype(dtype.replace("f", "float")).astype(float)
    bound = 64 if size == 1 else 16  # one number may be small beside its terms
    compare((op, "forward", ""), dtype, [x, empty(size)], bound=bound, **told)
    compare((op, "dx", ""), dtype, [dy, x, empty(size)], bound=bound, **told)


def test_activations_of_what_is_no_number() -> None:
    x = np.array([np.nan, np.inf, -np.inf, -0.0])
    compare(("relu", "forward", ""), "f64", [x, empty(4)])
    compare(("sigmoid", "forward", ""), "f64", [x, empty(4)])
