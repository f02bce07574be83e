"""A network around each operator and loss, five training steps and a prediction beside PyTorch."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: its training is not compared with")

from dlc.ops import LAYERS, LOSSES
from tests import networks
from tests.oracle.comparison import compare

pytestmark = pytest.mark.oracle


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


def test_every_operator_and_loss_has_a_network() -> None:
    texts = " ".join(
        [*map(networks.spec, [*networks.OPERATORS, *networks.BODIES]), *map(networks.loss_spec, networks.LOSSES)]
    )
    spelt = {"add": " + ", "sub": " - ", "mul": " * ", "div": " / ", "matmul": " @ "}
    elsewhere = {"embedding", "position_embedding"}  # in specs/gpt2.dlspec, which stands beside PyTorch as a whole
    missing = [op.name for op in (*LAYERS, *LOSSES) if spelt.get(op.name, op.name) not in texts]
    assert set(missing) <= elsewhere
