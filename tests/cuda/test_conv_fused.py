"""Convolutions with a ReLU in CUDA: their text on the processor against the NumPy kernels."""

from __future__ import annotations

import pytest

from dlc.ops.conv import CONV
from tests.cuda.calling import needs_compiler
from tests.cuda.convolving import compare_convolution

pytestmark = needs_compiler


@pytest.mark.parametrize(
    ("algorithm", "bound"), [("direct", 32), ("implicit_gemm", 32), ("winograd(2)", 32), ("winograd(4)", 300)]
)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_convolutions(layout: str, algorithm: str, bound: float) -> None:
    compare_convolution(CONV, algorithm, "f32", (2, 3, 7, 6), layout, bound, fused=True, filters=5, window=3, pad=1)


def test_elements_that_no_window_meets() -> None:
    compare_convolution(CONV, "direct", "f64", (2, 3, 7, 6), fused=True, filters=5, window=1, stride=2)
