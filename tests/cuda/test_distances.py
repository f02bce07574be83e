"""Losses that compare two values in CUDA: their text on the processor against the NumPy kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backends.numpy_mpi.kernels import DISTANCES
from tests.cuda.calling import compare, empty, needs_compiler

pytestmark = needs_compiler


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("shape", [(3, 7), (1, 1), (5, 1000), (0, 4)])
@pytest.mark.parametrize("op", DISTANCES)
def test_it(op: str, shape: tuple[int, ...], dtype: str) -> None:
    rng = np.random.default_rng(1)
    x, t = rng.normal(0, 2, (2, *shape)).round(1).astype(np.float32).astype(float)
    t.flat[::3] = x.flat[::3]
    told: dict[str, Any] = {"count": 9, **({"delta": 0.75} if op == "huber" else {})}
    dy = np.array(1.5)
    compare((op, "forward", ""), dtype, [x, t, empty()], bound=32, **told)
    compare((op, "dx", ""), dtype, [dy, x, t, empty(*shape)], bound=16, **told)
    compare((op, "dt", ""), dtype, [dy, x, t, empty(*shape)], bound=16, **told)
