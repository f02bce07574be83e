"""Chains of what is done element by element in CUDA: their text on the processor against the NumPy kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backends.numpy_mpi.kernels import KERNELS
from tests.cuda.calling import compare, empty, needs_compiler

TOLD: dict[str, dict[str, Any]] = {"leaky_relu": {"slope": 0.1}, "elu": {"alpha": 0.7}}
CHAINS = sorted(key for key, kernel in KERNELS.items() if kernel.module == "chains" and key[0] != "dropout_add")
GELUS = ("none", "tanh")

pytestmark = needs_compiler


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("key", CHAINS)
def test_it(key: tuple[str, str, str], dtype: str) -> None:
    op = key[0].removeprefix("add_").removeprefix("sum_").removeprefix("dropout_").removesuffix("_sum")
    for size in (0, 1, 700):
        a, b, kept = np.random.default_rng(size).normal(0, 2, (3, size)).astype(np.float32).astype(float)
        for approximate in GELUS if op == "gelu" else ("none",):
            told = {**TOLD.get(op, {}), **({"approximate": approximate} if op == "gelu" else {})}
            arrays = [a, b] if key[1] == "forward" else [a, b, kept]
            if key[0].startswith("dropout_"):
                arrays, told = [a, (b > 0).astype(np.uint8), kept], {"p": 0.25}
            bound = 64 if size == 1 else 16  # one number may be small beside its terms
            compare(key, dtype, [*arrays, empty(size)], bound=bound, **told)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("shape", [(3, 37), (1, 1), (0, 4)])
def test_dropout_and_a_sum(shape: tuple[int, ...], dtype: str) -> None:
    """The mask is that of dropout alone."""
    x, added = np.random.default_rng(1).normal(0, 1, (2, *shape))
    told = {"p": 0.3, "key": (123456789, 4000000000), "step": 3, "position": 5}
    arrays = [x, added, empty(*shape), empty(*shape, dtype=np.uint8)]
    compare(("dropout_add", "forward", ""), dtype, arrays, also=told)
