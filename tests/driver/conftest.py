"""A small job as text, with places to change it, written into a folder of its own and compiled there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dlc.driver import Compiled, Options, compile_spec, read

Write = Callable[..., str]
Compile = Callable[..., Compiled]

NETWORK = """network tiny {
  input image: f32[batch = 8, channel = 1, height = 8, width = 8]
  c1     = image -> conv(4, 3x3) -> relu
  logits = c1 -> flatten -> linear(10)
  output logits
}
"""
CLUSTER = """cluster pair {
  device core { memory = 4 GiB, bandwidth = 10 GB/s, compute.f32 = 50 GFLOP/s }
  link shm { bandwidth = 8 GB/s, latency = 1 us }
  topology { core[2] over shm }
}
"""
TRAIN = """train tiny {
  data      = digits
  loss      = cross_entropy(logits, data.label)
  optimizer = sgd
  lr        = constant(0.1)
  epochs    = 1
}
"""


def spec(plan: str = "", *, network: str = NETWORK, cluster: str = CLUSTER, train: str = TRAIN) -> str:
    """The text of a job; `plan` is the inside of its plan block, "" for none."""
    block = f"plan tiny on pair {{\n  {plan}\n}}\n" if plan else ""
    return f"dlspec 1\n{network}{cluster}{train}{block}"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """write(text) -> the path of a file with that text."""

    def write_text(text: str, name: str = "tiny.dlspec") -> str:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write_text


@pytest.fixture
def compiled(write: Write) -> Compile:
    """compiled(text, ranks=…) -> the job compiled."""

    def compile_text(text: str, **options: object) -> Compiled:
        return compile_spec(read(write(text)), Options(**options))  # type: ignore[arg-type]

    return compile_text
