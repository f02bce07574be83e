"""Networks in the language, as far as a pass takes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dlc.driver import Compiled, Options, compile_spec, context_of, read, training_graph
from dlc.ir.graph import Graph

CLUSTER = """cluster laptop {
  device core { memory = 4 GiB, bandwidth = 10 GB/s, compute.f32 = 50 GFLOP/s }
  link shm { bandwidth = 8 GB/s, latency = 1 us }
  topology { core[2] over shm }
}
"""

Train = Callable[..., Graph]
CompileNetwork = Callable[..., Compiled]


def job(
    network: str,
    plan: str = "",
    *,
    loss: str = "cross_entropy(y, data.label)",
    metrics: str = "[accuracy(y, data.label)]",
    data: str = "synthetic(samples = 40, classes = 3)",
    optimizer: str = "sgd",
) -> str:
    """The text of a job; `network` holds statements of a network that ends in `y`, `plan` the inside of its block."""
    block = f"plan net on laptop {{\n  {plan}\n}}\n" if plan else ""
    return f"""dlspec 1
network net {{
  {network}
}}
{CLUSTER}train net {{
  data      = {data}
  loss      = {loss}
  metrics   = {metrics}
  optimizer = {optimizer}
  lr        = constant(0.1)
  epochs    = 1
}}
{block}"""


@pytest.fixture
def trained(tmp_path: Path) -> Train:
    """trained("input x: …", loss=…) -> the graph with backward pass and updates, verified after each pass."""

    def make(network: str, **given: str) -> Graph:
        path = tmp_path / "net.dlspec"
        path.write_text(job(network, **given), encoding="utf-8")
        found, context = context_of(read(str(path)), Options())
        return training_graph(found, context, Options())

    return make


@pytest.fixture
def compiled(tmp_path: Path) -> CompileNetwork:
    """compiled("input x: …", "layout = NHWC", ranks=2) -> the job compiled."""

    def make(
        network: str, plan: str = "", *, ranks: int = 2, precision: str | None = None, seed: int = 0, **given: str
    ) -> Compiled:
        path = tmp_path / "net.dlspec"
        text = job(network, plan, **given).replace("  epochs", f"  seed      = {seed}\n  epochs")
        path.write_text(text, encoding="utf-8")
        return compile_spec(read(str(path)), Options(ranks=ranks, precision=precision))

    return make
