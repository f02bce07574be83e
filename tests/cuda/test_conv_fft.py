"""Convolutions by Fourier transforms in CUDA: their text on the processor against the NumPy kernels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import backends.cupy_mpi.kernels.cu_conv_fft as fft
from dlc.driver import Options, compile_spec, emit_files, read
from dlc.folders import write_folder
from dlc.ops.conv import CONV
from tests.cuda.calling import needs_compiler
from tests.cuda.convolving import compare_convolution
from tests.cuda.running import ON_DIGITS, trained

CASES: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((2, 3, 7, 6), {"filters": 5, "window": 3, "pad": 1}),
    ((3, 4, 5, 9), {"filters": 6, "window": (2, 3), "groups": 2, "pad": ((0, 2), (1, 0)), "bias": False}),
    ((1, 1, 3, 3), {"filters": 1, "window": 1}),
    ((2, 2, 40, 19), {"filters": 3, "window": 5, "pad": 2}),
    ((2, 2, 9, 12), {"filters": 3, "window": 3, "dilation": 2, "pad": 2}),
]

pytestmark = needs_compiler


@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "CHWN"])
@pytest.mark.parametrize(("shape", "args"), CASES)
@pytest.mark.parametrize("algorithm", ["fft", "fft_tiled"])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_convolutions(dtype: str, algorithm: str, shape: tuple[int, ...], args: dict[str, Any], layout: str) -> None:
    compare_convolution(CONV, algorithm, dtype, shape, layout, bound=16, **args)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "CHWN"])
def test_tiles_of_few_samples_at_a_time(layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fft, "MOST_VALUES", 3000)
    compare_convolution(CONV, "fft_tiled", "f64", (5, 3, 7, 6), layout, filters=4, window=3, pad=1)


@pytest.mark.parametrize("algorithm", ["fft", "fft_tiled"])
def test_sequences(algorithm: str) -> None:
    compare_convolution(CONV, algorithm, "f64", (3, 4, 50), filters=6, window=7, pad=3, groups=2)


def test_strides_are_for_numpy() -> None:
    with pytest.raises(AssertionError, match="has no CUDA kernel"):
        compare_convolution(CONV, "fft", "f32", (2, 3, 7, 6), filters=5, window=3, stride=2)


TINY = (
    """dlspec 1
network tiny {
  input image: f32[batch = 16, channel = 1, height = 8, width = 8]
  c1     = image -> conv(4, 3x3, pad = 1) -> relu
  c2     = c1 -> conv(4, 3x3, pad = 1) -> relu
  logits = c2 -> flatten -> linear(10)
  output logits
}
"""
    + ON_DIGITS
    + """\
plan tiny on one {
  pin c1.conv { algorithm = fft_tiled }
  pin c2.conv { algorithm = fft }
}
"""
)


def test_programs(tmp_path: Path) -> None:
    """Steps that become graphs: transforms are among what is made again."""
    path = tmp_path / "tiny.dlspec"
    path.write_text(TINY, encoding="utf-8")
    job = compile_spec(read(str(path)), Options(ranks=1, kernels="numpy"))
    for backend in ("numpy", "cupy"):
        write_folder(emit_files(job, backend), str(tmp_path / backend))
    assert "conv_fft_tiled_dw = KERNELS.replace" in (tmp_path / "cupy" / "compiled.py").read_text(encoding="utf-8")
    known, found = trained(tmp_path / "numpy", steps=6), trained(tmp_path / "cupy", "--emulate", "cuda", steps=6)
    assert found.result["loss"] == pytest.approx(known.result["loss"], rel=1e-5)
    for name, right in known.weights.items():
        np.testing.assert_allclose(found.weights[name], right, rtol=0, atol=1e-5 * np.abs(right).max())
