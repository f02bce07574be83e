"""Upsampling, and weights that are values or normalised: CUDA text on the processor against the NumPy kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backends.numpy_mpi.kernels.layout import TO_LOGICAL
from tests.cuda.calling import compare, empty, needs_compiler

DTYPES = ("f32", "f64")
CASES = [
    ((2, 3, 4, 5), (2, 3)),
    ((1, 1, 1, 1), (4, 1)),
    ((0, 2, 3, 3), (2, 2)),
    ((2, 3, 5), (3,)),
    ((1, 2, 2, 3, 2), (2, 1, 3)),
]

pytestmark = needs_compiler


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("layout", TO_LOGICAL)
@pytest.mark.parametrize(("logical", "factor"), CASES)
def test_upsampling(logical: tuple[int, ...], factor: tuple[int, ...], layout: str, mode: str, dtype: str) -> None:
    longer = (*logical[:2], *(extent * times for extent, times in zip(logical[2:], factor, strict=True)))
    shape, wide = (
        tuple(extents[TO_LOGICAL[layout].index(axis)] for axis in range(4)) if len(extents) == 4 else extents
        for extents in (logical, longer)
    )
    rng, told = np.random.default_rng(1), dict[str, Any](factor=factor, mode=mode, layout=layout)
    compare(("upsample", "forward", ""), dtype, [rng.normal(0, 1, shape), empty(*wide)], **told)
    compare(("upsample", "dx", ""), dtype, [rng.normal(0, 1, wide), empty(*shape)], **told)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5, 3, 2, 7), (1, 2), (3, 300)])
def test_weights(shape: tuple[int, ...], dtype: str) -> None:
    rng, ones = np.random.default_rng(1), (shape[0], *(1 for _ in shape[1:]))
    dy, direction = rng.normal(0, 1, (2, *shape))
    magnitude, y = rng.normal(0, 1, ones), empty(*shape)
    compare(("weight_norm", "forward", ""), dtype, [direction, magnitude, y], bound=16)
    compare(("weight_norm", "dw", ""), dtype, [dy, direction, magnitude, y, empty(*ones)], bound=16)
    compare(("parameter", "forward", ""), dtype, [direction, y], bound=1)
    compare(("parameter", "dw", ""), dtype, [dy, y], bound=1)
