"""Programs on texts, tokens, several inputs and samples that are made up, on one rank and on two."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dlc.driver import Options, compile_spec, emit_files, read
from dlc.folders import write_folder
from tests.programs.conftest import SPECS, EmittedProgram

pytestmark = pytest.mark.mpi

TRAINED = "optimizer = adam\n  lr = constant(0.01)\n  epochs = 1\n}\n"

LETTERS = f"""dlspec 1
network letters {{
  input text: i32[batch = 33, seq = 16]
  logits = text -> embedding(70, 24) -> linear(32) -> tanh -> linear(70)
  output logits
}}
train letters {{
  data = DATA
  loss = cross_entropy(logits, data.next)
  metrics = accuracy(logits, data.next)
  {TRAINED}"""

TWO_INPUTS = f"""dlspec 1
network two {{
  input text: i32[batch = 21, seq = 5]
  input image: f32[batch = 21, channel = 1, height = 4, width = 4]
  words = text -> embedding(9, 6) -> flatten
  both = concat(words, (image -> flatten), axis = feature) -> linear(16) -> tanh
  logits = both -> linear(3)
  size = both -> linear(1)
  output logits, size
}}
train two {{
  data = DATA
  loss = cross_entropy(logits, data.label) + 0.1 * mse(size, data.size_wanted)
  metrics = accuracy(logits, data.label)
  {TRAINED}"""

Program = Callable[[str, str, int], EmittedProgram]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """program(spec, data set, ranks), compiled."""

    def make(spec: str, data: str, ranks: int) -> EmittedProgram:
        file, folder = tmp_path / "net.dlspec", tmp_path / f"program_{ranks}"
        file.write_text(spec.replace("DATA", data))
        write_folder(emit_files(compile_spec(read(str(file)), Options(ranks=ranks))), str(folder))
        return EmittedProgram(folder, ranks)

    return make


def same_on_two_ranks(program: Program, spec: str, data: str, root: Path) -> float:
    """The accuracy after an epoch; loss and metrics do not depend on the ranks."""
    one, two = (program(spec, data, ranks).run("--root", str(root)) for ranks in (1, 2))
    assert one.status == two.status == 0, one.output + two.output
    assert two.result["loss"] == pytest.approx(one.result["loss"], rel=1e-4)
    assert two.result["metrics"] == pytest.approx(one.result["metrics"], rel=1e-2)
    return float(two.result["metrics"]["accuracy"])


@pytest.mark.parametrize("last", ["drop", "keep"])
def test_a_text(program: Program, last: str) -> None:
    data = f'text("data/alice.txt", seq = 16, test = 0.1, last = {last})'
    assert same_on_two_ranks(program, LETTERS, data, SPECS) > 0.25


def test_tokens(program: Program, tmp_path: Path) -> None:
    np.save(tmp_path / "counting.npy", np.arange(20_000) % 70)
    assert same_on_two_ranks(program, LETTERS, 'tokens("counting.npy", seq = 16)', tmp_path) > 0.95
    np.save(tmp_path / "counting.npy", np.arange(2_000) % 71)
    ran = program(LETTERS, 'tokens("counting.npy", seq = 16)', 2).run("--root", str(tmp_path))
    assert ran.status == 1
    assert "counting.npy, row 4: `text` is 70, classes are 0 to 69" in ran.output


def test_a_text_of_more_characters_than_classes(program: Program, tmp_path: Path) -> None:
    (tmp_path / "later.txt").write_text("".join(chr(40 + i) for i in range(71)) * 20)
    compiled = program(LETTERS, 'text("later.txt", seq = 16)'.replace("later", "not_yet_there"), 2)
    (tmp_path / "later.txt").rename(tmp_path / "not_yet_there.txt")
    ran = compiled.run("--root", str(tmp_path))
    assert ran.status == 1
    assert "not_yet_there.txt has 71 distinct characters, the network has classes for 70" in ran.output


def test_synthetic_tokens(program: Program, tmp_path: Path) -> None:
    assert same_on_two_ranks(program, LETTERS, "synthetic(samples = 600, classes = 2)", tmp_path) > 0.1


def test_several_inputs(program: Program, tmp_path: Path) -> None:
    assert same_on_two_ranks(program, TWO_INPUTS, "synthetic(samples = 2000, classes = 3)", tmp_path) > 0.9
    rng = np.random.default_rng(0)
    text = rng.integers(0, 9, (900, 5))
    arrays = {
        "text": text,
        "image": rng.random((900, 1, 4, 4)),
        "label": (text[:, 0] // 3).astype(np.int64),
        "size_wanted": text.sum(axis=1, keepdims=True) / 40,
    }
    np.savez(tmp_path / "two.npz", **arrays)
    assert same_on_two_ranks(program, TWO_INPUTS.replace("epochs = 1", "epochs = 3"), 'npz("two.npz")', tmp_path) > 0.8
