"""The benchmark against PyTorch runs, and finds that both compute the same loss."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.peers import torch_text
from benchmarks.peers.networks import NETWORKS, compiled

ROOT = Path(__file__).resolve().parents[2]


def ran(*arguments: str) -> str:
    command = [sys.executable, "-m", "benchmarks.cpu_vs_pytorch", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch is not installed: there is nothing to compare with")
@pytest.mark.oracle
def test_a_network_is_compared() -> None:
    text = ran("--only", "mlp", "--threads", "1", "--repeats", "2", "--peers", "eager", "--json")
    assert "without torch.compile: not in --peers" in text
    told = json.loads(text.splitlines()[-1])
    (row,) = told["rows"]
    assert row["network"] == "mlp"
    assert row["peer"] == "PyTorch eager"
    assert set(row["left_out"]) == {"torch.compile", "channels last"}
    assert row["dlc_ms"] > 0.0 < row["peer_ms"]
    assert row["ratio"] == pytest.approx(row["dlc_ms"] / row["peer_ms"], rel=1e-2)
    assert told["geomean_ratio"] == row["ratio"]


def test_a_profile_names_kernels() -> None:
    text = ran("--profile", "mlp", "--threads", "1", "--repeats", "2")
    assert "linear forward" in text
    assert "body.layer[0].linear@dw" in text


def test_pytorch_is_given_what_its_users_write() -> None:
    made = compiled(NETWORKS["lenet5"], "numpy", 1)
    written = torch_text.write(made.job.graph)
    assert (
        "c1_conv = F.conv2d(image, self.c1_conv_weight, self.c1_conv_bias, (1, 1), (0, 0), (1, 1), 1)" in written.text
    )
    assert written.inputs == ("image", "label")
    assert len(written.weights) == 10
