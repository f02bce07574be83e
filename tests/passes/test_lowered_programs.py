"""Programs of odd networks, run: their gradients are those of their loss, and ranks and layouts change nothing."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlc.driver import Compiled, Options, compile_job, context_of, emit_files, read
from dlc.folders import write_folder
from dlc.launch import command_line
from dlc.verification import compare, verify, without_rounding
from tests.passes.conftest import CompileNetwork, job
from tests.slices import first

Arrays = dict[str, np.ndarray[Any, Any]]

NETWORKS = {
    "a single pixel": """input x: f32[6, channel = 3, height = 1, width = 1]
      y = x -> conv(4, 1x1) -> bn -> tanh -> flatten -> linear(3)
      output y""",
    "a linear map": """input x: f32[5, feature = 7]
      y = x -> linear(3)
      output y""",
    "no convolution": """input x: f32[7, feature = 7]
      y = x -> linear(9) -> bn(group = 4) -> tanh -> dropout(0.5) -> linear(3)
      output y""",
    "a group larger than the batch": """input x: f32[3, channel = 1, height = 6, width = 5]
      y = x -> conv(4, 3x3) -> bn(group = 32) -> sigmoid -> flatten -> linear(3)
      output y""",
    "several outputs": """input x: f32[5, channel = 2, height = 6, width = 6]
      c = x -> conv(4, 3x3, pad = 1) -> tanh
      y = c -> flatten -> linear(3)
      z = c -> conv(2, 1x1) -> sigmoid
      output y, z, x""",
    "pools with pads and ceilings": """input x: f32[5, channel = 2, height = 7, width = 6]
      c = x -> conv(4, 3x3, pad = 1) -> avgpool(3x3, stride = 2, pad = 1, ceil = yes)
      d = x -> conv(4, 3x3, pad = 1) -> avgpool(3x3, stride = 2, pad = 1, ceil = yes, count_pad = no)
      e = x -> conv(4, 3x3, pad = 1) -> maxpool(3x2, stride = 2x3, pad = 1x0, ceil = yes)
      y = concat(c -> flatten, d -> flatten, e -> flatten, axis = feature) -> linear(3)
      output y""",
    "even windows and strides": """input x: f32[5, channel = 2, height = 6, width = 6]
      y = x -> conv(4, 2x4, pad = same) -> tanh -> conv(3, 4x2, pad = same, stride = 3) -> flatten -> linear(3)
      output y""",
    "groups and dilation": """input x: f32[5, channel = 4, height = 9, width = 7]
      a = x -> conv(8, 3x3, pad = same, groups = 2, dilation = 2) -> tanh
      b = a -> conv(8, 3x3, stride = 3, groups = 8, bias = no) -> tanh
      y = b -> conv(4, 3x1, groups = 4) -> flatten -> linear(3)
      output y""",
    "dropout in front of views": """input x: f32[5, channel = 4, height = 4, width = 4]
      a = x -> conv(4, 3x3, pad = same) -> dropout(0.3) -> dropout(0.2)
      b = a -> flatten -> dropout(0.3)
      y = b -> linear(3) -> dropout(0.1)
      output y, b, a""",
    "values joined and added to themselves": """input x: f32[5, channel = 2, height = 4, width = 4]
      a = x -> conv(4, 3x3, pad = same)
      b = concat(a, a, a, axis = channel) + concat(a, a, a, axis = channel)
      c = a + a
      y = concat(b, c) -> conv(2, 3x3) -> flatten -> linear(3)
      output y""",
    "tied weights": """input x: f32[5, feature = 4]
      a = x -> linear(4)
      b = a -> tanh -> linear(4, tied = a.linear.weight)
      y = b -> linear(3)
      w = b -> linear(3, tied = y.linear.weight)
      v = w -> tanh -> linear(4, tied = transpose(y.linear.weight))
      output y, w, v""",
    "parts for nothing, for one use and for two": """input x: f32[5, channel = 2, height = 5, width = 4]
      a, b, c, d = x -> conv(8, 3x3, pad = same) -> tanh -> split([1, 2, 2, 3])
      e, f = d -> split([2, 1])
      y = concat(b + c, b * c, f) -> flatten -> linear(3)
      output y, a, e""",
    "images cut, padded and turned": """input x: f32[5, channel = 3, height = 5, width = 4]
      a = x -> conv(4, 3x3) -> slice(height, step = -2) -> pad(1x2, mode = edge)
      b = a -> pad([[0, 1], [2, 0]], mode = reflect) -> transpose(order = [width, height, channel])
      c = b -> slice(channel, start = 1, stop = -1) -> pad([1, 0], axis = channel)
      d = c -> transpose(order = [channel, height, width])
      y = d * (d -> global_avgpool) - d / 2 -> conv(2, 3x3) -> flatten -> linear(3)
      output y""",
    "weights without a batch": """input x: f32[5, seq = 4, width = 3]
      p = parameter([4, 3], value = 0.5)
      a = (x + p) * parameter([3], axes = width, value = 2) - p / (x * x + 1)
      b = a @ transpose(p) -> log_softmax
      c = parameter([2, 4], axes = [row, seq], value = 0.3) @ a
      y = concat(b -> flatten, c -> flatten, axis = feature) -> linear(3)
      output y""",
    "a branch for nothing": """input x: f32[5, feature = 4]
      a = x -> linear(4)
      side = a -> tanh -> linear(2)
      y = a -> linear(3)
      output y, side""",
    "a vector made an image": """input x: f32[5, feature = 16]
      a = x -> linear(32) -> reshape([2, 4, 4]) -> conv(3, 3x3) -> flatten
      y = a -> linear(3)
      output y""",
    "softmax over channels": """input x: f32[5, channel = 3, height = 4, width = 4]
      y = x -> conv(2, 3x3) -> softmax(axis = channel) -> softmax -> flatten -> softmax -> linear(3)
      output y""",
    "batch norms in a row": """input x: f32[6, channel = 3, height = 8, width = 8]
      a = x -> bn(group = 4) -> conv(2, 3x3) -> bn(group = 4) -> maxpool(2x2) -> bn(group = 2)
      y = a -> flatten -> bn -> linear(3)
      output y""",
    "arithmetic": """input x: f32[5, feature = 4]
      a = x -> linear(3)
      b = x -> linear(3) -> sigmoid
      y = 2 - a * b / (b + 1) -> linear(3)
      output y""",
}


class Program:
    """An emitted program in a folder of its own."""

    def __init__(self, compiled: Compiled, folder: Path) -> None:
        self.folder, self.ranks = folder, compiled.plan.ranks
        write_folder(emit_files(compiled), str(folder / "program"))

    def run(self, *arguments: str) -> dict[str, Any]:
        """The JSON object on its last line."""
        command, environment = command_line(str(self.folder / "program"), self.ranks, [*arguments, "--json"])
        done = subprocess.run(
            command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=90, check=False
        )
        assert done.returncode == 0, done.stderr
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return result

    def step(self, *arguments: str) -> Arrays:
        """State before the first step, its loss and gradients, and the state after it."""
        record = self.folder / f"record{len(list(self.folder.iterdir()))}"
        record.mkdir()
        self.run("--steps", "1", "--record", str(record), *arguments)
        with np.load(record / "step000000.npz", allow_pickle=False) as found:
            return {name: found[name] for name in found.files}


def distance(one: Arrays, other: Arrays, name: str) -> float:
    return float(np.linalg.norm(one[name] - other[name]) / max(np.linalg.norm(other[name]), 1e-12))


@pytest.mark.parametrize("name", first(8, NETWORKS))
def test_gradients_are_the_slope_of_the_loss(compiled: CompileNetwork, tmp_path: Path, name: str) -> None:
    """(loss(w + εd) - loss(w - εd)) / 2ε = g·d for a direction d over all weights at once."""
    program = Program(compiled(NETWORKS[name], ranks=1, precision="f64"), tmp_path / "net")
    program.run("--steps", "0", "--save", str(tmp_path / "w.npz"))
    with np.load(tmp_path / "w.npz") as saved:
        weights = {address: saved[address] for address in saved.files}
    base = program.step()
    gradients = {n.removeprefix("g."): array for n, array in base.items() if n.startswith("g.")}
    named = {address: "_".join(address.rsplit(".", 1)) for address in weights}
    trained = {address: short for address, short in named.items() if short in gradients}
    assert len(trained) == len(gradients)
    rng, epsilon = np.random.default_rng(1), 1e-5
    direction = {address: rng.standard_normal(weights[address].shape) for address in trained}
    losses = []
    for sign in (1, -1):
        moved = weights | {address: weights[address] + sign * epsilon * d for address, d in direction.items()}
        np.savez(tmp_path / "moved.npz", **moved)
        losses.append(float(program.step("--load", str(tmp_path / "moved.npz"))["loss"]))
    slope = sum(float(np.sum(gradients[short] * direction[address])) for address, short in trained.items())
    assert (losses[0] - losses[1]) / (2 * epsilon) == pytest.approx(slope, rel=1e-6, abs=1e-8)


def source(tmp_path: Path, name: str, data: str = "synthetic(samples = 40, classes = 3)") -> str:
    path = tmp_path / "net.dlspec"
    path.write_text(job(NETWORKS[name], data=data, optimizer="sgd(momentum = 0.9)"), encoding="utf-8")
    return str(path)


@pytest.mark.mpi
@pytest.mark.parametrize("name", first(8, reversed(NETWORKS)))
def test_three_ranks_are_the_serial_program_bit_by_bit(tmp_path: Path, name: str) -> None:
    found = read(source(tmp_path, name))
    task, context = context_of(found, Options(ranks=3, exact=True))
    many = compile_job(found, task, without_rounding(context, task.graph), Options(exact=True))
    verdict = compare(many, emit_files(many), name, steps=1)
    assert verdict.passed, verdict
    assert verdict.bound == 0


SLICE = ("even windows and strides", "batch norms in a row", "tied weights", "several outputs")


@pytest.mark.mpi
@pytest.mark.parametrize(
    "name", [name if name in SLICE else pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS]
)
def test_two_ranks_are_the_serial_program_up_to_rounding(tmp_path: Path, name: str) -> None:
    """Without the exact mode's stand-ins: all algorithms, means and rates are the real ones."""
    found = read(source(tmp_path, name))
    task, context = context_of(found, Options(ranks=2, precision="f64"))
    many = compile_job(found, task, context, Options())
    verdict = compare(many, emit_files(many), name, steps=2)
    assert verdict.passed, verdict


