"""`python -m benchmarks.gpu` without a GPU: it says what it needs; with `--emulate` its own logic runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECORD = ROOT / "benchmarks" / "records" / "gpu.json"


def benchmark(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "benchmarks.gpu", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=ROOT, env=environment)


def test_a_tiny_network_is_timed() -> None:
    before = RECORD.stat().st_mtime_ns if RECORD.exists() else None
    ran = benchmark("--emulate", "--only", "lenet5", "--json")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    row = json.loads(ran.stdout.splitlines()[-1])["rows"]["lenet5"]
    assert row["dlc_ms"] > 0
    assert len(row["losses"]) == 2
    assert row["error"] < 1e-4 if "peer" in row else row["left_out"]
    assert (RECORD.stat().st_mtime_ns if RECORD.exists() else None) == before


@pytest.mark.slow
def test_a_profile_predicts_what_comes_behind_it() -> None:
    ran = benchmark("--emulate", "--only", "lstm,profile", "--json")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    row = found["rows"]["lstm"]
    assert found["rows"]["profile"]["kernels"] > 100
    assert row["prediction_error"] == pytest.approx(row["predicted_ms"] / row["dlc_ms"] - 1, abs=1e-3)
    assert found["prediction_error"] == abs(row["prediction_error"])


def test_a_part_that_takes_too_long_is_a_row() -> None:
    ran = benchmark("--emulate", "--only", "accuracy", "--minutes", "0.005")
    assert ran.returncode == 1
    assert "FAILED: it was not done within" in ran.stdout


def test_without_a_gpu_it_says_what_it_needs() -> None:
    ran = benchmark("--json")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "needs a GPU and CuPy" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
