"""Fused calls in programs for GPUs: chains and updates of many weights, beside the same program without them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dlc.cli import main
from dlc.driver import Options, compile_spec, emit_files, read
from dlc.folders import write_folder
from tests.cuda.calling import needs_compiler
from tests.cuda.running import trained

NETWORK = """dlspec 1
network tiny {
  input image: f32[batch = 16, channel = 1, height = 8, width = 8]
  c1     = image -> conv(4, 3x3, pad = 1) -> relu
  c2     = c1 -> conv(4, 3x3, pad = 1) -> relu
  c3     = c2 -> conv(4, 3x3, pad = 1) -> bn -> relu
  c4     = c2 + c3 -> conv(4, 3x3, pad = 1) -> bn
  c5     = c4 + c2 -> relu
  h1     = c5 -> flatten -> linear(16) -> gelu(approximate = tanh)
  h2     = h1 -> linear(12) -> gelu -> linear(12) -> relu
  logits = h2 -> linear(10)
  output logits
}
"""

TRAIN = """train tiny {
  data      = digits
  loss      = cross_entropy(logits, data.label)
  optimizer = adam
  lr        = constant(0.01)
  epochs    = 1
}
"""

GPU = """cluster one {
  device gpu { kind = gpu, memory = 4 GiB, bandwidth = 4 TB/s, compute.f32 = 50 TFLOP/s }
  topology { gpu[1] }
}
plan tiny on one {
  FUSION
  pin c1.conv { algorithm = direct }
  pin c2.conv { algorithm = implicit_gemm }
  layout = NCHW
}
"""


CPU = """cluster one {
  device cpu { kind = cpu, memory = 4 GiB, bandwidth = 10 GB/s, compute.f32 = 50 GFLOP/s }
  topology { cpu[1] }
}
plan tiny on one { fusion = FUSION }
"""


def emitted(folder: Path, fusion: str) -> dict[str, Path]:
    """The program for GPUs and its twin, in double precision: Adam makes steps of what rounding leaves of zeros."""
    path = folder / "tiny.dlspec"
    path.write_text(NETWORK + TRAIN + GPU.replace("FUSION", fusion), encoding="utf-8")
    job = compile_spec(read(str(path)), Options(ranks=1, precision="f64"))
    found = {backend: folder / (fusion.replace(" ", "") or "auto") / backend for backend in ("numpy", "cupy")}
    for backend, each in found.items():
        each.parent.mkdir(exist_ok=True)
        write_folder(emit_files(job, backend), str(each))
    return found


@needs_compiler
def test_plans_for_gpus_are_fused(tmp_path: Path) -> None:
    """In layouts and algorithms that C has no fused kernels for; the numbers are those of the program without."""
    fused, apart = emitted(tmp_path, ""), emitted(tmp_path, "fusion = no")
    text, other = ((folders["cupy"] / "compiled.py").read_text(encoding="utf-8") for folders in (fused, apart))
    convolutions = ("conv_relu_direct_forward", "conv_relu_implicit_gemm_forward")
    linear = ("linear_relu_forward", "linear_gelu_kept_forward", "linear_gelu_dx")
    for name in (*convolutions, *linear, "bn_relu_forward", "adam_updates"):
        assert f"{name} = KERNELS.replace" in text
        assert name not in other
    left = [line.split(" ")[0] for line in text.splitlines() if "KERNELS.on_processor" in line]
    assert left == ["totals_forward"]
    known = trained(apart["numpy"], steps=3)
    assert trained(fused["numpy"], steps=3).equals(known)
    assert trained(fused["cupy"], "--emulate", steps=3).equals(known)
    found = trained(fused["cupy"], "--emulate", "cuda", steps=3)
    assert found.result["loss"] == pytest.approx(known.result["loss"], rel=1e-9)
    for name, right in known.weights.items():
        np.testing.assert_allclose(found.weights[name], right, rtol=0, atol=1e-7 * max(1e-3, np.abs(right).max()))


def test_programs_for_gpus_are_fused_whatever_the_cluster(tmp_path: Path) -> None:
    """Unless the plan forbids it: those of a plan for processors, too."""
    for fusion in ("auto", "no"):
        path, folder = tmp_path / "tiny.dlspec", tmp_path / fusion
        path.write_text(NETWORK + TRAIN + CPU.replace("FUSION", fusion), encoding="utf-8")
        assert main(["compile", str(path), "--backend", "cupy", "-o", str(folder)]) == 0
        text = (folder / "compiled.py").read_text(encoding="utf-8")
        assert ("adam_updates = KERNELS.replace_rows" in text) is (fusion == "auto")
