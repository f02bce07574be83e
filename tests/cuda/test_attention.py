"""What attention is made of in CUDA: its text on the processor against the NumPy kernels."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cuda.calling import compare, empty, needs_compiler

pytestmark = needs_compiler

DTYPES = ("f32", "f64")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (1, 1, 1, 1), (3, 2, 33, 7), (0, 2, 3, 4)])
def test_heads(shape: tuple[int, ...], dtype: str) -> None:
    batch, heads, seq, width = shape
    rng, merged = np.random.default_rng(1), (batch, seq, heads * width)
    whole, cut = rng.normal(0, 1, merged), rng.normal(0, 1, shape)
    for op, x, y in (("split_heads", whole, cut), ("merge_heads", cut, whole)):
        compare((op, "forward", ""), dtype, [x, empty(*y.shape)], bound=1)
        compare((op, "dx", ""), dtype, [y, empty(*x.shape)], bound=1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 3, 5, 5), (2, 4, 7), (1, 1), (0, 3, 3)])
def test_masks(shape: tuple[int, ...], dtype: str) -> None:
    x, begins = np.random.default_rng(1).normal(0, 1, shape), ((0, 9),) * (len(shape) - 2)
    for origin in (None, ((*begins, (3, 9), (1, 9)),), ((*begins, (0, 9), (2, 9)),)):
        compare(("causal_mask", "forward", ""), dtype, [x, empty(*shape)], bound=1, origin=origin)
        compare(("causal_mask", "dx", ""), dtype, [x, empty(*shape)], bound=1, origin=origin)
