"""Outputs of trained weights: nothing is trained, every sample has its row, on any number of ranks."""

from pathlib import Path

import numpy as np
import pytest

from dlc.driver import Options, emit_files, plan_spec, read
from dlc.folders import write_folder
from tests.programs.conftest import SPECS, Compile, EmittedProgram, Ran

pytestmark = pytest.mark.mpi

IMAGES = np.random.default_rng(3).random((65, 1, 32, 32)).astype(np.float32)


@pytest.fixture(scope="module")
def weights(compiled: Compile, tmp_path_factory: pytest.TempPathFactory) -> str:
    """LeNet-5 after a few steps."""
    path = str(tmp_path_factory.mktemp("weights") / "w.npz")
    assert compiled("lenet5", 1).run("--steps", "20", "--save", path).status == 0
    return path


def outputs(program: EmittedProgram, weights: str, folder: Path, **samples: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    """The logits that a program predicts for these samples, or for the test set where there are none."""
    np.savez(folder / "in.npz", **samples)  # type: ignore[arg-type]
    words = ["--input", str(folder / "in.npz")] if samples else []
    ran = program.run("--load", weights, "--predict", str(folder / "out.npz"), *words)
    assert ran.status == 0, ran.output
    assert ran.result["steps"] == 0
    with np.load(folder / "out.npz") as found:
        assert found.files == ["logits"]
        return np.asarray(found["logits"])


def test_given_weights_are_not_trained(compiled: Compile, weights: str, tmp_path: Path) -> None:
    predicting = ("--load", weights, "--predict", str(tmp_path / "out.npz"), "--save")
    for words, changed in (([], False), (["--steps", "2"], True), (["--epochs", "1"], True)):
        ran = compiled("lenet5", 2).run(*predicting, str(tmp_path / "w.npz"), *words)
        assert ran.status == 0, ran.output
        assert (ran.result["steps"] > 0) == changed
        with np.load(weights) as before, np.load(tmp_path / "w.npz") as after:
            assert any(not np.array_equal(before[name], after[name]) for name in before.files) == changed
    assert compiled("lenet5", 1).run("--steps", "0", "--predict", str(tmp_path / "out.npz")).status == 0


def test_the_test_set_is_evaluated_too(compiled: Compile, weights: str, tmp_path: Path) -> None:
    ran = compiled("lenet5", 2).run("--load", weights, "--predict", str(tmp_path / "out.npz"))
    evaluated = compiled("lenet5", 2).run("--load", weights, "--steps", "0")
    assert ran.result["metrics"] == evaluated.result["metrics"]
    assert ran.result["loss"] == evaluated.result["loss"]
    assert np.load(tmp_path / "out.npz")["logits"].shape == (359, 10)


@pytest.mark.parametrize("count", [1, 31, 33, 65])  # of batches of 32: on 3 ranks, some have no sample
def test_own_samples_on_any_ranks(compiled: Compile, weights: str, tmp_path: Path, count: int) -> None:
    alone, two, three = (
        outputs(compiled("lenet5", ranks), weights, tmp_path, image=IMAGES[:count]) for ranks in (1, 2, 3)
    )
    assert alone.shape == (count, 10)
    for found in (two, three):
        np.testing.assert_allclose(found, alone, rtol=1e-4, atol=1e-5)


def test_rows_are_those_of_the_samples(compiled: Compile, weights: str, tmp_path: Path) -> None:
    found = outputs(compiled("lenet5", 2), weights, tmp_path, image=IMAGES)
    turned = outputs(compiled("lenet5", 2), weights, tmp_path, image=IMAGES[::-1].astype(np.float64))
    np.testing.assert_allclose(turned, found[::-1], rtol=1e-4, atol=1e-5)
    assert len(np.unique(found[:, 0])) == len(found)


def test_outputs_that_ranks_have_parts_of(compiled: Compile, weights: str, tmp_path: Path) -> None:
    """Each of two ranks has half of the logits of all samples: what is written is whole."""
    text = (SPECS / "lenet5.dlspec").read_text(encoding="utf-8").partition("plan ")[0]
    pin = "pin logits.linear { partition = split(feature, over = core) }"
    (tmp_path / "parts.dlspec").write_text(f"{text}plan lenet5 on laptop {{\n  strategy = model\n  {pin}\n}}\n")
    made = plan_spec(read(str(tmp_path / "parts.dlspec")), Options(ranks=2))
    ((_, name),) = made.program.outputs
    assert made.program.roles[0].buffer(name).placement == ("feature",)
    write_folder(emit_files(made), str(tmp_path / "program"))
    parts = outputs(EmittedProgram(tmp_path / "program", 2), weights, tmp_path, image=IMAGES)
    alone = outputs(compiled("lenet5", 1), weights, tmp_path, image=IMAGES)
    np.testing.assert_allclose(parts, alone, rtol=1e-4, atol=1e-5)


def refused(ran: Ran, status: int, message: str) -> None:
    assert ran.status == status
    assert message in ran.output
    assert "Traceback" not in ran.output


def test_samples_that_do_not_fit(compiled: Compile, weights: str, tmp_path: Path) -> None:
    program, file = compiled("lenet5", 2), str(tmp_path / "in.npz")
    predicting = ("--load", weights, "--predict", str(tmp_path / "out.npz"), "--input", file)
    refused(program.run(*predicting), 1, f"there is no file `{file}`")
    np.savez(file, pictures=IMAGES)
    refused(program.run(*predicting), 1, "in.npz: has no array `image`, it has pictures")
    np.savez(file, image=IMAGES[:, :, 2:, 2:])
    refused(program.run(*predicting), 1, "in.npz has `image` of shape 1x30x30, the network takes 1x32x32")
    refused(program.run("--input", file), 2, "--input goes with --predict")
    refused(program.run("--load", file, "--predict", "out.npz"), 1, "are not those of this network")
    assert not (tmp_path / "out.npz").exists()


def test_weights_as_safetensors(compiled: Compile, weights: str, tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    path = str(tmp_path / "w.safetensors")
    assert compiled("lenet5", 2).run("--load", weights, "--steps", "0", "--save", path).status == 0
    same = outputs(compiled("lenet5", 2), path, tmp_path, image=IMAGES)
    assert np.array_equal(same, outputs(compiled("lenet5", 2), weights, tmp_path, image=IMAGES))
    (tmp_path / "w.safetensors").write_bytes(b"no tensors")
    refused(compiled("lenet5", 2).run("--load", path), 1, "cannot be read as weights: it is damaged, or no safetensors")


@pytest.mark.oracle
def test_lenet_saved_by_pytorch(compiled: Compile, tmp_path: Path) -> None:
    """A module whose parts are named as in the spec has the names and shapes that dlc gives its weights."""
    torch = pytest.importorskip("torch")
    saving = pytest.importorskip("safetensors.torch")
    nn = torch.nn
    torch.manual_seed(1)
    parts = {"c1.conv": (1, 6), "c3.conv": (6, 16), "c5.conv": (16, 120)}
    net = nn.ModuleDict({name[:2]: nn.ModuleDict({"conv": nn.Conv2d(*size, 5)}) for name, size in parts.items()})
    net["f6"] = nn.ModuleDict({"linear": nn.Linear(120, 84)})
    net["logits"] = nn.ModuleDict({"linear": nn.Linear(84, 10)})
    saving.save_file(net.state_dict(), str(tmp_path / "w.safetensors"))
    x = torch.from_numpy(IMAGES)
    for name in ("c1", "c3"):
        x = nn.functional.avg_pool2d(torch.tanh(net[name]["conv"](x)), 2)
    x = torch.tanh(net["c5"]["conv"](x)).flatten(1)
    expected = net["logits"]["linear"](torch.tanh(net["f6"]["linear"](x))).detach().numpy()
    found = outputs(compiled("lenet5", 2), str(tmp_path / "w.safetensors"), tmp_path, image=IMAGES)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