@pytest.mark.slow
@pytest.mark.mpi
@pytest.mark.parametrize("name", NETWORKS)
def test_optimizers_and_clipping_do_not_see_the_ranks(tmp_path: Path, name: str) -> None:
    for verdict in verify(read(source(tmp_path, name)), Options(precision="f64"), (2, 3), steps=3):
        assert verdict.passed, verdict


ALGORITHMS = ("direct", "im2col", "winograd(2)", "winograd(4)", "fft", "fft_tiled")
CONVOLUTIONS = """input x: f32[3, channel = 4, height = 7, width = 9]
  c = x -> conv(6, 3x3, pad = same) -> tanh
  d = c -> conv(4, 3x3, pad = 1x0, groups = 2) -> tanh
  y = d -> flatten -> linear(3)
  output y"""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Arrays:
    """A step of the convolutions by im2col in NCHW."""
    folder = tmp_path_factory.mktemp("plain")
    (folder / "net.dlspec").write_text(job(CONVOLUTIONS, pinned("im2col", "NCHW")), encoding="utf-8")
    found = read(str(folder / "net.dlspec"))
    task, context = context_of(found, Options(ranks=1, precision="f64"))
    return Program(compile_job(found, task, context, Options()), folder / "net").step()


def pinned(algorithm: str, layout: str) -> str:
    return f"pin **.conv {{ algorithm = {algorithm} }}\n  pin ** {{ layout = {layout} }}"


