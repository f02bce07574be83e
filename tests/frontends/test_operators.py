"""Ops of ONNX whose claimed forms its own tests leave out, against its reference evaluator or PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

from tests.frontends.models import model, node, normal
from tests.frontends.test_import import agrees, run

X = normal(2, 3, 6, 7)


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Cast", "x", "y", to=TensorProto.FLOAT)],
        [node("PRelu", "x slope", "y")],
        [node("Pow", "x three", "y")],
        [node("Clip", "x zero six", "y")],
        [node("Pad", "x pads", "y", mode="edge")],
        [node("Pad", "x pads", "y", mode="reflect")],
        [node("Gather", "x one", "y", axis=2)],
        [node("ReduceMean", "x", "y", axes=[2, 3], keepdims=0)],
        [node("Unsqueeze", "x ones", "a"), node("Relu", "a", "b"), node("Squeeze", "b ones", "y")],
        [node("Flatten", "x", "a", axis=1), node("Sub", "two a", "y")],
        [node("Slice", "x starts ends axes steps", "y")],
        [node("AveragePool", "x", "y", kernel_shape=[3, 2], pads=[1, 0, 0, 1], auto_pad="NOTSET")],
        [node("MaxPool", "x", "y", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")],
    ],
    ids=lambda nodes: "-".join(each.op_type for each in nodes),
)
def test_values(nodes: list[onnx.NodeProto], tmp_path: Path) -> None:
    weights = {
        "slope": np.float32([0.1]),
        "three": np.array(3, np.float32),
        "two": np.array(2, np.float32),
        "zero": np.array(0, np.float32),
        "six": np.array(0.6, np.float32),
        "pads": np.array([0, 0, 1, 2, 0, 0, 0, 1]),
        "one": np.array(-1),
        "ones": np.array([1]),
        "starts": np.array([-1, 1]),
        "ends": np.array([-100, 100]),
        "axes": np.array([2, 3]),
        "steps": np.array([-2, 3]),
    }
    used = {name: array for name, array in weights.items() if any(name in each.input for each in nodes)}
    agrees(model(nodes, {"x": X.shape}, ["y"], used, opset=17), tmp_path, x=X)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
@pytest.mark.oracle
def test_recurrent_networks_are_pytorch_s(op: str, direction: str, tmp_path: Path) -> None:
    """ONNX's own tests reset a GRU's state and not its product; PyTorch exports the latter."""
    torch = pytest.importorskip("torch")
    ways = 1 + (direction == "bidirectional")
    gates = {"RNN": [0], "GRU": [1, 0, 2], "LSTM": [0, 3, 1, 2]}[op]  # PyTorch's gates in ONNX's order
    net = getattr(torch.nn, op)(4, 5, bidirectional=ways == 2).double()
    weights: dict[str, np.ndarray] = {}
    for name, kinds in {"w": ["weight_ih"], "r": ["weight_hh"], "b": ["bias_ih", "bias_hh"]}.items():
        parts = [
            np.concatenate([_gates(net, f"{kind}_l0{suffix}", gates) for kind in kinds])
            for suffix in ("", "_reverse")[:ways]
        ]
        weights[name] = np.stack(parts)
    more: dict[str, Any] = {"linear_before_reset": 1} if op == "GRU" else {}
    nodes = [node(op, "x w r b", "y last", hidden_size=5, direction=direction, **more)]
    proto = model(nodes, {"x": (6, 3, 4)}, ["y", "last"], weights, dtype=TensorProto.DOUBLE)
    x = normal(6, 3, 4).astype(np.float64)
    states, last = run(proto, tmp_path, {"x": np.moveaxis(x, 1, 0)})
    given = torch.tensor(x[::-1].copy() if direction == "reverse" else x)
    expected, end = net(given)
    end = end[0] if op == "LSTM" else end
    wanted = expected.detach().numpy()[:: -1 if direction == "reverse" else 1]
    found = np.moveaxis(states, 0, 2).transpose(0, 2, 1, 3).reshape(wanted.shape)
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    np.testing.assert_allclose(np.moveaxis(last, 0, 1), end.detach().numpy(), atol=1e-6)


def _gates(net: Any, name: str, order: list[int]) -> np.ndarray:
    parts = np.split(getattr(net, name).detach().numpy(), len(order))
    return np.concatenate([parts[gate] for gate in order])


def test_tokens_are_embedded(tmp_path: Path) -> None:
    proto = model(
        [node("Gather", "table x", "y")], {"x": (2, 5)}, ["y"], {"table": normal(7, 4)}, dtype=TensorProto.INT64
    )
    tokens = np.random.default_rng(0).integers(0, 7, (2, 5))
    text = agrees(proto, tmp_path, x=tokens)
    assert "input x: i32[batch, seq = 5]" in text
    assert "embedding(7, 4)" in text


def test_softmax_before_opset_13_joins_axes(tmp_path: Path) -> None:
    proto = model([node("Softmax", "x", "y")], {"x": X.shape}, ["y"], opset=11)
    (found,) = run(proto, tmp_path, {"x": X})
    flat = np.exp(X.reshape(2, -1) - X.reshape(2, -1).max(1, keepdims=True))
    np.testing.assert_allclose(found.reshape(2, -1), flat / flat.sum(1, keepdims=True), rtol=1e-5)


def test_batches_of_the_parameter_s_size(tmp_path: Path) -> None:
    nodes = [node("Flatten", "x", "y")]
    proto = model(nodes, {"x": ("N", 3, 4)}, ["y"])
    (found,) = run(proto, tmp_path, {"x": normal(5, 3, 4)})
    np.testing.assert_array_equal(found, ReferenceEvaluator(proto).run(None, {"x": normal(5, 3, 4)})[0])
