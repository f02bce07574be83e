"""A network as a model of ONNX, for inference: the whole of `dlc export` but for reading and writing files.

Values, weights and nodes keep their addresses as names; outputs are named as in the spec. The first axis, the batch, is
open and called `batch`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dlc.diagnostics import Diagnostic, DiagnosticError
from dlc.frontends.onnx.model import load_onnx
from dlc.ir.graph import Graph, Node
from dlc.ir.schema import roles
from dlc.ir.tensor import BATCH, TensorType
from dlc.messages.e08_onnx import NO_COUNTERPART
from dlc.ops import operator

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto

    from dlc.frontends.onnx.model import Array

OPSET = 21
"""The opset of a model: every operator but rmsnorm has a counterpart there."""

Counterpart = Callable[["Export", Node], None]
"""Adds the ONNX nodes that compute what a node does."""


class NoCounterpartError(Exception):
    """ONNX cannot express an op; the text says what of it."""


@dataclass(slots=True)
class Export:
    """A model in the making. `names` are those that values have in it, where they differ from dlc's."""

    graph: Graph
    weights: Mapping[str, Array]
    names: dict[str, str] = field(default_factory=dict)
    nodes: list[NodeProto] = field(default_factory=list)
    initialisers: dict[str, Array] = field(default_factory=dict)
    opset: int = OPSET

    # --- reading ---------------------------------------------------------------------------------------------------

    def roles(self, node: Node) -> dict[str, str]:
        """The node's values by role, under their names in the model."""
        op = operator(node.op)
        found = None if op is None else roles(op, node)
        if found is None:
            raise ValueError(f"{node.address} has other values than {node.op} declares")
        return {role: self.names.get(value, value) for role, value in found.items()}

    def type(self, node: Node, index: int = 0) -> TensorType:
        """The type of an input of a node."""
        return self.graph.type(node.inputs[index])

    # --- writing ---------------------------------------------------------------------------------------------------

    def add(self, op: str, inputs: Iterable[str], *outputs: str, **attributes: Any) -> str:
        """A node, named as its first output, which is returned; attributes that are None are left away.

        Weights that it reads become initialisers.
        """
        read = list(inputs)
        self.initialisers.update({name: self.weights[name] for name in read if name in self.weights})
        given = {key: value for key, value in attributes.items() if value is not None}
        made = load_onnx().helper.make_node(op, read, list(outputs), name=outputs[0], **given)
        self.nodes.append(made)
        return outputs[0]

    def constant(self, name: str, values: object, dtype: str = "int64") -> str:
        """Numbers that an op of ONNX takes as an input."""
        import numpy as np

        self.initialisers[name] = np.array(values, dtype)
        return name

    def number(self, name: str, value: float) -> str:
        """A number of the type that the network computes in."""
        return self.constant(name, value, self.dtype)

    @property
    def dtype(self) -> str:
        """The element type of weights and values, NumPy's name."""
        return next((array.dtype.name for array in self.weights.values()), "float32")

    def model(self) -> ModelProto:
        """What has been made, as a model."""
        from importlib.metadata import version

        onnx = load_onnx()
        inputs = [_declared(self, name, name) for name in self.graph.inputs]
        outputs = [_declared(self, name, value) for name, value in _outputs(self.graph)]
        tensors: list[TensorProto] = [
            onnx.numpy_helper.from_array(array, name) for name, array in self.initialisers.items()
        ]
        graph = onnx.helper.make_graph(self.nodes, self.graph.name, inputs, outputs, tensors)
        opsets = [onnx.helper.make_opsetid("", self.opset)]
        made: ModelProto = onnx.helper.make_model(
            graph,
            opset_imports=opsets,
            producer_name="dlc",
            producer_version=version("dlc"),
            ir_version=onnx.helper.find_min_ir_version_for(opsets),
        )
        return made


def export_model(graph: Graph, weights: Mapping[str, Array], counterparts: Mapping[str, Counterpart]) -> ModelProto:
    """The network with these weights; E0803 without the package onnx, E0805 for every op that ONNX cannot express."""
    made = Export(graph, weights)
    _name_outputs(made)
    problems: list[Diagnostic] = []
    for node in _leading_to_outputs(graph):
        try:
            if node.op not in counterparts:
                raise NoCounterpartError("there is no operator like it in ONNX")
            counterparts[node.op](made, node)
        except NoCounterpartError as error:
            problems.append(NO_COUNTERPART.at(node.span, address=node.address, op=node.op, fault=str(error)))
    if problems:
        raise DiagnosticError(problems)
    _add_outputs(made)
    return made.model()


def _outputs(graph: Graph) -> list[tuple[str, str]]:
    """(name, value) of each output; one that bears the name of an input gets another."""
    return [(f"{name}.output" if name in graph.inputs else name, value) for name, value in graph.outputs]


def _name_outputs(made: Export) -> None:
    """What ops compute bears its name as an output, the first where it has several."""
    for name, value in _outputs(made.graph):
        producer = made.graph.producer(value)
        if producer is not None and producer.op != "parameter":
            made.names.setdefault(value, name)


def _add_outputs(made: Export) -> None:
    """Other outputs get nodes of their own: inputs, weights, and those that have another name already."""
    for name, value in _outputs(made.graph):
        if made.names.get(value, value) != name:
            made.add("Identity", [made.names.get(value, value)], name)


def _leading_to_outputs(graph: Graph) -> list[Node]:
    """The nodes of the network that its outputs depend on, in order."""
    needed = {value for _, value in graph.outputs}
    kept: list[Node] = []
    for node in reversed(tuple(graph.forward)):
        if needed.intersection(node.outputs):
            needed.update(node.inputs)
            kept.append(node)
    return kept[::-1]


def _declared(made: Export, name: str, value: str) -> ValueInfoProto:
    """The type of an input or output; its batch is open."""
    import numpy as np

    onnx = load_onnx()
    type_ = made.graph.type(value)
    kind = {"f32": made.dtype, "f64": "float64", "i32": "int32", "i64": "int64", "u8": "uint8"}.get(type_.dtype)
    if kind is None:
        raise ValueError(f"{value} holds {type_.dtype}")
    shape = [BATCH if axis.name == BATCH else axis.extent for axis in type_.axes]
    declared: ValueInfoProto = onnx.helper.make_tensor_value_info(
        name, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind)), shape
    )
    return declared
