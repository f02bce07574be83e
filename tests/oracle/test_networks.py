"""A network around each operator and loss, five training steps and a prediction beside PyTorch."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: its training is not compared with")

from dlc.driver import read
from dlc.ops import LAYERS, LOSSES
from tests import networks
from tests.oracle.comparison import compare

pytestmark = pytest.mark.oracle

SPECS = Path(__file__).parents[2] / "specs"


def check(text: str, folder: Path, precision: str) -> None:
    (folder / "net.dlspec").write_text(text)
    found = compare(folder / "net.dlspec", folder, precision)
    assert not found.training.failed
    assert found.prediction <= found.bound


@pytest.mark.parametrize("name", [*networks.OPERATORS, *networks.BODIES])
def test_operator(name: str, tmp_path: Path) -> None:
    check(networks.spec(name), tmp_path, "f64")


@pytest.mark.parametrize("name", networks.LOSSES)
def test_loss(name: str, tmp_path: Path) -> None:
    check(networks.loss_spec(name), tmp_path, "f64")


def test_every_operator_and_loss_has_a_network(tmp_path: Path) -> None:
    """The reduced specs stand beside PyTorch too: GPT-2 has the embeddings."""
    paths = [SPECS / "gpt2.dlspec"]
    texts = [*map(networks.spec, [*networks.OPERATORS, *networks.BODIES]), *map(networks.loss_spec, networks.LOSSES)]
    for number, text in enumerate(texts):
        paths.append(tmp_path / f"{number}.dlspec")
        paths[-1].write_text(text)
    graphs = [job.graph for path in paths for job in read(str(path)).spec.jobs]
    covered = {node.op for graph in graphs for node in graph.nodes}
    assert {op.name for op in (*LAYERS, *LOSSES)} - covered == set()
