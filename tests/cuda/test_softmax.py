"""Softmax in CUDA: its text on the processor against the NumPy kernels."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cuda.calling import compare, empty, needs_compiler

pytestmark = needs_compiler

CASES = [
    ((3, 5, 40), 2, "NCHW"),
    ((2, 300), 1, "NCHW"),
    ((2, 3, 4, 5), 1, "NCHW"),
    ((2, 3, 4, 5), 1, "NHWC"),
    ((2, 3, 4, 5), 1, "CHWN"),
    ((2, 3, 4, 5), 3, "NHWC"),
    ((1, 1), 1, "NCHW"),
    ((0, 4), 1, "NCHW"),
]


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("op", ["softmax", "log_softmax"])
@pytest.mark.parametrize(("shape", "axis", "layout"), CASES)
def test_it(shape: tuple[int, ...], axis: int, layout: str, op: str, dtype: str) -> None:
    x, dy = np.random.default_rng(axis).normal(0, 2, (2, *shape)).astype(np.float32).astype(float)
    y = np.random.default_rng(3).uniform(0, 1, shape)
    told = {"axis": axis, "layout": layout}
    compare((op, "forward", ""), dtype, [x + 50, empty(*shape)], bound=16, **told)
    compare((op, "dx", ""), dtype, [dy, y, empty(*shape)], bound=16, **told)


def test_hidden_elements_are_zero() -> None:
    """What a causal mask has made infinite."""
    x = np.random.default_rng(1).normal(0, 2, (4, 6))
    x[:, 3:] = -np.inf
    compare(("softmax", "forward", ""), "f32", [x, empty(4, 6)], bound=16, axis=1)
