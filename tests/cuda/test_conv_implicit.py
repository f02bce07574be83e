"""Convolutions by tiles of products in CUDA: their text on the processor against the NumPy kernels."""

from __future__ import annotations

from typing import Any

import pytest

from dlc.ops.conv import CONV
from tests.cuda.calling import needs_compiler
from tests.cuda.convolving import compare_convolution

CASES: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((2, 3, 7, 6), {"filters": 5, "window": 3, "pad": 1}),
    ((3, 5, 9, 8), {"filters": 40, "window": (3, 2), "stride": 2, "pad": ((0, 2), (1, 0)), "bias": False}),
    ((1, 4, 9, 10), {"filters": 6, "window": 3, "stride": (3, 2), "dilation": (2, 3), "groups": 2, "pad": 2}),
    ((2, 66, 3, 5), {"filters": 70, "window": 1, "stride": 2}),
    ((1, 1, 1, 1), {"filters": 1, "window": 1}),
]

pytestmark = needs_compiler


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(("dtype", "shape", "args"), [*(("f32", *case) for case in CASES), ("f64", *CASES[1])])
def test_convolutions(dtype: str, shape: tuple[int, ...], args: dict[str, Any], layout: str) -> None:
    compare_convolution(CONV, "implicit_gemm", dtype, shape, layout, **args)


@pytest.mark.parametrize("shape", [(2, 3, 11), (1, 2, 4, 5, 3)])
def test_sequences_and_volumes(shape: tuple[int, ...]) -> None:
    compare_convolution(CONV, "implicit_gemm", "f64", shape, filters=3, window=3, stride=2, pad=1)
