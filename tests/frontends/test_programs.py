"""Emitted programs of imported models predict what their kernels do one by one, and train on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dlc import driver
from tests.cli.conftest import Dlc
from tests.frontends.evaluate import evaluate, outputs
from tests.frontends.light_models import drawn
from tests.frontends.models import convnet, model, node, normal, save

pytestmark = pytest.mark.mpi


@pytest.fixture
def imported(dlc: Dlc, tmp_path: Path) -> Path:
    """net.dlspec and net.npz of the small convolutional network."""
    said = dlc("import", save(convnet(), tmp_path), "-o", tmp_path / "net.dlspec", "-P", "batch=8")
    assert said.status == 0, said.err
    return tmp_path / "net.dlspec"


def kernels(spec: Path, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    graph = driver.read(str(spec)).spec.jobs[0].graph
    return outputs(graph, evaluate(graph, inputs, dict(np.load(spec.with_suffix(".npz")))))


@pytest.mark.parametrize("ranks", [1, 2])
def test_predictions(dlc: Dlc, imported: Path, ranks: int, tmp_path: Path) -> None:
    image = normal(13, 3, 8, 8, seed=9)
    np.savez(tmp_path / "in.npz", image=image)
    out = tmp_path / "out.npz"
    weights = imported.with_suffix(".npz")
    said = dlc("run", imported, "-n", ranks, "--load", weights, "--predict", out, "--input", tmp_path / "in.npz")
    assert said.status == 0, said.err
    expected = kernels(imported, image=image)
    found = np.load(out)
    assert set(found) == set(expected) == {"probabilities", "fc_Gemm"}
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-6)


def test_training_goes_on_from_the_weights(dlc: Dlc, imported: Path, tmp_path: Path) -> None:
    after = tmp_path / "after.npz"
    said = dlc("run", imported, "-n", 1, "--load", imported.with_suffix(".npz"), "--steps", 2, "--save", after)
    assert said.status == 0, said.err
    before, trained = np.load(imported.with_suffix(".npz")), np.load(after)
    assert set(before) == set(trained)
    assert not np.array_equal(before["fc_Gemm.linear.weight"], trained["fc_Gemm.linear.weight"])
    np.testing.assert_allclose(before["fc_Gemm.linear.weight"], trained["fc_Gemm.linear.weight"], atol=0.1)


def test_outputs_of_any_shape_have_a_train_block(dlc: Dlc, tmp_path: Path) -> None:
    nodes = [node("Conv", "x w", "y")]
    path = save(model(nodes, {"x": (4, 2, 5, 5)}, ["y"], {"w": normal(3, 2, 2, 2)}), tmp_path)
    assert dlc("import", path, "-o", tmp_path / "net.dlspec").status == 0
    said = dlc("run", tmp_path / "net.dlspec", "-n", 1, "--steps", 2, "--load", tmp_path / "net.npz")
    assert said.status == 0, said.err


def test_a_light_model(dlc: Dlc, tmp_path: Path) -> None:
    path = save(drawn("squeezenet", 0), tmp_path)
    assert dlc("import", path, "-o", tmp_path / "net.dlspec").status == 0
    image = normal(1, 3, 224, 224)
    np.savez(tmp_path / "in.npz", data_0=image)
    said = dlc(
        *("run", tmp_path / "net.dlspec", "-n", 1, "--load", tmp_path / "net.npz"),
        *("--predict", tmp_path / "out.npz", "--input", tmp_path / "in.npz"),
    )
    assert said.status == 0, said.err
    (expected,) = kernels(tmp_path / "net.dlspec", data_0=image).values()
    (found,) = np.load(tmp_path / "out.npz").values()
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
