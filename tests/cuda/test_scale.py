"""Loss scaling in CUDA."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cuda.calling import compare, drawn, empty, needs_compiler

pytestmark = needs_compiler

SHAPES = ((), (0, 3), (5000,), (3, 7))


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_what_is_not_finite_is_counted(dtype: str) -> None:
    gradients = [np.asarray(drawn(dtype, *shape)) for shape in SHAPES]
    compare(("sums", "unscale", ""), dtype, [*gradients, empty(1)])
    gradients[0][...] = np.inf
    gradients[2][[3, 4999]] = np.nan, -np.inf
    compare(("sums", "unscale", ""), dtype, [*gradients, empty(1)])


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("found", [0.0, 2.0])
@pytest.mark.parametrize("steps", [(3.0, 0.0, 5.0), (0.0, 2.0, 2.0), (1999.0, 0.0, 1.0)])
def test_gradients_are_divided_or_dropped(steps: tuple[float, ...], found: float, dynamic: bool) -> None:
    gradients = [np.asarray(drawn("f32", *shape)) for shape in SHAPES]
    arrays = [*gradients, np.array(1024.0), np.array(steps), np.array([found])]
    compare(("unscale", "unscale", ""), "f32", arrays, dynamic=dynamic)
