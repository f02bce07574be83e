"""ONNX's tests of optimizers and gradients, by dlc's update rules and by programs that dlc emits.

ONNX names things otherwise, and places some: its Momentum weighs the gradient by `beta`, but for the first step; Adam's
epsilon stands before the correction of the bias, and there is no correction in step 0. The adapters say how dlc's rules
are called for that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from backends.numpy_mpi.kernels.update import adagrad_update, adam_update, sgd_update
from dlc import cli
from dlc.frontends.onnx.importing import import_model
from dlc.frontends.onnx.model import model_of
from tests.frontends.node_tests import node_tests

Array = np.ndarray
OPTIMIZERS = ("Momentum", "Adagrad", "Adam")
LATE = 10**9
"""A step at which no correction of a bias is left."""


@dataclass(frozen=True)
class Update:
    """One weight of a test: rate and number of the step, then weight, gradient and states."""

    rate: float
    step: int
    arrays: tuple[Array, ...]
    attributes: dict[str, Any]

    @property
    def decay(self) -> float:
        return float(self.attributes["norm_coefficient"])


def momentum(update: Update) -> list[Array]:
    """v = αv + βg with β = 1 at first: as sgd with the velocity v/β at the rate β·r."""
    x, g, v = update.arrays
    beta = update.attributes["beta"] if update.step > 0 else 1.0
    nesterov = update.attributes["mode"] == b"nesterov"
    assert not nesterov or beta == 1
    velocity = v / np.float32(beta)
    alpha = update.attributes["alpha"]
    sgd_update(x, g, velocity, lr=update.rate * beta, momentum=alpha, nesterov=nesterov, weight_decay=update.decay)
    return [x, velocity * np.float32(beta)]


def adagrad(update: Update) -> list[Array]:
    """The rate decays by the step: a schedule in dlc."""
    x, g, squares = update.arrays
    rate = update.rate / (1 + update.step * update.attributes["decay_factor"])
    adagrad_update(x, g, squares, lr=rate, eps=update.attributes["epsilon"], weight_decay=update.decay)
    return [x, squares]


def adam(update: Update) -> list[Array]:
    """ε beside √h, not beside the corrected one, which is √(1 − βᵗ) times smaller."""
    x, g, mean, square_mean = update.arrays
    betas = {"beta1": update.attributes["alpha"], "beta2": update.attributes["beta"]}
    step = update.step - 1 if update.step else LATE
    eps = update.attributes["epsilon"] / np.sqrt(1 - betas["beta2"] ** (step + 1))
    adam_update(x, g, mean, square_mean, lr=update.rate, step=step, eps=eps, weight_decay=update.decay, **betas)
    return [x, mean, square_mean]


RULES: dict[str, Callable[[Update], list[Array]]] = {"Momentum": momentum, "Adagrad": adagrad, "Adam": adam}


def updates(test: Any) -> Iterator[Update]:
    """The weights of a test: inputs are rate, step, all weights, all gradients, and all states of each kind."""
    (node,) = test.model.graph.node
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    rate, step, *arrays = test.data_sets[0][0]
    count = len(node.output) // (2 + (node.op_type == "Adam"))
    for weight in range(count):
        yield Update(float(rate), int(step), tuple(array.copy() for array in arrays[weight::count]), attributes)


@cache
def of_optimizers() -> dict[str, Any]:
    """Name -> test of an optimizer; ONNX takes seconds to make its tests."""
    found = (test for test in node_tests() if test.model.graph.node[0].op_type in OPTIMIZERS)
    return {test.name.removeprefix("test_"): test for test in found}


NAMES = (
    "adagrad",
    "adagrad_multiple",
    "adam",
    "adam_multiple",
    "momentum",
    "momentum_multiple",
    "nesterov_momentum",
)


def test_all_are_there() -> None:
    assert sorted(of_optimizers()) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_optimizers(name: str) -> None:
    test = of_optimizers()[name]
    rule = RULES[test.model.graph.node[0].op_type]
    results = [rule(update) for update in updates(test)]
    found = [array for kind in zip(*results, strict=True) for array in kind]
    for array, expected in zip(found, test.data_sets[0][1], strict=True):
        np.testing.assert_allclose(array, expected, rtol=test.rtol, atol=test.atol)


# --- gradients ---

GRADIENTS = ("test_gradient_of_add", "test_gradient_of_add_and_mul")
DATA = Path(onnx.__file__).parent / "backend/test/data/simple"

TRAIN = """
train {network} {{
  data      = npz("data.npz", test = 0)
  loss      = 2 * l1({output}, data.target)
  optimizer = sgd
  lr        = constant(1)
  steps     = 1
}}
"""
"""The derivative of the loss by each of two outputs is 1, and a step takes it off each weight."""


@pytest.mark.mpi
@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients(name: str, tmp_path: Path) -> None:
    """ONNX asks for gradients by inputs, dlc makes those by weights: an input is one times a weight of two elements."""
    proto = onnx.load(DATA / name / "model.onnx")
    given = [numpy_helper.to_array(_tensor(DATA / name / f"test_data_set_0/input_{i}.pb")) for i in range(2)]
    expected = [numpy_helper.to_array(_tensor(DATA / name / f"test_data_set_0/output_{i}.pb")) for i in range(3)]
    value, *derivatives = expected
    imported = import_model(model_of(by_weights(proto, given), name, {}), name, "net.dlspec")
    text = imported.text.partition("\ntrain ")[0]
    output = imported.places[proto.graph.output[0].name]
    (tmp_path / "net.dlspec").write_text(text + TRAIN.format(network=imported.network, output=output))
    np.savez(tmp_path / "before.npz", **imported.weights)
    np.savez(tmp_path / "data.npz", one=np.ones((1, 2), np.float32), target=np.full((1, 2), -100, np.float32))
    spec, before, after = (str(tmp_path / file) for file in ("net.dlspec", "before.npz", "after.npz"))
    assert cli.main(["run", spec, "-n", "1", "--load", before, "--steps", "1", "--save", after]) == 0
    moved = np.load(after)
    for weight, derivative in zip(imported.weights, derivatives, strict=True):
        np.testing.assert_allclose(imported.weights[weight] - moved[weight], np.full(2, derivative), rtol=1e-6)
    predicted = str(tmp_path / "out.npz")
    assert cli.main(["run", spec, "-n", "1", "--load", before, "--predict", predicted]) == 0
    np.testing.assert_allclose(np.load(predicted)[output], np.full((1, 2), value), rtol=1e-6)


def by_weights(proto: onnx.ModelProto, given: list[Array]) -> onnx.ModelProto:
    """The model without its Gradient node, its inputs as weights times an input `one` of shape [1, 2]."""
    graph = proto.graph
    nodes = [node for node in graph.node if node.op_type != "Gradient"]
    names = [value.name for value in graph.input]
    scaled = [onnx.helper.make_node("Mul", ["one", f"{name}_weight"], [name]) for name in names]
    weights = [
        numpy_helper.from_array(np.full(2, array, np.float32), f"{name}_weight")
        for name, array in zip(names, given, strict=True)
    ]
    made = onnx.helper.make_graph(
        [*scaled, *nodes],
        "gradient",
        [onnx.helper.make_tensor_value_info("one", onnx.TensorProto.FLOAT, (1, 2))],
        [onnx.helper.make_empty_tensor_value_info(graph.output[0].name)],
        weights,
    )
    return onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 17)])


def _tensor(path: Path) -> onnx.TensorProto:
    tensor = onnx.TensorProto()
    tensor.ParseFromString(path.read_bytes())
    return tensor
