"""Programs for GPUs whose plans let kernels run on some samples at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dlc.driver import Options, compile_spec, emit_files, read
from dlc.folders import write_folder
from tests.cuda.calling import needs_compiler
from tests.cuda.running import ON_DIGITS, trained

TEXT = (
    """dlspec 1
network tiny {
  input image: f32[batch = 16, channel = 1, height = 8, width = 8]
  c1     = image -> conv(5, 3x3, pad = 1) -> relu
  logits = c1 -> conv(4, 3x3, pad = 1) -> flatten -> linear(10)
  output logits
}
"""
    + ON_DIGITS
    + """\
plan tiny on one {
  pin c1.conv { algorithm = ALGORITHM }
  limit workspace <= 40 KiB
}
"""
)


@needs_compiler
@pytest.mark.parametrize("algorithm", ["im2col", "fft"])
def test_kernels_by_parts(algorithm: str, tmp_path: Path) -> None:
    """NumPy's by parts, to the bit; in CUDA on all samples at once."""
    (tmp_path / "tiny.dlspec").write_text(TEXT.replace("ALGORITHM", algorithm), encoding="utf-8")
    job = compile_spec(read(str(tmp_path / "tiny.dlspec")), Options(ranks=1))
    for backend in ("numpy", "cupy"):
        write_folder(emit_files(job, backend), str(tmp_path / backend))
    assert "in_parts = KERNELS.in_parts" in (tmp_path / "cupy" / "compiled.py").read_text(encoding="utf-8")
    known = trained(tmp_path / "numpy", steps=2)
    assert trained(tmp_path / "cupy", "--emulate", steps=2).equals(known)
    found = trained(tmp_path / "cupy", "--emulate", "cuda", steps=2)
    assert found.result["loss"] == pytest.approx(known.result["loss"], rel=1e-5)
    for name, right in known.weights.items():
        np.testing.assert_allclose(found.weights[name], right, rtol=0, atol=1e-5 * np.abs(right).max())
