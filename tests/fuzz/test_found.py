"""What fuzzing has found, each as a small spec: they compile, or get the message that they should have got."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlc.diagnostics import render_all
from dlc.driver import Options, check_file, compile_file

TRAINED = """
  output logits
}
cluster here {
  device core { kind = cpu, memory = 1 GiB, bandwidth = 10 GB/s, compute.f32 = 50 GFLOP/s }
  link shm { bandwidth = 8 GB/s, latency = 1 us }
  topology { core[2] over shm }
}
train net {
  data = synthetic(samples = 64)
  loss = cross_entropy(logits, data.label)
  optimizer = sgd
  lr = constant(0.1)
  steps = 2
}
"""

NETWORKS = {
    "dropout before flatten": "logits = image -> relu -> dropout(0.1) -> flatten -> linear(10)",
    "dropout after dropout": "logits = image -> relu -> dropout(0.1) -> dropout(0.2) -> tanh -> flatten -> linear(10)",
    "dropout of the input": "logits = image -> dropout(0.1) -> flatten -> linear(10)",
    "dropout at the end": "logits = image -> flatten -> linear(10) -> dropout(0.1)",
}


@pytest.mark.parametrize("statement", NETWORKS.values(), ids=NETWORKS)
def test_compiles(statement: str, tmp_path: Path) -> None:
    file = tmp_path / "found.dlspec"
    head = "dlspec 1\nnetwork net {\n  input image: f32[4, channel = 1, height = 8, width = 8]\n  "
    file.write_text(head + statement + TRAINED)
    assert compile_file(str(file), Options()).program.ranks == 2


@pytest.mark.parametrize("character", ["\ufeff", "\u200b", "\u202e", "\u2066"])
def test_invisible_characters_are_named(character: str, tmp_path: Path) -> None:
    file = tmp_path / "found.dlspec"
    file.write_text(f"dlspec 1\nparam a = {character}1\n", encoding="utf-8")
    diagnostics, sources = check_file(str(file))
    assert [diagnostic.primary.span.line for diagnostic in diagnostics if diagnostic.primary] == [2]
    assert f"U+{ord(character):04X}" in diagnostics[0].message
    assert character not in render_all(diagnostics, sources)
