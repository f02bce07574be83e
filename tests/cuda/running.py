"""Runs emitted programs in one process for some steps, and keeps what they come to."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ON_DIGITS = """\
cluster one {
  device gpu { kind = gpu, memory = 4 GiB, bandwidth = 4 TB/s, compute.f32 = 50 TFLOP/s }
  topology { gpu[1] }
}
train tiny {
  data      = digits
  loss      = cross_entropy(logits, data.label)
  optimizer = sgd
  lr        = constant(0.1)
  epochs    = 1
}
"""
"""What a spec of a network `tiny` goes on with: the cluster `one`, and how it is trained on digits."""


@dataclass(frozen=True)
class Trained:
    """What a run says at its end, but for times, and the weights behind it."""

    result: dict[str, Any]
    weights: dict[str, Any]

    def equals(self, other: Trained) -> bool:
        """Whether all numbers are the same, to the bit."""
        same = self.weights.keys() == other.weights.keys() and self.result == other.result
        return same and all(np.array_equal(self.weights[name], other.weights[name]) for name in self.weights)


def trained(folder: Path, *arguments: str, steps: int = 4, timeout: float = 90) -> Trained:
    """Some steps of all ranks in one process."""
    file = folder.parent / "weights.npz"
    command = [sys.executable, "-I", str(folder / "train.py"), "--rehearse", "--steps", str(steps), "--json"]
    ran = subprocess.run(
        [*command, "--save", str(file), *arguments], capture_output=True, text=True, timeout=timeout, check=False
    )
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout.splitlines()[-1])
    return Trained({name: said[name] for name in ("steps", "loss", "metrics")}, dict(np.load(file)))
