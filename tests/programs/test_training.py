"""Emitted programs train, evaluate, save, load and predict alike on any number of ranks."""

from pathlib import Path

import numpy as np
import pytest

from tests.programs.conftest import Compile

pytestmark = pytest.mark.mpi


def test_lenet_learns_real_digits_on_two_ranks(compiled: Compile) -> None:
    ran = compiled("lenet5", 2).run("--epochs", "4")
    assert ran.status == 0, ran.output
    assert ran.result["steps"] == 4 * 44
    assert ran.result["metrics"]["accuracy"] >= 0.95
    assert ran.result["step_seconds"] > 0


def test_lenet_reaches_97_percent(compiled: Compile) -> None:
    ran = compiled("lenet5", 2).run(timeout=300)
    assert ran.result["metrics"]["accuracy"] >= 0.97, ran.output


@pytest.mark.parametrize("ranks", [2, 3])
def test_a_step_does_not_depend_on_ranks(compiled: Compile, ranks: int) -> None:
    one, many = (compiled("lenet5", count).run("--steps", "5") for count in (1, ranks))
    assert many.result["loss"] == pytest.approx(one.result["loss"], rel=1e-5)


def test_first_weights_depend_on_seed_and_address_alone(compiled: Compile, tmp_path: Path) -> None:
    for ranks in (1, 2):
        assert compiled("lenet5", ranks).run("--steps", "0", "--save", str(tmp_path / f"{ranks}.npz")).status == 0
    one, two = (np.load(tmp_path / f"{ranks}.npz") for ranks in (1, 2))
    assert sorted(one.files) == sorted(two.files)
    assert one["c3.conv.weight"].shape == (16, 6, 5, 5)
    for name in one.files:
        np.testing.assert_array_equal(one[name], two[name])
    assert abs(one["f6.linear.weight"]).max() <= 120**-0.5  # U(±1/√fan_in), as PyTorch's


def test_weights_move_between_numbers_of_ranks(compiled: Compile, tmp_path: Path) -> None:
    saved, outputs = str(tmp_path / "w.npz"), [str(tmp_path / f"{ranks}.npz") for ranks in (1, 3)]
    assert compiled("lenet5", 2).run("--epochs", "1", "--save", saved).status == 0
    results = []
    for ranks, output in zip((1, 3), outputs, strict=True):
        ran = compiled("lenet5", ranks).run("--steps", "0", "--load", saved, "--predict", output)
        assert ran.status == 0, ran.output
        results.append(ran.result)
    assert results[0]["metrics"] == results[1]["metrics"]
    one, three = (np.load(output)["logits"] for output in outputs)
    assert one.shape == (359, 10)
    np.testing.assert_allclose(one, three, rtol=1e-4, atol=1e-5)


def test_weights_of_another_network_are_refused(compiled: Compile, tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", **{"c1.conv.weight": np.zeros((6, 1, 3, 3), np.float32)})
    ran = compiled("lenet5", 2).run("--load", str(tmp_path / "w.npz"))
    assert ran.status == 1
    assert "Traceback" not in ran.output
    assert "w.npz" in ran.output
