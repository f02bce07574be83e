"""`dlc import`: names, weights, folded shapes, and what is said of models that cannot be imported."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from dlc import driver
from dlc.diagnostics import DiagnosticError
from dlc.frontends.onnx.importing import import_file
from dlc.frontends.onnx.names import Names
from tests.cli.conftest import Dlc
from tests.frontends.evaluate import evaluate, outputs
from tests.frontends.models import convnet, model, node, normal, save

CONVNET = """\
dlspec 1
# From the ONNX model net. Its weights are in the .npz file of this file's name.
# The train block is made up: data, loss and optimizer are yours to choose.
param batch = 32

network net {
  input image: f32[batch, channel = 3, height = 8, width = 8]
  conv_Conv     = image     -> conv(4, 3x3, pad = 1)
  bn_Bn         = conv_Conv -> bn
  relu_Relu     = bn_Bn     -> relu
  pool_Pool     = relu_Relu -> maxpool(2x2)
  Reshape       = pool_Pool -> flatten
  fc_Gemm       = Reshape   -> linear(10)
  probabilities = fc_Gemm   -> softmax
  output probabilities, fc_Gemm
}

train net {
  data      = synthetic(samples = 8 * batch, classes = 10)
  loss      = cross_entropy(fc_Gemm, data.label)
  optimizer = sgd(momentum = 0.9)
  lr        = constant(0.001)
  epochs    = 1
}
"""


def imported(proto: onnx.ModelProto, folder: Path, **extents: int) -> tuple[str, dict[str, np.ndarray]]:
    found = import_file(str(save(proto, folder)), extents, "net.dlspec")
    return found.text, dict(found.weights)


def codes(path: Path, **extents: int) -> list[str]:
    with pytest.raises(DiagnosticError) as failure:
        import_file(str(path), extents, "net.dlspec")
    return [f"{diagnostic.code}: {diagnostic.message}" for diagnostic in failure.value.diagnostics]


def run(proto: onnx.ModelProto, folder: Path, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs of an imported model, by the kernels of dlc."""
    text, weights = imported(proto, folder)
    (folder / "net.dlspec").write_text(text)
    graph = driver.read(str(folder / "net.dlspec")).spec.jobs[0].graph
    found = outputs(graph, evaluate(graph, inputs, weights))
    return list(found.values())[: len(proto.graph.output)]


