"""`dlc export`: models that ONNX's checker takes, that its reference computes alike, and that come back the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from dlc import driver
from dlc.diagnostics import DiagnosticError
from dlc.frontends.onnx.counterparts import COUNTERPARTS
from dlc.frontends.onnx.exporting import export_model
from dlc.frontends.onnx.importing import import_model
from dlc.frontends.onnx.model import model_of
from dlc.ir.graph import Graph
from dlc.ops import LAYERS
from dlc.weights import first_weights
from passes.classes import fed_classes
from tests import networks
from tests.cli.conftest import Dlc
from tests.frontends.evaluate import evaluate, outputs
from tests.frontends.node_tests import expanded, without_batch
from tests.specs.reduced import REDUCED

SPECS = Path(__file__).resolve().parents[2] / "specs"
NETWORKS = (*networks.OPERATORS, *networks.BODIES)

Arrays = dict[str, np.ndarray]

MISTAKEN_REFERENCE = {"lrn", "alexnet", "googlenet"}
"""Networks that ONNX's reference evaluator gets wrong: its LRN counts samples where it should count channels."""

ONE_WAY = {"places of numbers"}
"""Networks that do not come back: a constant would be joined to values."""

WITHOUT_COUNTERPART = {"local_conv"}


def drawn(graph: Graph, seed: int = 0) -> tuple[Arrays, Arrays]:
    """Inputs, and weights that are none of the round numbers that some start with."""
    rng = np.random.default_rng(seed)
    weights = {name: _moved(rng, array) for name, array in first_weights(graph, seed).items()}
    classes = fed_classes(graph)
    inputs = {}
    for name in graph.inputs:
        type_ = graph.type(name)
        whole = type_.dtype.startswith("i")
        below = classes[name].count if whole else 0
        shape = type_.shape
        inputs[name] = rng.integers(0, below, shape, np.int32) if whole else rng.standard_normal(shape, np.float32)
    return inputs, weights


def _moved(rng: np.random.Generator, array: np.ndarray) -> np.ndarray:
    return (array + 0.05 * rng.standard_normal(array.shape)).astype(np.float32)


def exported(graph: Graph, weights: Arrays) -> onnx.ModelProto:
    proto = export_model(graph, weights, COUNTERPARTS)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def agree(name: str, graph: Graph) -> None:
    inputs, weights = drawn(graph)
    proto = exported(graph, weights)
    expected = outputs(graph, evaluate(graph, inputs, weights))
    if name not in MISTAKEN_REFERENCE:
        for value, found in zip(expected.values(), ReferenceEvaluator(proto).run(None, inputs), strict=True):
            near(found, value)
    if name in ONE_WAY:
        with pytest.raises(DiagnosticError, match="is constant"):
            import_model(model_of(proto, name, {"batch": graph.batch}), name, "net.dlspec")
        return
    imported = import_model(model_of(proto, name, {"batch": graph.batch}), name, "net.dlspec")
    again = expanded(imported)
    given = {imported.places[key]: array for key, array in inputs.items()}
    values = evaluate(again, given, imported.weights)
    for (output, value), result in zip(expected.items(), [value for _, value in again.outputs], strict=False):
        near(without_batch(values[result], imported.batches[output]), value)


def near(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-5 * max(1e-3, np.abs(expected).max())


def read(path: Path, **parameters: object) -> Graph:
    given = {key: str(value).replace("'", "") for key, value in parameters.items()}
    return driver.read(str(path), given).spec.jobs[0].graph


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in WITHOUT_COUNTERPART])
def test_each_operator(name: str, tmp_path: Path) -> None:
    path = tmp_path / "net.dlspec"
    path.write_text(networks.spec(name))
    agree(name, read(path))


@pytest.mark.parametrize("name", REDUCED)
def test_each_spec(name: str) -> None:
    parameters = {key: f'"{value}"' if key == "corpus" else value for key, value in REDUCED[name].items()}
    agree(name, read(SPECS / f"{name}.dlspec", **parameters))


def test_every_operator_has_a_counterpart_or_says_why() -> None:
    assert set(COUNTERPARTS) == {op.name for op in LAYERS}


