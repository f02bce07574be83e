"""Whole programs of the backend `cupy` without a GPU: NumPy's kernels stand for it, or the CUDA text itself does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dlc.driver import Options, compile_spec, emit_files, read
from dlc.folders import write_folder
from tests.cuda.calling import needs_compiler
from tests.cuda.nvrtc import ARCHITECTURES, MISSING, compiled, library
from tests.cuda.running import ON_DIGITS, trained

SPECS = Path(__file__).parents[2] / "specs"
NETWORKS = ("lenet5", "mlp")


@pytest.fixture(scope="module", params=NETWORKS)
def folders(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A network on two ranks for both backends."""
    job = compile_spec(read(str(SPECS / f"{request.param}.dlspec")), Options(ranks=2, kernels="numpy"))
    made = {backend: tmp_path_factory.mktemp(request.param) / backend for backend in ("numpy", "cupy")}
    for backend, folder in made.items():
        write_folder(emit_files(job, backend), str(folder))
    return made


def test_with_numpy_in_place_of_cupy_it_computes_the_same(folders: dict[str, Path]) -> None:
    """To the bit: arrays, buffers, the order of calls and messages are those of the other backend."""
    assert trained(folders["cupy"], "--emulate").equals(trained(folders["numpy"]))


@needs_compiler
def test_with_the_text_of_its_kernels_it_computes_nearly_the_same(folders: dict[str, Path]) -> None:
    found, known = trained(folders["cupy"], "--emulate", "cuda"), trained(folders["numpy"])
    assert found.result["loss"] == pytest.approx(known.result["loss"], rel=1e-5)
    for name, right in known.weights.items():
        np.testing.assert_allclose(found.weights[name], right, rtol=0, atol=1e-5 * np.abs(right).max())


PINNED = (
    """dlspec 1
network tiny {
  input image: f32[batch = 16, channel = 1, height = 8, width = 8]
  c1     = image -> conv(4, 3x3) -> relu
  logits = c1 -> flatten -> linear(10)
  output logits
}
"""
    + ON_DIGITS
    + """\
plan tiny on one { fusion = yes, pin **.conv { algorithm = ALGORITHM } }
"""
)


@needs_compiler
@pytest.mark.parametrize("algorithm", ["implicit_gemm", "cudnn"])
def test_what_only_gpus_have_kernels_for_can_be_pinned(algorithm: str, tmp_path: Path) -> None:
    """The backend `numpy` has a twin of it, which computes the same. Without cuDNN a program has kernels of its own."""
    path = tmp_path / "tiny.dlspec"
    path.write_text(PINNED.replace("ALGORITHM", algorithm), encoding="utf-8")
    job = compile_spec(read(str(path)), Options(ranks=1))
    made = {backend: tmp_path / backend for backend in ("numpy", "cupy")}
    for backend, folder in made.items():
        write_folder(emit_files(job, backend), str(folder))
    assert "/* instance conv_implicit_gemm_forward<" in (made["cupy"] / "kernels.cu").read_text(encoding="utf-8")
    found, known = trained(made["cupy"], "--emulate", "cuda"), trained(made["numpy"])
    assert found.result["loss"] == pytest.approx(known.result["loss"], rel=1e-5)


@needs_compiler
def test_graphs_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One rank, whose functions become graphs: on the processor tapes of launches, which are made again."""
    job = compile_spec(read(str(SPECS / "mlp.dlspec")), Options(ranks=1, kernels="numpy"))
    write_folder(emit_files(job, "cupy"), str(tmp_path / "program"))
    found = trained(tmp_path / "program", "--emulate", "cuda", steps=9)
    monkeypatch.setenv("DLC_GRAPHS", "no")
    assert found.equals(trained(tmp_path / "program", "--emulate", "cuda", steps=9))


@pytest.mark.skipif(library() is None, reason=MISSING)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_its_kernels_are_compiled_for_gpus(folders: dict[str, Path], architecture: str) -> None:
    assert compiled((folders["cupy"] / "kernels.cu").read_text(encoding="utf-8"), architecture)


def test_the_text_is_the_same_but_for_its_kernels(folders: dict[str, Path]) -> None:
    """train.py calls the same functions with the same arguments, from another module."""
    texts = [(folders[backend] / "train.py").read_text(encoding="utf-8") for backend in ("numpy", "cupy")]
    numpy, cupy = (text[text.index("\nMESH = ") : text.index("    progress.note(")] for text in texts)
    assert numpy == cupy
    assert "from compiled import" in texts[1]


def test_without_a_gpu_or_cupy_it_says_so(folders: dict[str, Path]) -> None:
    without = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(folders["cupy"] / "train.py"), "--rehearse", "--steps", "1"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False, env=without)
    assert ran.returncode
    assert "there is no GPU that CuPy can use" in ran.stderr or "CuPy cannot be used" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert "--emulate" in ran.stderr
