"""Winograd's convolutions in CUDA: their text on the processor against the NumPy kernels."""

from __future__ import annotations

from typing import Any

import pytest

import backends.cupy_mpi.kernels.cu_conv_winograd as winograd
from dlc.ops.conv import CONV
from tests.cuda.calling import needs_compiler
from tests.cuda.convolving import compare_convolution

CASES: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((2, 3, 7, 6), {"filters": 5, "pad": 1}),
    ((3, 4, 5, 9), {"filters": 6, "groups": 2, "pad": ((0, 2), (1, 0)), "bias": False}),
    ((1, 1, 3, 3), {"filters": 1}),
]

pytestmark = needs_compiler


@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "CHWN"])
@pytest.mark.parametrize(("shape", "args"), CASES)
@pytest.mark.parametrize(("algorithm", "bound"), [("winograd(2)", 32), ("winograd(4)", 300)])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_convolutions(
    dtype: str, algorithm: str, bound: float, shape: tuple[int, ...], args: dict[str, Any], layout: str
) -> None:
    compare_convolution(CONV, algorithm, dtype, shape, layout, bound, window=3, **args)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "CHWN"])
def test_tiles_of_few_samples_at_a_time(layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "MOST_VALUES", 1000)
    compare_convolution(CONV, "winograd(2)", "f64", (5, 3, 7, 6), layout, filters=4, window=3, pad=1)
