"""A network around each operator and loss as a program for GPUs, on ranks with uneven parts of the batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dlc.driver import Options, compile_spec, emit_files, read
from dlc.folders import write_folder
from tests.cuda.calling import needs_compiler
from tests.cuda.running import trained
from tests.programs.test_operators import TEXTS

RANKS = 3
SOON = ("depthwise_conv", "transpose order", "loss kl")
"""Those that do not wait for the night."""


@needs_compiler
@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in SOON else [pytest.mark.slow]) for n in TEXTS])
def test_programs_are_the_same_without_a_gpu(name: str, tmp_path: Path) -> None:
    """To the bit with NumPy in place of CuPy, and nearly so with the text of the kernels.

    In double precision: Adam makes steps of what rounding leaves of gradients that are 0, those of biases of keys.
    """
    (tmp_path / "net.dlspec").write_text(TEXTS[name], encoding="utf-8")
    job = compile_spec(read(str(tmp_path / "net.dlspec")), Options(ranks=RANKS, kernels="numpy", precision="f64"))
    for backend in ("numpy", "cupy"):
        write_folder(emit_files(job, backend), str(tmp_path / backend))
    known = trained(tmp_path / "numpy")
    assert trained(tmp_path / "cupy", "--emulate").equals(known)
    found = trained(tmp_path / "cupy", "--emulate", "cuda")
    assert found.result["loss"] == pytest.approx(known.result["loss"], rel=1e-9)
    for weight, right in known.weights.items():
        np.testing.assert_allclose(found.weights[weight], right, rtol=0, atol=1e-7 * max(1e-3, np.abs(right).max()))
