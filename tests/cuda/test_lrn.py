"""Local response normalisation in CUDA: its text on the processor against the NumPy kernels."""

from __future__ import annotations

import numpy as np
import pytest

from backends.numpy_mpi.kernels.layout import TO_LOGICAL
from tests.cuda.calling import compare, empty, needs_compiler

pytestmark = needs_compiler


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("layout", TO_LOGICAL)
@pytest.mark.parametrize(("size", "beta"), [(5, 0.75), (4, 0.5), (1, 0.75), (9, 0.75)])
@pytest.mark.parametrize("logical", [(2, 7, 3, 5), (1, 1, 1, 1), (0, 3, 2, 2), (3, 6, 4, 2)])
def test_it(logical: tuple[int, ...], size: int, beta: float, layout: str, dtype: str) -> None:
    shape = tuple(logical[TO_LOGICAL[layout].index(axis)] for axis in range(4))
    x, dy = np.random.default_rng(size).normal(0, 2, (2, *shape))
    base = 1 + abs(x)
    told = {"size": size, "alpha": 0.5, "beta": beta, "layout": layout}
    compare(("lrn", "forward", ""), dtype, [x, empty(*shape), empty(*shape)], **told, k=1.5)
    compare(("lrn", "dx", ""), dtype, [dy, x, base, empty(*shape)], bound=16, **told)
