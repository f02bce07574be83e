"""Small ONNX models for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper, shape_inference

Shape = Sequence[int | str]

OPSET = 17


def model(
    nodes: Sequence[NodeProto],
    inputs: Mapping[str, Shape],
    outputs: Sequence[str],
    weights: Mapping[str, np.ndarray] | None = None,
    *,
    opset: int = OPSET,
    name: str = "net",
    dtype: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        name,
        [helper.make_tensor_value_info(key, dtype, shape) for key, shape in inputs.items()],
        [helper.make_empty_tensor_value_info(key) for key in outputs],
        [numpy_helper.from_array(array, key) for key, array in (weights or {}).items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    made = shape_inference.infer_shapes(made, data_prop=True)
    for value in made.graph.output:
        value.type.tensor_type.shape.SetInParent()  # the checker wants one, be it empty
    return made


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> NodeProto:
    """`node("Conv", "x w", "y", pads=…)`; a dot stands for an absent input."""
    names = ["" if name == "." else name for name in inputs.split()]
    return helper.make_node(op, names, outputs.split(), **attributes)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def convnet(batch: int | str = "N") -> onnx.ModelProto:
    """Convolution, batch norm, a pool and a linear map, as PyTorch exports them."""
    nodes = [
        node("Conv", "image conv.weight conv.bias", "/conv/out", pads=[1, 1, 1, 1], name="/conv/Conv"),
        node("BatchNormalization", "/conv/out bn.scale bn.shift bn.mean bn.var", "/bn/out", name="/bn/Bn"),
        node("Relu", "/bn/out", "/relu/out", name="/relu/Relu"),
        node("MaxPool", "/relu/out", "/pool/out", kernel_shape=[2, 2], strides=[2, 2], name="/pool/Pool"),
        node("Shape", "/pool/out", "shape"),
        node("Gather", "shape zero", "batch", axis=0),
        node("Unsqueeze", "batch axes", "batch_list"),
        node("Concat", "batch_list rest", "target", axis=0),
        node("Reshape", "/pool/out target", "flat", name="/Reshape"),
        node("Gemm", "flat fc.weight fc.bias", "logits", transB=1, name="/fc/Gemm"),
        node("Softmax", "logits", "probabilities", axis=-1, name="/Softmax"),
    ]
    weights = {
        "conv.weight": normal(4, 3, 3, 3),
        "conv.bias": normal(4, seed=1),
        "bn.scale": normal(4, seed=2),
        "bn.shift": normal(4, seed=3),
        "bn.mean": normal(4, seed=4),
        "bn.var": np.abs(normal(4, seed=5)) + 0.5,
        "fc.weight": normal(10, 64, seed=6),
        "fc.bias": normal(10, seed=7),
        "zero": np.array(0, np.int64),
        "axes": np.array([0], np.int64),
        "rest": np.array([-1], np.int64),
    }
    return model(nodes, {"image": (batch, 3, 8, 8)}, ["probabilities"], weights)


def save(proto: onnx.ModelProto, folder: Path, name: str = "model.onnx") -> Path:
    path = folder / name
    onnx.save(proto, path)
    return path