def test_the_batch_is_open_and_names_are_kept(lenet: Path) -> None:
    graph = read(lenet)
    proto = exported(graph, drawn(graph)[1])
    (image,), (logits,) = proto.graph.input, proto.graph.output
    assert [axis.dim_param or axis.dim_value for axis in image.type.tensor_type.shape.dim] == ["batch", 1, 32, 32]
    assert (image.name, logits.name) == ("image", "logits")
    assert [node.name for node in proto.graph.node][:2] == ["c1.conv", "c1.tanh"]
    assert {tensor.name for tensor in proto.graph.initializer} >= {"c1.conv.weight", "f6.linear.bias"}
    weights = drawn(graph)[1]
    for count in (1, 3):
        (found,) = ReferenceEvaluator(proto).run(None, {"image": np.ones((count, 1, 32, 32), np.float32)})
        assert found.shape == (count, 10)
    assert weights["c1.conv.weight"].shape == (6, 1, 5, 5)


# --- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def lenet() -> Path:
    return SPECS / "lenet5.dlspec"


def test_first_weights_are_those_of_the_program(dlc: Dlc, lenet: Path, tmp_path: Path) -> None:
    assert dlc("export", lenet, "-o", tmp_path / "net.onnx").status == 0
    assert dlc("run", lenet, "-n", 1, "--steps", 0, "--save", tmp_path / "first.npz").status == 0
    held = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(tmp_path / "net.onnx").graph.initializer}
    first = np.load(tmp_path / "first.npz")
    assert all(np.array_equal(held[name], array) for name, array in first.items())


def test_weights_of_a_file(dlc: Dlc, lenet: Path, tmp_path: Path) -> None:
    graph = read(lenet)
    _, weights = drawn(graph)
    np.savez(tmp_path / "w.npz", **weights)
    said = dlc("export", lenet, "--load", tmp_path / "w.npz", "-o", tmp_path / "net.onnx", "--json")
    assert said.status == 0
    assert said.document["nodes"] == 12
    held = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(tmp_path / "net.onnx").graph.initializer}
    assert all(np.array_equal(held[name], array) for name, array in weights.items())


def test_weights_of_another_network_are_refused(dlc: Dlc, lenet: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", other=np.zeros(3))
    said = dlc("export", lenet, "--load", tmp_path / "w.npz", "-o", tmp_path / "net.onnx")
    assert said.status == 1
    assert "error[E0716]" in said.err
    assert "`other`" in said.err
    assert not (tmp_path / "net.onnx").exists()


def test_ops_without_a_counterpart_are_named(dlc: Dlc, tmp_path: Path) -> None:
    text = """dlspec 1
network net {
  input image: f32[batch = 2, channel = 2, height = 6, width = 6]
  a = image -> local_conv(3, 3x3) -> lrn(size = 4) -> local_conv(2, 2x2)
  output a
}
"""
    (tmp_path / "net.dlspec").write_text(text)
    said = dlc("export", tmp_path / "net.dlspec", "-o", tmp_path / "net.onnx")
    assert said.status == 1
    assert said.err.count("error[E0805]") == 3
    assert "op `a.local_conv` (`local_conv`) cannot be exported: ONNX has no convolution whose weights" in said.err
    assert "op `a.lrn` (`lrn`) cannot be exported: its window of 4 channels" in said.err
    assert "4 |   a = image -> local_conv(3, 3x3)" in said.err


def test_the_network_must_be_settled(dlc: Dlc, tmp_path: Path) -> None:
    one = "network {} {{\n  input x: f32[batch = 2, feature = 3]\n  y = x -> linear(2)\n  output y\n}}\n"
    (tmp_path / "net.dlspec").write_text("dlspec 1\n" + one.format("first") + one.format("second"))
    said = dlc("export", tmp_path / "net.dlspec", "-o", tmp_path / "net.onnx")
    assert said.status == 1
    assert "error[E0806]" in said.err
    assert "its networks: `first`, `second`" in said.err


def test_outputs_that_no_op_computes(tmp_path: Path) -> None:
    text = """dlspec 1
network net {
  input x: f32[batch = 2, feature = 3]
  w = parameter([3], value = 2)
  y = x * w
  z = y
  output x, w, y, z
}
"""
    (tmp_path / "net.dlspec").write_text(text)
    graph = read(tmp_path / "net.dlspec")
    proto = exported(graph, first_weights(graph, 0))
    x = np.ones((2, 3), np.float32)
    found = ReferenceEvaluator(proto).run(None, {"x": x})
    assert [value.name for value in proto.graph.output] == ["x.output", "w", "y", "z"]
    for array, expected in zip(found, [x, [2, 2, 2], 2 * x, 2 * x], strict=True):
        np.testing.assert_array_equal(array, expected)


def test_a_network_of_an_op_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "net.dlspec").write_text(networks.spec("relu"))
    graph = read(tmp_path / "net.dlspec")
    with pytest.raises(DiagnosticError, match="E0805"):
        export_model(graph, first_weights(graph, 0), {})
