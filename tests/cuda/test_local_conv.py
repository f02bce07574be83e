"""Locally connected layers in CUDA: their text on the processor against the NumPy kernels."""

from __future__ import annotations

from typing import Any

import pytest

from dlc.ops.local_conv import LOCAL_CONV
from tests.cuda.calling import needs_compiler
from tests.cuda.convolving import compare_convolution

pytestmark = needs_compiler

CASES: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((3, 2, 5, 6), {"filters": 4, "window": 3, "pad": 1}),
    ((2, 3, 7, 5), {"filters": 2, "window": (2, 3), "stride": 2, "dilation": (1, 2), "bias": False}),
    ((1, 1, 3, 3), {"filters": 1, "window": 1}),
]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "CHWN"])
@pytest.mark.parametrize(("shape", "args"), CASES)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_images(dtype: str, shape: tuple[int, ...], args: dict[str, Any], layout: str) -> None:
    compare_convolution(LOCAL_CONV, "", dtype, shape, layout, bound=16, **args)


@pytest.mark.parametrize("shape", [(3, 2, 9), (2, 2, 3, 4, 3)])
def test_sequences_and_volumes(shape: tuple[int, ...]) -> None:
    compare_convolution(LOCAL_CONV, "", "f64", shape, bound=16, filters=3, window=2, stride=2)
