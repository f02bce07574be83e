"""Texts of blocks for tests, and what a file made of them expands to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dlc.diagnostics import Diagnostic, DiagnosticError, render_all
from dlc.expand.build import expand
from dlc.expand.spec import Job, Spec

NETWORK = """
network tiny {
  input image: f32[batch = 32, channel = 1, height = 8, width = 8]
  c1     = image -> conv(4, 3x3) -> relu
  c2     = c1    -> conv(8, 3x3, stride = 2) -> relu
  logits = c2 -> flatten -> linear(10)
  aux    = c1 -> flatten -> linear(10)
  output logits, aux
}
"""

DEVICE = "device core { memory = 4 GiB, bandwidth = 10 GB/s, compute.f32 = 50 GFLOP/s }"
LINK = "link shm { bandwidth = 8 GB/s, latency = 1 us }"
TOPOLOGY = "topology { node[4] over shm { core[8] over shm } }"

SETTINGS = {
    "data": "digits()",
    "loss": "cross_entropy(logits, data.label)",
    "optimizer": "sgd",
    "lr": "constant(0.1)",
    "epochs": "2",
}


@dataclass(frozen=True)
class Result:
    """What a text expands to: a spec, or messages."""

    spec: Spec | None
    diagnostics: tuple[Diagnostic, ...]
    text: str

    @property
    def job(self) -> Job:
        assert self.spec is not None, render_all(self.diagnostics, {"test.dlspec": self.text})
        (job,) = self.spec.jobs
        return job

    @property
    def codes(self) -> list[str]:
        return [diagnostic.code for diagnostic in self.diagnostics]

    @property
    def error(self) -> Diagnostic:
        """The only message."""
        (diagnostic,) = self.diagnostics
        return diagnostic


def expanded(text: str, folder: Path) -> Result:
    """Expand a text as the file test.dlspec of a folder; the first line `dlspec 1` is added."""
    path = folder / "test.dlspec"
    path.write_text("dlspec 1\n" + text, encoding="utf-8")
    try:
        spec = expand(str(path))
    except DiagnosticError as error:
        return Result(None, error.diagnostics, "dlspec 1\n" + text)
    return Result(spec, spec.warnings, "dlspec 1\n" + text)


def block(head: str, lines: tuple[str, ...]) -> str:
    return f"{head} {{\n" + "".join(f"  {line}\n" for line in lines) + "}\n"


def train(**settings: str) -> str:
    """A file with a train block: sound settings, replaced by those given; an empty text leaves one out."""
    lines = {key: value for key, value in (SETTINGS | settings).items() if value}
    return NETWORK + block("train tiny", tuple(f"{key} = {value}" for key, value in lines.items()))


def cluster(*lines: str) -> str:
    """A file with a cluster of these lines."""
    return block("cluster pod", lines)


def plan(*rules: str, network: str = NETWORK) -> str:
    """A file with a plan of these rules for 4 nodes of 8 devices."""
    return network + cluster(DEVICE, LINK, TOPOLOGY) + block("plan tiny on pod", rules)