def agrees(proto: onnx.ModelProto, folder: Path, **inputs: np.ndarray) -> str:
    """Check an imported model against ONNX's reference; its text."""
    expected = ReferenceEvaluator(proto).run(None, inputs)
    for found, wanted in zip(run(proto, folder, inputs), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    return (folder / "net.dlspec").read_text()


def test_a_convolutional_network_is_readable(tmp_path: Path) -> None:
    text, weights = imported(convnet(), tmp_path)
    assert text == CONVNET
    assert list(weights) == [
        *("conv_Conv.conv.weight", "conv_Conv.conv.bias"),
        *("bn_Bn.bn.scale", "bn_Bn.bn.shift", "bn_Bn.bn.mean", "bn_Bn.bn.variance"),
        *("fc_Gemm.linear.weight", "fc_Gemm.linear.bias"),
    ]


def test_its_outputs_are_the_model_s(tmp_path: Path) -> None:
    agrees(convnet(32), tmp_path, image=normal(32, 3, 8, 8))


def test_the_open_batch_is_a_parameter(tmp_path: Path) -> None:
    assert "param batch = 5\n" in imported(convnet(), tmp_path, batch=5)[0]
    assert "param batch = 6\n" in imported(convnet(), tmp_path, N=6)[0]
    assert "param batch = 7\n" in imported(convnet(7), tmp_path)[0]


def test_models_in_double_precision_are_trained_so(tmp_path: Path) -> None:
    nodes = [node("Gemm", "x w", "y")]
    proto = model(nodes, {"x": (4, 3)}, ["y"], {"w": normal(3, 2).astype(np.float64)}, dtype=onnx.TensorProto.DOUBLE)
    text, weights = imported(proto, tmp_path)
    assert "input x: f32[" in text
    assert "precision = f64" in text
    assert weights["y.linear.weight"].dtype == np.float64


def test_constants_that_meet_values_are_parameters(tmp_path: Path) -> None:
    nodes = [
        node("Mul", "x gamma", "scaled"),
        node("Add", "beta scaled", "shifted"),
        node("Div", "shifted two", "half"),
        node("Sub", "one half", "y"),
    ]
    weights = {
        "gamma": normal(3, 1, 1),
        "beta": normal(1, 1, 4, 5),
        "two": np.float32([2]),
        "one": np.array(1, np.float32),
    }
    text = agrees(model(nodes, {"x": (2, 3, 4, 5)}, ["y"], weights), tmp_path, x=normal(2, 3, 4, 5))
    assert "parameter([3], axes = [channel], value = 1)" in text
    assert "parameter([4, 5], axes = [height, width])" in text
    assert "half    = shifted / 2" in text
    assert "y       = 1 - half" in text


def test_a_product_and_its_bias_are_one_linear_map(tmp_path: Path) -> None:
    nodes = [node("MatMul", "x w", "product", name="/fc/MatMul"), node("Add", "b product", "y", name="/fc/Add")]
    proto = model([*nodes, node("Relu", "y", "z")], {"x": (2, 5, 3)}, ["z"], {"w": normal(3, 4), "b": normal(4)})
    text = agrees(proto, tmp_path, x=normal(2, 5, 3))
    assert "fc_Add = x      -> linear(4)" in text


def test_a_product_that_is_used_otherwise_stays_alone(tmp_path: Path) -> None:
    nodes = [node("MatMul", "x w", "product"), node("Add", "product b", "y"), node("Mul", "product y", "z")]
    proto = model(nodes, {"x": (2, 3)}, ["z"], {"w": normal(3, 4), "b": normal(4)})
    assert "linear(4, bias = no)" in agrees(proto, tmp_path, x=normal(2, 3))


def test_a_causal_mask_is_no_weight(tmp_path: Path) -> None:
    mask = np.triu(np.full((4, 4), -np.inf, np.float32), 1)
    nodes = [node("Add", "x mask", "masked"), node("Softmax", "masked", "y")]
    text = agrees(model(nodes, {"x": (2, 3, 4, 4)}, ["y"], {"mask": mask}), tmp_path, x=normal(2, 3, 4, 4))
    assert "x      -> causal_mask" in text
    assert "parameter" not in text


def test_a_constant_that_is_used_twice_is_one_parameter(tmp_path: Path) -> None:
    nodes = [node("Add", "x w", "a"), node("Relu", "a", "b"), node("Mul", "b w", "y")]
    text = agrees(model(nodes, {"x": (2, 3)}, ["y"], {"w": normal(3)}), tmp_path, x=normal(2, 3))
    assert text.count("parameter") == 1


def test_a_model_without_a_batch_gets_one(tmp_path: Path) -> None:
    nodes = [node("Softmax", "x", "rows", axis=1), node("Softmax", "rows", "y", axis=0)]
    proto = model(nodes, {"x": (3, 4)}, ["y"])
    text, _ = imported(proto, tmp_path)
    assert "input x: f32[batch, seq = 3, width = 4]" in text
    (found,) = run(proto, tmp_path, {"x": normal(1, 3, 4)})
    (expected,) = ReferenceEvaluator(proto).run(None, {"x": normal(1, 3, 4)[0]})
    np.testing.assert_allclose(found[0], expected, rtol=1e-5)


def test_the_batch_may_be_the_second_axis(tmp_path: Path) -> None:
    nodes = [
        node("LSTM", "x w r b", "states last", hidden_size=5, direction="bidirectional"),
        node("Transpose", "states", "turned", perm=[2, 0, 1, 3]),
        node("Reshape", "turned shape", "y"),
        node("Transpose", "last", "turned_last", perm=[1, 0, 2]),
        node("Reshape", "turned_last flat", "z"),
    ]
    weights = {
        "w": normal(2, 20, 4),
        "r": normal(2, 20, 5, seed=1),
        "b": normal(2, 40, seed=2),
        "shape": np.array([3, 7, 10]),
        "flat": np.array([3, 10]),
    }
    proto = model(nodes, {"x": (7, 3, 4)}, ["y", "z"], weights)
    x = normal(7, 3, 4, seed=3)
    found = run(proto, tmp_path, {"x": np.moveaxis(x, 1, 0)})
    for one, wanted in zip(found, ReferenceEvaluator(proto).run(None, {"x": x}), strict=True):
        np.testing.assert_allclose(one, wanted, rtol=1e-5, atol=1e-6)


def test_networks_without_weights_have_no_train_block(tmp_path: Path) -> None:
    text, weights = imported(model([node("Relu", "x", "y")], {"x": (2, 3)}, ["y"]), tmp_path)
    assert "train" not in text
    assert weights == {}


def test_names_are_identifiers_and_unique() -> None:
    names = Names()
    assert names.free("/layer1/conv/Conv_output_0") == "layer1_conv_Conv_output_0"
    assert names.free("layer1:conv Conv_output_0") == "layer1_conv_Conv_output_0_2"
    assert names.free("1x1") == "n1x1"
    assert names.free("output") == "output_2"
    assert names.free("…") == "value"


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_writes_both_files(dlc: Dlc, tmp_path: Path) -> None:
    said = dlc("import", save(convnet(), tmp_path), "-o", tmp_path / "net.dlspec", "--json")
    assert said.status == 0
    assert said.document["network"] == "net"
    assert said.document["weights"] == str(tmp_path / "net.npz")
    assert said.document["numbers"] == sum(array.size for array in np.load(tmp_path / "net.npz").values())
    assert said.document["batches"] == {"image": 0, "probabilities": 0}
    assert (tmp_path / "net.dlspec").read_text() == CONVNET
    assert dlc("fmt", "--check", tmp_path / "net.dlspec").status == 0


def test_the_command_says_where_the_batch_was(dlc: Dlc, tmp_path: Path) -> None:
    nodes = [node("Softmax", "x", "rows", axis=1), node("Softmax", "rows", "y", axis=0)]
    path = save(model(nodes, {"x": (3, 4)}, ["y"]), tmp_path)
    said = dlc("import", path, "-o", tmp_path / "net.dlspec")
    assert "the model has no batch: the network has one before all axes" in said.out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("-o", "net.txt"), "`net.txt` is not the name of a spec: it ends in .dlspec"),
        (("-o", "net.dlspec", "-P", "batch=0"), "`-P batch=0` is no extent: a whole number, 1 or more"),
        (("-o", "net.dlspec", "-P", "batch=x"), "`-P batch=x` is no extent"),
    ],
)
def test_wrong_usage(dlc: Dlc, words: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    said = dlc("import", save(convnet(), tmp_path), *words)
    assert said.status == 2
    assert sentence in said.err


# --- what cannot be imported -----------------------------------------------------------------------------------------


def test_every_node_that_is_not_covered_is_named(tmp_path: Path) -> None:
    nodes = [
        node("Erf", "x", "a", name="erf1"),
        node("MaxPool", "x", "b", kernel_shape=[2, 2], dilations=[2, 2], name="pool1"),
        node("Relu", "a", "c"),
        node("Conv", "b w", "d", name="conv1"),
        node("Resize", "x . . sizes", "e", name="resize1", mode="cubic"),
    ]
    weights = {"w": normal(3, 2, 1, 1), "sizes": np.array([1, 2, 16, 16], np.int64)}
    path = save(model(nodes, {"x": (1, 2, 8, 8)}, ["c", "d", "e"], weights), tmp_path)
    positions = "its positions half_pixel, rounded by round_prefer_floor"
    assert codes(path) == [
        "E0802: node `erf1` (`Erf`) cannot be imported: dlc has no operator for it",
        "E0802: node `pool1` (`MaxPool`) cannot be imported: `maxpool` has no dilation",
        f"E0802: node `resize1` (`Resize`) cannot be imported: it is cubic, {positions}",
    ]


def test_at_most_twenty_are_shown(dlc: Dlc, tmp_path: Path) -> None:
    nodes = [node("Erf", f"v{index}" if index else "x", f"v{index + 1}") for index in range(30)]
    path = save(model(nodes, {"x": (2, 3)}, ["v30"]), tmp_path)
    said = dlc("import", path, "-o", tmp_path / "net.dlspec")
    assert said.status == 1
    assert said.err.count("error[E0802]") == 20
    assert "... and 10 more" in said.err
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("nodes", "weights", "fault"),
    [
        ([node("Conv", "x x", "y")], {}, "its input 1, `x`, is computed, not constant"),
        ([node("LRN", "x", "y", size=4)], {}, "attribute `size` is 4, an even number"),
        (
            [node("MaxPool", "x", "y i", kernel_shape=[2, 2]), node("Identity", "i", "z")],
            {},
            "its output 1, `i`, is used",
        ),
        ([node("Conv", "x w", "y")], {"w": normal(2, 2, 9, 9)}, "a 9x9 window does not fit an input of 4x4"),
    ],
)
def test_faults_are_told(nodes: Any, weights: Any, fault: str, tmp_path: Path) -> None:
    names = [nodes[-1].output[0]] if len(nodes) == 1 else ["y", "z"]
    path = save(model(nodes, {"x": (2, 2, 4, 4)}, names, weights), tmp_path)
    assert any(fault in message for message in codes(path))


