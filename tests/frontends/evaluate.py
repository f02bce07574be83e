"""A network computed node by node with the kernels that programs are made of, in inference: what its outputs are.

Programs of `dlc compile` call the same kernels; tests/frontends/test_programs.py holds some of them against this.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np

from backends.numpy_mpi.kernels import KERNELS
from dlc.ir.graph import Graph, Node
from dlc.ir.tensor import BATCH
from dlc.ops import operator
from dlc.ops.operator import Operator, Shapes

Array = np.ndarray
Arrays = Mapping[str, Array]

INTEGERS = {"i32": np.int32, "u8": np.uint8}
RUNTIME = {"position": 0, "step": 0, "training": False}


def evaluate(graph: Graph, inputs: Arrays, weights: Arrays, dtype: Any = np.float32) -> dict[str, Array]:
    """Every value of a network by name, its inputs, weights and statistics among them, in the given precision."""
    values = {name: array.astype(dtype) if array.dtype.kind == "f" else array for name, array in inputs.items()}
    values |= {name: np.ascontiguousarray(array, dtype) for name, array in weights.items()}
    batch = len(values[graph.inputs[0]])
    for node in graph.forward:
        arrays = [np.ascontiguousarray(values[name]) for name in node.inputs]
        made = _computed(graph, node, arrays, batch, dtype)
        values.update(zip(node.outputs, made, strict=False))
    return values


def outputs(graph: Graph, values: Arrays) -> dict[str, Array]:
    """The network's outputs by the names that it gives them."""
    return {name: values[value] for name, value in graph.outputs}


def _computed(graph: Graph, node: Node, arrays: list[Array], batch: int, dtype: Any) -> list[Array]:
    op = operator(node.op)
    assert op is not None
    shapes = [graph.type(name).with_extent(BATCH, batch) for name in node.outputs]
    if op.view:
        return [arrays[0].reshape(shapes[0].shape)]
    if node.op == "dropout":
        return arrays[:1]
    made = [np.full(type_.shape, 7, INTEGERS.get(type_.dtype, dtype)) for type_ in shapes]
    stage = "inference" if node.op == "bn" else "forward"
    made = made[:1] if node.op == "bn" else made
    algorithm, scratch = _algorithm(graph, node, op, batch, dtype)
    entry = KERNELS[node.op, stage, algorithm]
    kernel = getattr(import_module(f"backends.numpy_mpi.kernels.{entry.module}"), entry.function)
    names = (*node.inputs, *node.outputs)
    layout = {"layout": "NCHW"} if any(len(graph.type(name).axes) == 4 for name in names) else {}
    runtime = {name: RUNTIME.get(name, batch) for name in op.runtime}
    kernel(*arrays, *made, *scratch, **dict(node.attrs), **runtime, **layout)
    return made


def _algorithm(graph: Graph, node: Node, op: Operator, batch: int, dtype: Any) -> tuple[str, list[Array]]:
    """im2col, where an op has algorithms, or its first one; and its scratch memory."""
    if not op.algorithms:
        return "", []
    algorithm = next((found for found in op.algorithms if found.name == "im2col"), op.algorithms[0])
    types = ([graph.type(name).with_extent(BATCH, batch) for name in names] for names in (node.inputs, node.outputs))
    shapes = Shapes(*map(tuple, types), dict(node.attrs))
    return algorithm.name, [
        np.full(workspace.type.shape, 7, INTEGERS.get(workspace.type.dtype, dtype))
        for workspace in algorithm.workspaces("forward", shapes, "NCHW")
    ]
