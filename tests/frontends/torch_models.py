"""ONNX graphs of convolutional networks run by PyTorch, node by node: an oracle that knows nothing of dlc.

ONNX's own reference evaluator is none for these: in onnx 1.23 it normalises with the wrong statistics before opset 14,
and its LRN counts samples where it should count channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor
from torch.nn import functional

Values = dict[str, Tensor]


def run(proto: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> Values:
    """Every value of a model by name, in double precision."""
    values = {tensor.name: _tensor(numpy_helper.to_array(tensor)) for tensor in proto.graph.initializer}
    values |= {name: _tensor(array) for name, array in inputs.items()}
    for node in proto.graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        values[node.output[0]] = OPS[node.op_type]([values[name] for name in node.input], attributes)
    return values


def _tensor(array: np.ndarray) -> Tensor:
    return torch.tensor(array.astype(np.float64) if array.dtype.kind == "f" else array)


def _padded(x: Tensor, attributes: Mapping[str, Any], value: float) -> Tensor:
    pads = attributes.get("pads", [0, 0, 0, 0])
    return functional.pad(x, (pads[1], pads[3], pads[0], pads[2]), value=value)


def conv(x: list[Tensor], a: Mapping[str, Any]) -> Tensor:
    bias = x[2] if len(x) > 2 else None
    return functional.conv2d(_padded(x[0], a, 0.0), x[1], bias, a["strides"], groups=a.get("group", 1))


def maxpool(x: list[Tensor], a: Mapping[str, Any]) -> Tensor:
    return functional.max_pool2d(_padded(x[0], a, -torch.inf), a["kernel_shape"], a["strides"])


def avgpool(x: list[Tensor], a: Mapping[str, Any]) -> Tensor:
    """Pads do not count: the sums are divided by sums of ones."""
    sums, counts = (
        functional.avg_pool2d(_padded(values, a, 0.0), a["kernel_shape"], a["strides"])
        for values in (x[0], torch.ones_like(x[0]))
    )
    return sums / counts


def batch_norm(x: list[Tensor], a: Mapping[str, Any]) -> Tensor:
    values, scale, shift, mean, variance = x
    return functional.batch_norm(values, mean, variance, scale, shift, eps=a.get("epsilon", 1e-5))


def lrn(x: list[Tensor], a: Mapping[str, Any]) -> Tensor:
    return functional.local_response_norm(x[0], a["size"], a["alpha"], a["beta"], a["bias"])


def gemm(x: list[Tensor], a: Mapping[str, Any]) -> Tensor:
    return functional.linear(x[0], x[1] if a.get("transB", 0) else x[1].T, x[2])


def softmax(x: list[Tensor], a: Mapping[str, Any]) -> Tensor:
    """Before opset 13 all axes from `axis` on are one row."""
    rows = x[0].flatten(a.get("axis", 1))
    return rows.softmax(-1).reshape(x[0].shape)


def unsqueeze(x: list[Tensor], a: Mapping[str, Any]) -> Tensor:
    for axis in sorted(a["axes"]):
        x = [x[0].unsqueeze(axis)]
    return x[0]


OPS: Mapping[str, Callable[[list[Tensor], Mapping[str, Any]], Tensor]] = {
    "Conv": conv,
    "MaxPool": maxpool,
    "AveragePool": avgpool,
    "GlobalAveragePool": lambda x, a: x[0].mean((2, 3), keepdim=True),
    "BatchNormalization": batch_norm,
    "LRN": lrn,
    "Gemm": gemm,
    "Softmax": softmax,
    "Relu": lambda x, a: x[0].relu(),
    "Dropout": lambda x, a: x[0],
    "Reshape": lambda x, a: x[0].reshape(x[1].tolist()),
    "Transpose": lambda x, a: x[0].permute(a["perm"]),
    "Unsqueeze": unsqueeze,
    "Concat": lambda x, a: torch.cat(x, a["axis"]),
    "Sum": lambda x, a: sum(x[1:], x[0]),
    "Add": lambda x, a: x[0] + x[1],
    "Mul": lambda x, a: x[0] * x[1],
}
