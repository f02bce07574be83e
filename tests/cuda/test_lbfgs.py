"""L-BFGS in CUDA beside its NumPy twin: some steps one after the other, each from what the twin has come to."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cuda.calling import DTYPES, Array, compare, drawn, needs_compiler
from tests.kernels.calling import kernel

pytestmark = needs_compiler

SHAPES = ((40, 60), (), (0, 2), (7,))


def states(history: int, size: int) -> list[Array]:
    """Before the first step."""
    return [np.zeros((history, size)), np.zeros((history, size)), *map(np.zeros, (history, size, size, 5))]


def stepped(scale: float, steps: int, dtype: str, history: int) -> None:
    """The gradients of Σ (c w² + w⁴)/2, whose curvatures differ."""
    weights = [np.asarray(drawn(dtype, *shape)) for shape in SHAPES]
    kept = states(history, sum(weight.size for weight in weights))
    for step in range(steps):
        slopes = [np.asarray(scale * ((1 + at) * w + 2 * w**3)) for at, w in enumerate(weights)]
        arrays = [*weights, *(np.asarray(slope.astype(DTYPES[dtype]).astype(float)) for slope in slopes), *kept]
        told = {"lr": 0.25, "history": history}
        compare(("lbfgs", "update", ""), dtype, arrays, bound=64 if dtype == "f64" else 16 * (step + 1), **told)
        kernel("lbfgs", "update", "")(*arrays, **told)
        for array in arrays:
            array[...] = array.astype(DTYPES[dtype])
    pairs = kept[-1][1]
    assert pairs == (min(history, steps - 1) if scale > 1e-3 else 0)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_steps_until_slots_are_written_again(dtype: str) -> None:
    stepped(1.0, 5, dtype, 3)


def test_a_gradient_that_is_as_good_as_zero_changes_nothing() -> None:
    stepped(1e-9, 2, "f64", 2)


def test_a_pair_without_curvature_is_not_kept() -> None:
    """Nor is anything done with a direction that does not descend."""
    weights, slopes = [drawn("f64", 9)], [np.full(9, 0.5)]
    arrays = [*weights, *slopes, *states(2, 9)]
    for turn in (1, -1):  # the second step is against what the first one was for
        slopes[0][...] = 0.5 * (2 - turn)
        compare(("lbfgs", "update", ""), "f64", arrays, bound=64, lr=0.5, history=2)
        kernel("lbfgs", "update", "")(*arrays, lr=0.5, history=2)
    assert arrays[-1][1] == 0