@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "CHWN"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_algorithms_and_layouts_change_nothing(
    compiled: CompileNetwork, tmp_path: Path, plain: Arrays, algorithm: str, layout: str
) -> None:
    made = compiled(CONVOLUTIONS, pinned(algorithm, layout), ranks=1, precision="f64")
    assert {part.algorithm for part in made.plan.op("c.conv").passes} == {algorithm}
    step = Program(made, tmp_path / "net").step()
    assert step.keys() == plain.keys()
    assert max(distance(step, plain, name) for name in plain) < 1e-11


@pytest.mark.mpi
@pytest.mark.parametrize("name", ["dropout in front of views", "several outputs", "batch norms in a row"])
def test_predictions_do_not_depend_on_ranks(compiled: CompileNetwork, tmp_path: Path, name: str) -> None:
    """Each rank count predicts 40 samples in batches, the last one partial; images come in logical order."""
    found = []
    for ranks in (1, 3):
        out = tmp_path / f"{ranks}.npz"
        made = compiled(
            NETWORKS[name], ranks=ranks, precision="f64", data="synthetic(samples = 40, classes = 3, test = 0)"
        )
        Program(made, tmp_path / f"net{ranks}").run("--steps", "0", "--predict", str(out))
        with np.load(out) as outputs:
            found.append({key: outputs[key] for key in outputs.files})
    one, three = found
    assert list(one) == list(three)
    for key, array in one.items():
        assert array.shape[0] == 40
        np.testing.assert_allclose(three[key], array, rtol=1e-12, atol=1e-14)


@pytest.mark.mpi
@pytest.mark.parametrize("name", ["batch norms in a row", "no convolution", "a linear map"])
def test_a_last_partial_batch_does_not_see_the_ranks(compiled: CompileNetwork, tmp_path: Path, name: str) -> None:
    """`last = keep`: its shards begin anywhere, in the middle of a group too, and some ranks have no sample of it."""
    data = "synthetic(samples = 40, classes = 3, test = 0.2, last = keep)"
    results = [
        Program(compiled(NETWORKS[name], ranks=ranks, precision="f64", data=data), tmp_path / f"net{ranks}").run()
        for ranks in (1, 2, 3)
    ]
    assert len({result["steps"] for result in results}) == 1
    for result in results[1:]:
        assert result["loss"] == pytest.approx(results[0]["loss"], rel=1e-10)
        assert result["metrics"] == results[0]["metrics"]
