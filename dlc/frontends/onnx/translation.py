"""From the nodes of a model to statements of a network: names, axes, the batch, and what no node alone can know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

from dlc.diagnostics import Diagnostic
from dlc.frontends.onnx.arguments import NOWHERE, name, number
from dlc.frontends.onnx.cover import FLOATING, INTEGERS, Cover, uncovered
from dlc.frontends.onnx.flow import Flow, UncoveredError, combined, joined, named
from dlc.frontends.onnx.model import Model, OnnxNode
from dlc.frontends.onnx.names import Names
from dlc.frontends.onnx.numbers import shortest
from dlc.ir.tensor import BATCH, Axis, TensorType
from dlc.messages.e08_onnx import UNCOVERED_NODE
from dlc.syntax import ast

if TYPE_CHECKING:
    from dlc.frontends.onnx.model import Array

Shape = tuple[int, ...]

AXES = {
    0: (),
    1: ("feature",),
    2: ("seq", "width"),
    3: ("channel", "height", "width"),
    4: ("channel", "depth", "height", "width"),
}
"""What the axes of a sample are called, by their number; those of longer shapes are numbered."""

_WINDOWED = frozenset(
    {"Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "BatchNormalization"}
)


@dataclass(slots=True)
class Translation:
    """A network in the making. `start` is where the model's inputs have the batch among their axes.

    Where that is None they have none: a batch of one sample is put before all axes.
    """

    model: Model
    start: int | None
    names: Names = field(default_factory=Names)
    flows: dict[str, Flow] = field(default_factory=dict)
    statements: list[ast.Statement] = field(default_factory=list)
    weights: dict[str, Array] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    problems: list[Diagnostic] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)  # values that a statement before has taken in
    _parameters: dict[tuple[str, tuple[str, ...]], Flow] = field(default_factory=dict)

    # --- reading ---------------------------------------------------------------------------------------------------

    def value(self, node: OnnxNode, index: int = 0) -> Flow:
        """The value that a node reads there."""
        flow = self.flows.get(node.input(index))
        if flow is None:
            raise UncoveredError(f"its input {index}, `{node.input(index)}`, is constant")
        return flow

    def constant(self, node: OnnxNode, index: int) -> Array | None:
        """What is known of an input: its values; None where it is absent or computed."""
        return self.model.constants.get(node.input(index))

    def only_reader(self, node: OnnxNode, op: str) -> OnnxNode | None:
        """The node of that op which alone reads the result of a node, which is no output; None where there is none."""
        readers = self.model.readers(node.outputs[0])
        alone = len(readers) == 1 and readers[0].op == op and node.outputs[0] not in self.model.outputs
        return readers[0] if alone else None

    @property
    def batch(self) -> Axis:
        """The batch: of one sample, where the model has none."""
        if self.start is None or not self.model.inputs:
            return Axis(BATCH, 1)
        shape = self.model.types[self.model.inputs[0]].shape
        return Axis(BATCH, shape[self.start] if self.start < len(shape) else 1)

    @property
    def double(self) -> bool:
        """Whether the model computes in double precision."""
        types = (self.model.types.get(name) for name in (*self.model.inputs, *self.model.outputs))
        return any(type_ is not None and type_.dtype == "f64" for type_ in types)

    # --- writing ---------------------------------------------------------------------------------------------------

    def bind(self, node: OnnxNode, flow: Flow, output: int = 0) -> None:
        """The statement that gives an output of a node its value."""
        self._bind((node.outputs[output],), node, flow, (flow.type,))

    def bind_all(self, node: OnnxNode, flow: Flow, types: tuple[TensorType, ...]) -> None:
        """One statement for all outputs."""
        self._bind(node.outputs, node, flow, types)

    def _bind(self, outputs: tuple[str, ...], node: OnnxNode, flow: Flow, types: tuple[TensorType, ...]) -> None:
        texts = tuple(self.names.free(self._called(node, output)) for output in outputs)
        self.statements.append(ast.Binding(tuple(map(name, texts)), flow.expression, NOWHERE))
        self.weights.update({f"{texts[0]}.{address}": array for address, array in flow.weights})
        for output, text, type_ in zip(outputs, texts, types, strict=True):
            self.flows[output] = named(text, type_, flow.at)
            self.places[output] = text

    def _called(self, node: OnnxNode, output: str) -> str:
        """The name of an output's statement: the model's own where it is an output of that, else the node's."""
        used = [other for other in node.outputs if self.model.readers(other) or other in self.model.outputs]
        return node.name if len(used) == 1 and output not in self.model.outputs else output

    # --- constants that meet values ----------------------------------------------------------------------------------

    def parameter(self, node: OnnxNode, index: int, like: Flow, start: int = 0) -> Flow | float:
        """A constant that meets a value: a number, or a weight of its own, which is repeated along the axes it lacks.

        Its shape is aligned with the last of the value's axes, as ONNX does; axes of one element are left away, and a
        batch of equal samples is. Where it is trained from the beginning, it begins at `start`.
        """
        array = self.constant(node, index)
        assert array is not None
        if array.size == 1 and array.ndim <= like.rank:
            return shortest(float(array.reshape(()))) if array.dtype == "float32" else float(array.reshape(()))
        if array.ndim > like.rank:
            raise UncoveredError(f"a constant of shape {list(array.shape)} has more axes than what it meets")
        aligned = array.reshape((1,) * (like.rank - array.ndim) + array.shape)
        if like.at is not None:
            first = aligned.take([0], like.at)
            if (first != aligned).any():
                raise UncoveredError(f"a constant of shape {list(array.shape)} differs from sample to sample")
            aligned = first.squeeze(like.at)
        axes = tuple(axis.name for axis, extent in zip(like.sample, aligned.shape, strict=True) if extent > 1)
        return self._parameter(node.input(index), aligned, axes, start)

    def _parameter(self, constant: str, array: Array, axes: tuple[str, ...], start: int) -> Flow:
        """A weight as a statement of its own, one for each way in which its axes are called."""
        if (constant, axes) not in self._parameters:
            text = self.names.free(constant)
            shape = tuple(extent for extent in array.shape if extent > 1)
            flow = joined("parameter", shape=shape, axes=axes, value=start)
            self.statements.append(ast.Binding((name(text),), flow.expression, NOWHERE))
            self.weights[f"{text}.parameter.weight"] = array.reshape(shape)
            self._parameters[constant, axes] = named(text, flow.type, None)
        return self._parameters[constant, axes]

    def owner(self, weight: Array) -> str | None:
        """The address of a matrix that is the same, number by number: both are one weight. None for a first one.

        Matrices of equal numbers are not meant: those were not trained.
        """
        if weight.ndim != 2 or (weight == weight[0, 0]).all():
            return None
        alike = (address for address, array in self.weights.items() if array.shape == weight.shape)
        return next((address for address in alike if (self.weights[address] == weight).all()), None)

    # --- arithmetic ------------------------------------------------------------------------------------------------

    def arithmetic(self, sign: str, node: OnnxNode) -> Flow:
        """The two inputs of a node under a sign; one of them may be constant."""
        start = 1 if sign in "*/" else 0
        if self.constant(node, 0) is not None:
            b = self.value(node, 1)
            return combined(sign, self.parameter(node, 0, b, start), b)
        a = self.value(node, 0)
        if self.constant(node, 1) is not None:
            return combined(sign, a, self.parameter(node, 1, a, start))
        return self.met(sign, a, self.value(node, 1))

    def met(self, sign: str, a: Flow, b: Flow) -> Flow:
        """Two values under a sign: ONNX aligns their axes from the end, dlc by name, so one takes the other's names."""
        wide, narrow = (a, b) if len(a.type.axes) >= len(b.type.axes) else (b, a)
        require_aligned(a, b)
        renamed = self.renamed(narrow, wide.type.names[len(wide.type.axes) - len(narrow.sample) :])
        return combined(sign, *((wide, renamed) if wide is a else (renamed, wide)))

    # --- shapes ----------------------------------------------------------------------------------------------------

    def renamed(self, flow: Flow, names: tuple[str, ...]) -> Flow:
        """The same value with its axes, but for the batch, under other names."""
        if flow.type.names[1:] == names:
            return flow
        return flow.apply("reshape", shape=flow.extents, axes=names)

    def sampled(self, flow: Flow, extents: Shape) -> Flow:
        """A value whose samples take that shape."""
        if flow.extents == extents:
            return flow
        if len(extents) == 1:
            return flow.apply("flatten")
        if not extents:
            raise UncoveredError("a sample would be a single number without axes")
        return flow.apply("reshape", shape=extents, axes=None if len(extents) in AXES else axis_names(len(extents)))

    def reshaped(self, flow: Flow, shape: Shape) -> Flow:
        """A value that takes that shape in the model: the batch must be one of its axes again."""
        if flow.at is None:
            return self.sampled(flow, shape)
        before = prod(flow.extents[: flow.at])
        found = [at for at, extent in enumerate(shape) if extent == flow.type.shape[0] and prod(shape[:at]) == before]
        if not found:
            raise UncoveredError(f"no axis of the shape {list(shape)} is the batch of {flow.type.shape[0]}")
        at = flow.at if flow.at in found else found[0]
        return replaced_batch(self.sampled(flow, (*shape[:at], *shape[at + 1 :])), at)

    # --- the whole ---------------------------------------------------------------------------------------------------

    def inputs(self) -> None:
        """Declare the model's inputs; UncoveredError where one of them cannot be one of dlc's."""
        for input_ in self.model.inputs:
            found = self.model.types.get(input_)
            if found is None or found.dtype not in (*FLOATING, *INTEGERS) or 0 in found.shape:
                what = "is no tensor of a known shape" if found is None else f"is {found.dtype}{list(found.shape)}"
                raise UncoveredError(
                    f"its input `{input_}` {what}, not a tensor of {', '.join((*FLOATING, *INTEGERS))}"
                )
            text, extents = self.names.free(input_), self._sample(input_, found.shape)
            names = self._input_axes(input_, len(extents), found.dtype)
            axes = tuple(Axis(axis, extent) for axis, extent in zip(names, extents, strict=True))
            type_ = TensorType("i32" if found.dtype in INTEGERS else "f32", (self.batch, *axes))
            self.flows[input_] = named(text, type_, self.start)
            self.places[input_] = text
            self.statements.append(ast.Input(text, _declared(type_), NOWHERE, NOWHERE))

    def _sample(self, input_: str, shape: Shape) -> Shape:
        if self.start is None:
            return shape
        if shape[self.start : self.start + 1] != (self.batch.extent,):
            raise UncoveredError(f"its input `{input_}` of shape {list(shape)} has no batch of {self.batch.extent}")
        return (*shape[: self.start], *shape[self.start + 1 :])

    def _input_axes(self, input_: str, count: int, dtype: str) -> tuple[str, ...]:
        windowed = any(node.op in _WINDOWED for node in self.model.readers(input_))
        if count == 2 and windowed:
            return ("channel", "length")
        return ("seq",) if count == 1 and dtype in INTEGERS else axis_names(count)

    def node(self, node: OnnxNode, table: Mapping[str, Cover]) -> None:
        """Translate one node; what is not covered is noted, and what reads its outputs is left out."""
        if any(output in self.flows or output in self.taken for output in node.outputs):
            return  # a node before it has taken it in
        fault = uncovered(node, self.model, table)
        if fault is None and not all(self._is_known(input_) for input_ in node.inputs):
            return
        try:
            if fault is None:
                self._require_batch(node, table[node.op])
                table[node.op].translate(node, self)
        except UncoveredError as error:
            fault = str(error)
        if fault is not None:
            self.problems.append(UNCOVERED_NODE.at(None, node=node.name, op=node.op, fault=fault))

    def _require_batch(self, node: OnnxNode, cover: Cover) -> None:
        """The batch must be the first axis of what such ops read."""
        if cover.by_sample and any(self.flows[input_].at != 0 for input_ in node.inputs if input_ in self.flows):
            raise UncoveredError("its first axis is a batch, other nodes take another axis for it")

    def _is_known(self, input_: str) -> bool:
        return not input_ or input_ in self.flows or input_ in self.model.constants


def axis_names(count: int) -> tuple[str, ...]:
    """The names of so many axes of a sample."""
    return AXES[count] if count in AXES else tuple(f"axis_{index + 1}" for index in range(count))


def require_aligned(*flows: Flow) -> None:
    """Refuse values of which one's batch would meet another axis of another, when they are aligned from the end."""
    places = {None if flow.at is None else flow.rank - flow.at for flow in flows}
    if len(places) > 1:
        raise UncoveredError("the batch of one value would meet another axis")


def replaced_batch(flow: Flow, at: int | None) -> Flow:
    """The same value, whose batch the model has elsewhere."""
    return Flow(flow.expression, flow.type, at, flow.ops, flow.weights)


def _declared(type_: TensorType) -> ast.TypeExpression:
    behind = tuple(ast.AxisDeclaration(axis.name, number(axis.extent), NOWHERE) for axis in type_.axes[1:])
    return ast.TypeExpression(type_.dtype, (ast.AxisDeclaration(BATCH, None, NOWHERE), *behind), NOWHERE)
