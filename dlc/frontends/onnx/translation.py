"""From the nodes of a model to statements of a network: names, axes, and what no node alone can know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dlc.diagnostics import Diagnostic
from dlc.frontends.onnx.arguments import NOWHERE, name, number
from dlc.frontends.onnx.flow import Flow, UncoveredError, combined, joined, named
from dlc.frontends.onnx.model import Model, OnnxNode
from dlc.frontends.onnx.names import Names
from dlc.ir.tensor import BATCH, Axis, TensorType
from dlc.messages.e08_onnx import UNCOVERED_NODE
from dlc.syntax import ast

if TYPE_CHECKING:
    from dlc.frontends.onnx.model import Array

FLOATING = ("f32", "f64")
INTEGERS = ("i64", "i32")

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


@dataclass(frozen=True, slots=True)
class Cover:
    """How an op of ONNX is imported, and how far.

    `translate` makes statements of a node. `versions` are those whose meaning it knows; `attributes` those that it
    reads: any other must have ONNX's own default. The inputs at `constants` must be known when importing. `results` are
    the outputs that it gives a value, the first ones; `dtypes` what its other inputs may hold. With `by_sample` its
    first axis is the batch by its own meaning.
    """

    translate: Callable[[OnnxNode, Translation], None]
    versions: tuple[int, ...]
    attributes: tuple[str, ...] = ()
    constants: tuple[int, ...] = ()
    results: int = 1
    dtypes: tuple[str, ...] = FLOATING
    by_sample: bool = False


@dataclass(slots=True)
class Translation:
    """A network in the making. `batched` says whether the first axis of the model's inputs counts samples.

    Where it does not, a batch of one sample is put before all axes, and positions count from there.
    """

    model: Model
    batched: bool
    names: Names = field(default_factory=Names)
    flows: dict[str, Flow] = field(default_factory=dict)
    statements: list[ast.Statement] = field(default_factory=list)
    weights: dict[str, Array] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    problems: list[Diagnostic] = field(default_factory=list)
    _parameters: dict[tuple[str, tuple[str, ...]], Flow] = field(default_factory=dict)

    # --- reading ---------------------------------------------------------------------------------------------------

    def value(self, node: OnnxNode, index: int = 0) -> Flow:
        """The value that a node reads there."""
        flow = self.flows.get(node.input(index))
        if flow is None:
            raise UncoveredError(f"input {index} is a constant")
        return flow

    def constant(self, node: OnnxNode, index: int) -> Array | None:
        """What is known of an input: its values; None where it is absent or computed."""
        return self.model.constants.get(node.input(index))

    def shape(self, node: OnnxNode, index: int = 0) -> tuple[int, ...]:
        """The shape of an input in the model."""
        known = self.constant(node, index)
        return known.shape if known is not None else self.model.types[node.input(index)].shape

    def position(self, axis: int, rank: int) -> int:
        """An axis of the model, counted from the end where it is negative, as a position of dlc; never the batch."""
        if not -rank <= axis < rank:
            raise UncoveredError(f"axis {axis} is none of {rank}")
        place = axis % rank + (not self.batched)
        if place == 0:
            raise UncoveredError("it works along the batch")
        return place

    def sample(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The part of a shape of the model that belongs to one sample."""
        if self.batched and shape[:1] != (self.model.batch,):
            raise UncoveredError(f"its shape {list(shape)} does not begin with the batch of {self.model.batch}")
        return shape[self.batched :]

    # --- writing ---------------------------------------------------------------------------------------------------

    def bind(self, node: OnnxNode, flow: Flow) -> None:
        """The statement that gives a node's first output its value."""
        self.bind_all(node, flow, (flow.type,))

    def bind_all(self, node: OnnxNode, flow: Flow, types: tuple[TensorType, ...]) -> None:
        """One statement for several outputs."""
        texts = tuple(self.names.free(self._called(node, output)) for output in node.outputs[: len(types)])
        targets = tuple(name(text) for text in texts)
        self.statements.append(ast.Binding(targets, flow.expression, NOWHERE))
        self.weights.update({f"{texts[0]}.{address}": array for address, array in flow.weights})
        for output, text, type_ in zip(node.outputs, texts, types, strict=False):
            self.flows[output] = named(text, type_)
            self.places[output] = text

    def _called(self, node: OnnxNode, output: str) -> str:
        """The name of an output's statement: the model's own where it is an output of that, else the node's."""
        own = output in self.model.outputs or len(node.outputs) > 1
        return output if own or not node.name else node.name

    def parameter(self, node: OnnxNode, index: int, axes: tuple[Axis, ...], start: int = 0) -> Flow | float:
        """A constant that meets a value with these axes: a number, or a weight of its own, broadcast by its axes.

        Its shape is aligned with the last of the axes, as ONNX does; axes of one element are left away. Where it is
        trained from the beginning, it starts at `start`.
        """
        array = self.constant(node, index)
        assert array is not None
        if array.size == 1:
            return float(array.reshape(()))
        shape = array.shape
        while len(shape) > len(axes) and shape[0] == 1:
            shape = shape[1:]
        if len(shape) > len(axes):
            raise UncoveredError(f"a constant of shape {list(array.shape)} has more axes than its samples")
        met = [axis for axis, extent in zip(axes[len(axes) - len(shape) :], shape, strict=True) if extent > 1]
        return self._parameter(node.input(index), array, tuple(axis.name for axis in met), start)

    def _parameter(self, constant: str, array: Array, axes: tuple[str, ...], start: int) -> Flow:
        """A weight as a statement of its own, one for each way in which its axes are called."""
        if (constant, axes) not in self._parameters:
            text = self.names.free(constant)
            shape = tuple(extent for extent in array.shape if extent > 1)
            flow = joined("parameter", shape=shape, axes=axes, value=start)
            self.statements.append(ast.Binding((name(text),), flow.expression, NOWHERE))
            self.weights[f"{text}.parameter.weight"] = array.reshape(shape)
            self._parameters[constant, axes] = named(text, flow.type)
        return self._parameters[constant, axes]

    # --- arithmetic ------------------------------------------------------------------------------------------------

    def arithmetic(self, sign: str, node: OnnxNode, left: int = 0, right: int = 1) -> Flow:
        """Two inputs of a node under a sign; one of them may be constant."""
        start = 1 if sign in "*/" else 0
        if self.constant(node, left) is not None:
            b = self.value(node, right)
            return combined(sign, self.parameter(node, left, b.type.axes[1:], start), b)
        a = self.value(node, left)
        if self.constant(node, right) is not None:
            return combined(sign, a, self.parameter(node, right, a.type.axes[1:], start))
        return self.met(sign, a, self.value(node, right))

    def met(self, sign: str, a: Flow, b: Flow) -> Flow:
        """Two values under a sign: ONNX aligns their axes from the end, dlc by name, so one takes the other's names."""
        wide, narrow = (a, b) if len(a.type.axes) >= len(b.type.axes) else (b, a)
        if self.batched and len(wide.type.axes) != len(narrow.type.axes):
            raise UncoveredError("the batch of one value would meet another axis")
        renamed = self.renamed(narrow, wide.type.names[len(wide.type.axes) - len(narrow.type.axes) + 1 :])
        return combined(sign, *((wide, renamed) if wide is a else (renamed, wide)))

    def renamed(self, flow: Flow, names: tuple[str, ...]) -> Flow:
        """The same value with its axes, but for the batch, under other names."""
        if flow.type.names[1:] == names:
            return flow
        return flow.apply("reshape", shape=flow.type.shape[1:], axes=names)

    def reshaped(self, flow: Flow, shape: tuple[int, ...]) -> Flow:
        """A value whose samples take that shape."""
        if flow.type.shape[1:] == shape:
            return flow
        if len(shape) == 1:
            return flow.apply("flatten")
        if not shape:
            raise UncoveredError("a sample would be a single number without axes")
        return flow.apply("reshape", shape=shape, axes=None if len(shape) in AXES else axis_names(len(shape)))

    # --- the whole ---------------------------------------------------------------------------------------------------

    def inputs(self) -> None:
        """Declare the model's inputs."""
        for input_ in self.model.inputs:
            found = self.model.types.get(input_)
            if found is None or found.dtype not in (*FLOATING, *INTEGERS):
                raise UncoveredError(f"input `{input_}` holds {found.dtype if found else 'something else'}")
            text, extents = self.names.free(input_), self.sample(found.shape)
            names = self._input_axes(input_, len(extents), found.dtype)
            axes = tuple(Axis(axis, extent) for axis, extent in zip(names, extents, strict=True))
            type_ = TensorType("i32" if found.dtype in INTEGERS else "f32", (self.batch, *axes))
            self.flows[input_] = named(text, type_)
            self.places[input_] = text
            self.statements.append(ast.Input(text, self._declared(type_), NOWHERE, NOWHERE))

    @property
    def double(self) -> bool:
        """Whether the model computes in double precision."""
        types = (self.model.types.get(name) for name in (*self.model.inputs, *self.model.outputs))
        return any(type_ is not None and type_.dtype == "f64" for type_ in types)

    @property
    def batch(self) -> Axis:
        """The batch."""
        return Axis(BATCH, self.model.batch if self.batched else 1)

    def _input_axes(self, input_: str, count: int, dtype: str) -> tuple[str, ...]:
        windowed = any(node.op in _WINDOWED for node in self.model.readers(input_))
        if count == 2 and windowed:
            return ("channel", "length")
        return ("seq",) if count == 1 and dtype in INTEGERS else axis_names(count)

    def _declared(self, type_: TensorType) -> ast.TypeExpression:
        behind = tuple(ast.AxisDeclaration(axis.name, number(axis.extent), NOWHERE) for axis in type_.axes[1:])
        return ast.TypeExpression(type_.dtype, (ast.AxisDeclaration(BATCH, None, NOWHERE), *behind), NOWHERE)

    def node(self, node: OnnxNode, table: Mapping[str, Cover]) -> None:
        """Translate one node; what is not covered is noted, and what reads its outputs is left out."""
        fault = uncovered(node, self.model, table)
        if fault is None and table[node.op].by_sample and not self.batched:
            fault = "its first axis is the batch, which other nodes work along"
        if fault is None and not all(self._is_known(input_) for input_ in node.inputs):
            return
        if fault is None:
            try:
                table[node.op].translate(node, self)
                return
            except UncoveredError as error:
                fault = str(error)
        self.problems.append(UNCOVERED_NODE.at(None, node=node.name, op=node.op, fault=fault))

    def _is_known(self, input_: str) -> bool:
        return not input_ or input_ in self.flows or input_ in self.model.constants


