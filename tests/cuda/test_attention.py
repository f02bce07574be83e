"""What attention is made of in CUDA: its text on the processor against the NumPy kernels."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cuda.calling import Array, compare, empty, needs_compiler
from tests.kernels.calling import kernel

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


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("batch", "seq", "heads", "width"), [(2, 5, 3, 4), (1, 1, 1, 1), (2, 33, 2, 3), (0, 3, 2, 2)])
def test_all_of_it(batch: int, seq: int, heads: int, width: int, causal: bool, bias: bool, dtype: str) -> None:
    rng, wide = np.random.default_rng(1), heads * width

    def drawn(*shape: int) -> Array:
        found: Array = rng.normal(0, 0.5, shape)
        return found

    def projection(out: int) -> list[Array]:
        return [drawn(out, wide), *([drawn(out)] if bias else [])]

    x, dy, weights = drawn(batch, seq, wide), drawn(batch, seq, wide), [*projection(3 * wide), *projection(wide)]
    kept = [empty(batch, seq, 3 * wide), empty(batch, heads, seq, seq), empty(batch, seq, wide)]
    told = {"heads": heads, "causal": causal}
    compare(("attention", "forward", ""), dtype, [x, *weights, empty(*x.shape), *kept], bound=32, **told)
    kernel("attention", "forward")(x, *weights, empty(*x.shape), *kept, **told)
    out = weights[len(weights) // 2]
    asked = [empty(*x.shape), *(empty(*each.shape) for each in weights)]
    compare(("attention", "dx", ""), dtype, [dy, x, weights[0], out, *kept, *asked], bound=64, **told)
