"""What processes of emitted programs really take: their growth against the plan's, and what a step allocates."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from backends.numpy_mpi.kernels.native import find_compiler
from dlc.driver import Compiled, Options, compile_spec, emit_files, read
from dlc.folders import write_folder
from dlc.launch import command_line
from tests.slices import first

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc tells what a process takes")

WITH_C = pytest.mark.skipif(not find_compiler(), reason="there is no C compiler")

SPEC = """dlspec 1

network net {{
{network}
  output logits
}}

train net {{
  data      = synthetic(samples = 128, classes = 10, test = 0)
  loss      = cross_entropy(logits, data.label)
  optimizer = {optimizer}
  lr        = constant(0.001, over = 2 epochs) then cosine(to = 0, over = 100 epochs)
  steps     = 4
}}

cluster box {{
  device core {{ kind = cpu, memory = 4 GiB, bandwidth = 10 GB/s, compute.f32 = 100 GFLOP/s }}
  link shm {{ bandwidth = 8 GB/s, latency = 1 us }}
  topology {{ core[{ranks}] over shm }}
}}

plan net on box {{
  kernels = {kernels}
  {plan}
}}
"""

IMAGES = """  input image: f32[32, channel = 3, height = 96, width = 96]
  stem = image -> conv(32, 3x3, pad = 1) -> bn(group = 16) -> relu -> conv(32, 3x3, pad = 1) -> relu
  pool = stem -> maxpool(2x2) -> conv(64, 3x3, pad = 1) -> bn(group = 16) -> relu -> conv(64, 1x1)
  logits = pool -> global_avgpool -> flatten -> linear(10)"""

LINES = """  input row: f32[64, feature = 1024]
  body   = row -> linear(3072) -> tanh -> linear(3072) -> tanh -> linear(2048) -> tanh
  logits = body -> linear(10)"""

FEW = """  input row: f32[32, feature = 64]
  body   = row -> linear(128) -> relu -> dropout(0.2) -> linear(128) -> relu -> dropout(0.2)
  logits = body -> linear(10)"""

CASES = {
    "images, C": (IMAGES, "sgd(momentum = 0.9)", "c", 1, ""),
    "lines, C": (LINES, "adam", "c", 1, ""),
    "lines, NumPy": (LINES, "sgd(momentum = 0.9)", "numpy", 1, ""),
    "data parallel, C": (LINES, "sgd(momentum = 0.9)", "c", 2, "mesh { data = core }"),
    "pipeline, NumPy": (LINES, "adam", "numpy", 2, "mesh { pipeline = core }; pipeline.microbatches = 2"),
}

SMALL = {
    "few, C": (FEW, "sgd(momentum = 0.9)", "c", 1, ""),
    "few, NumPy": (FEW, "adam", "numpy", 1, ""),
    "few, parallel": (FEW, "sgd(momentum = 0.9)", "c", 2, "mesh { model = core }"),
    "some, data": (FEW.replace("linear(128)", "linear(224)"), "sgd(momentum = 0.9)", "c", 2, "mesh { data = core }"),
}

WITHIN = 0.05
"""How far the growth may be from what was predicted."""

KEPT = 16384
"""Bytes that Python's own tables may grow by in some hundred steps."""


def made(case: str, folder: Path) -> Compiled:
    """The program of a case, written."""
    network, optimizer, kernels, ranks, plan = {**CASES, **SMALL}[case]
    spec = folder / "net.dlspec"
    spec.write_text(SPEC.format(network=network, optimizer=optimizer, kernels=kernels, ranks=ranks, plan=plan))
    compiled = compile_spec(read(str(spec), {}), Options())
    write_folder(emit_files(compiled), str(folder / "program"))
    return compiled


@WITH_C
@pytest.mark.parametrize(
    "case", first(3, ["images, C", "lines, NumPy", "data parallel, C", "lines, C", "pipeline, NumPy"])
)
def test_a_process_grows_by_what_its_plan_predicts(case: str, tmp_path: Path) -> None:
    compiled = made(case, tmp_path)
    memory = taken(compiled, tmp_path)
    predicted = compiled.plan.predicted.peak_bytes
    assert predicted > 60e6  # the process's own fluctuations are a megabyte or two
    assert memory["arrays"] == pytest.approx(predicted, rel=0.005)
    assert memory["grown"] == pytest.approx(predicted, rel=WITHIN)
    assert memory["base"] > 20e6


@WITH_C
@pytest.mark.parametrize("case", ["few, C", "some, data"])
def test_a_small_process_too(case: str, tmp_path: Path) -> None:
    """Half a megabyte of arrays and less, whatever the number of steps; what MPI has for messages is there before."""
    compiled = made(case, tmp_path)
    predicted = compiled.plan.predicted.peak_bytes
    assert predicted < 1e6
    assert taken(compiled, tmp_path, "--steps", "300")["grown"] == pytest.approx(predicted, rel=WITHIN)


def taken(compiled: Compiled, folder: Path, *words: str) -> dict[str, int]:
    """What a program says of its memory."""
    words = ("--profile", "--json", *words)
    command, variables = command_line(str(folder / "program"), compiled.plan.ranks, words)
    environment = {**os.environ, **variables}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=True)
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])["memory"]
    return found


@WITH_C
@pytest.mark.parametrize("case", first(2, ["few, C", "some, data", "few, NumPy", "few, parallel"]))
def test_steps_keep_nothing(case: str, tmp_path: Path) -> None:
    """What Python's allocator has given out is the same 250 steps later: no times, no lists of freed tuples."""
    ranks = made(case, tmp_path).plan.ranks
    mpiexec, variables = command_line(str(tmp_path / "program"), ranks)
    words = ["-I", str(Path(__file__).parent / "traced_steps.py"), "program", str(ranks), "50", "300"]
    words = [*mpiexec[: mpiexec.index(sys.executable) + 1], *words]
    environment = {**os.environ, **variables}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600, check=True)
    before, after = json.loads(done.stdout.splitlines()[-1])
    assert before > 1e6
    assert after - before < KEPT


@WITH_C
def test_steps_ask_the_allocator_for_no_arrays(tmp_path: Path) -> None:
    """A library before that of C counts each request of 4 KiB and more, in steps behind the first."""
    made("lines, C", tmp_path)
    here = Path(__file__).parent
    library = tmp_path / "allocations.so"
    subprocess.run(
        [*find_compiler(), "-O2", "-shared", "-fPIC", "-o", library, here / "allocations.c"], check=True, timeout=60
    )
    words = [sys.executable, "-I", here / "counted_steps.py", "program", "4", "4096"]
    environment = {**os.environ, "LD_PRELOAD": str(library)}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) == 3
    assert found == [[0, 0, 0]] * 3