def test_operators_of_others_are_not_those_of_onnx(tmp_path: Path) -> None:
    proto = model([node("Relu", "x", "y")], {"x": (2, 4)}, ["y"])
    proto.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    proto.graph.node[0].domain = "com.example"
    assert codes(save(proto, tmp_path)) == ["E0802: node `y` (`Relu`) cannot be imported: dlc has no operator for it"]


def test_axes_without_an_extent_are_named(tmp_path: Path) -> None:
    path = save(model([node("Relu", "x", "y")], {"x": ("N", "seq", 4)}, ["y"]), tmp_path)
    assert codes(path) == ["E0804: axis 1 of input `x` has no extent in the model, which calls it `seq`"]
    assert "seq = 6, width = 4" in import_file(str(path), {"seq": 6}, "net.dlspec").text


def test_extents_that_settle_nothing_are_refused(tmp_path: Path) -> None:
    path = save(model([node("Relu", "x", "y")], {"x": ("N", "seq", 4)}, ["y"]), tmp_path)
    assert codes(path, seq=6, sequ=3) == ["E0807: the model has no open axis `sequ`"]
    fixed = save(model([node("Relu", "x", "y")], {"x": (1, 4)}, ["y"]), tmp_path, "fixed.onnx")
    assert codes(fixed, batch=8) == ["E0807: the model has no open axis `batch`"]


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    assert codes(tmp_path / "model.onnx")[0].startswith("E0801: ")
    assert codes(tmp_path / "missing.onnx") == [
        f"E0801: `{tmp_path / 'missing.onnx'}` cannot be read as an ONNX model: no such file or directory"
    ]


def test_the_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_onnx(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] == "onnx":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without_onnx)
    assert codes(tmp_path / "model.onnx") == ["E0803: the Python package `onnx` is missing"]