def axis_names(count: int) -> tuple[str, ...]:
    """The names of so many axes of a sample."""
    return AXES[count] if count in AXES else tuple(f"axis_{index + 1}" for index in range(count))


def uncovered(node: OnnxNode, model: Model, table: Mapping[str, Cover]) -> str | None:
    """Why a node is not covered, as far as that shows before anything is translated; None where it is."""
    cover = table.get(node.op) if node.version else None
    if cover is None:
        return "dlc has no operator for it"
    if node.version not in cover.versions:
        known = ", ".join(map(str, cover.versions))
        return f"it has the meaning of opset {node.version}, the importer knows that of {known}"
    for attribute, value in node.attributes.items():
        if attribute not in cover.attributes and not is_default(node, attribute, value):
            return f"attribute `{attribute}` is {value}"
    used = {name for other in model.nodes for name in other.inputs} | set(model.outputs)
    for index, output in enumerate(node.outputs):
        if index >= cover.results and output in used:
            return f"its output {index}, `{output}`, is used"
    return _faulty_input(node, model, cover)


def _faulty_input(node: OnnxNode, model: Model, cover: Cover) -> str | None:
    for index, input_ in enumerate(node.inputs):
        if not input_ or input_ in model.constants:
            continue
        if index in cover.constants:
            return f"its input {index}, `{input_}`, is computed, not constant"
        found = model.types.get(input_)
        if found is None:
            return f"the shape of its input `{input_}` cannot be told"
        if found.dtype not in cover.dtypes:
            return f"its input `{input_}` holds {found.dtype}, not {' or '.join(cover.dtypes)}"
    return None


def is_default(node: OnnxNode, attribute: str, value: object) -> bool:
    """Whether an attribute says what its absence would."""
    from onnx import defs, helper

    declared = defs.get_schema(node.op, node.version).attributes.get(attribute)
    if declared is None or not declared.default_value.type:
        return False
    default = helper.get_attribute_value(declared.default_value)
    return bool(value == (default.decode() if isinstance(default, bytes) else default))
