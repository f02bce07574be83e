"""Convolutions by columns in CUDA, and transposed ones: their text on the processor against the NumPy kernels."""

from __future__ import annotations

from typing import Any

import pytest

import backends.cupy_mpi.kernels.cu_conv_im2col as im2col
from dlc.ops.conv import CONV
from dlc.ops.conv_transpose import CONV_TRANSPOSE
from tests.cuda.calling import needs_compiler
from tests.cuda.convolving import compare_convolution

CASES: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((2, 3, 7, 6), {"filters": 5, "window": 3, "pad": 1}),
    ((5, 4, 9, 8), {"filters": 6, "window": (3, 2), "stride": (2, 3), "dilation": (2, 1), "groups": 2, "pad": 2}),
    ((3, 4, 3, 5), {"filters": 6, "window": 1, "groups": 2, "bias": False}),
    ((1, 1, 1, 1), {"filters": 1, "window": 1}),
]

pytestmark = needs_compiler


@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "CHWN"])
@pytest.mark.parametrize(("shape", "args"), CASES)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_convolutions(dtype: str, shape: tuple[int, ...], args: dict[str, Any], layout: str) -> None:
    compare_convolution(CONV, "im2col", dtype, shape, layout, **args)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_columns_of_few_samples_at_a_time(layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(im2col, "MOST_COLUMNS", 2000)
    compare_convolution(CONV, "im2col", "f64", (5, 3, 7, 6), layout, filters=4, window=3, pad=1)
    compare_convolution(CONV, "im2col", "f64", (5, 64, 4, 4), layout, filters=4, window=1)


@pytest.mark.parametrize("shape", [(2, 3, 11), (1, 2, 4, 5, 3)])
def test_sequences_and_volumes(shape: tuple[int, ...]) -> None:
    compare_convolution(CONV, "im2col", "f64", shape, filters=3, window=3, stride=2, pad=1)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "CHWN"])
@pytest.mark.parametrize("algorithm", ["direct", "im2col"])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_transposed_convolutions(dtype: str, algorithm: str, layout: str) -> None:
    args: dict[str, Any] = {"filters": 3, "window": 3, "stride": 2, "pad": 1, "output_pad": 1}
    compare_convolution(CONV_TRANSPOSE, algorithm, dtype, (2, 4, 5, 3), layout, **args)
