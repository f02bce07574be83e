"""A model as the importer sees it: checked, with all shapes, constants folded, and only nodes that lead to outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any

from dlc.diagnostics import Diagnostic, DiagnosticError, similar
from dlc.messages import e08_onnx as messages

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

    Array = NDArray[Any]

BATCH = 32
"""Samples in a batch, where a model leaves that open."""

DTYPES = {1: "f32", 2: "u8", 6: "i32", 7: "i64", 9: "bool", 10: "f16", 11: "f64", 16: "bf16"}
"""Element types of ONNX by number -> of dlc."""

_DRAWN = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
_UNSHAPED = frozenset({"GroupNormalization"})
"""Ops that onnx's shape inference passes by, though their results have the shape of what they read."""

_SMALL = 4096
"""Constants of at most so many elements take part in shape inference, which copies the whole model."""


@dataclass(frozen=True, slots=True)
class ValueType:
    """Element type and shape of a value, batch included."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class OnnxNode:
    """One node. `version` is that of its op: the opset in which it last changed; absent inputs are empty names."""

    name: str
    op: str
    version: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def input(self, index: int) -> str:
        """The name of an input, empty where it is absent."""
        return self.inputs[index] if index < len(self.inputs) else ""

    def get(self, attribute: str, default: Any) -> Any:
        """An attribute, or what it is where the node has none."""
        return self.attributes.get(attribute, default)


@dataclass(frozen=True, slots=True)
class Model:
    """A graph in topological order, with the values of its constants and the types of all others."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[OnnxNode, ...]
    constants: Mapping[str, Array]
    types: Mapping[str, ValueType]
    _readers: dict[str, tuple[OnnxNode, ...]] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                self._readers[name] = (*self._readers.get(name, ()), node)

    def readers(self, value: str) -> tuple[OnnxNode, ...]:
        """The nodes that read a value, in order."""
        return self._readers.get(value, ())


def load_onnx() -> ModuleType:
    """The package onnx; E0803 where it is not installed."""
    try:
        import onnx
        import onnx.checker
        import onnx.inliner
        import onnx.reference
        import onnx.shape_inference
    except ImportError:
        helps = ('`pip install "dlc[onnx]"` installs it',)
        raise DiagnosticError((messages.MISSING_PACKAGE.at(None, helps=helps),)) from None
    return onnx


def read_model(path: str, extents: Mapping[str, int] | None = None) -> Model:
    """The model in a file. `extents` settle open axes by name; E0801, E0803, E0804, E0807."""
    onnx = load_onnx()
    try:
        proto = onnx.load(path)
        onnx.checker.check_model(path)
    except OSError as error:
        raise _unreadable(path, (error.strerror or str(error)).lower()) from None
    except Exception as error:  # protobuf and the checker have exceptions of their own
        raise _unreadable(path, _sentence(error)) from None
    return model_of(proto, path, extents or {})


def model_of(proto: ModelProto, path: str, extents: Mapping[str, int]) -> Model:
    """A model in memory; `path` is named in messages."""
    onnx = load_onnx()
    work = onnx.inliner.inline_local_functions(proto) if proto.functions else onnx.ModelProto()
    if not proto.functions:
        work.CopyFrom(proto)
    work.ir_version = max(work.ir_version, 4)  # from there on, initializers need not be inputs too
    graph = work.graph
    if graph.sparse_initializer:
        raise _unreadable(path, "its weights are sparse")
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    given = [value for value in graph.input if value.name not in constants]
    _settle(given, extents)
    _forget_shapes(graph)
    try:
        types = _folded(work, constants)
    except onnx.shape_inference.InferenceError as error:
        raise _unreadable(path, _sentence(error)) from None
    outputs = tuple(value.name for value in graph.output)
    versions = {opset.domain or "ai.onnx": opset.version for opset in work.opset_import}
    nodes = tuple(_node(node, versions) for node in _leading_to(outputs, graph.node, constants))
    used = {name for node in nodes for name in node.inputs} | set(outputs)
    return Model(
        name=graph.name,
        inputs=tuple(value.name for value in given if value.name in used),
        outputs=outputs,
        nodes=nodes,
        constants={name: array for name, array in constants.items() if name in used},
        types=types,
    )


def _unreadable(path: str, cause: str) -> DiagnosticError:
    return DiagnosticError((messages.UNREADABLE.at(None, path=path, cause=cause),))


def _sentence(error: Exception) -> str:
    """The first line of another library's message, without a full stop."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(". ")


# --- extents -----------------------------------------------------------------------------------------------------


def _settle(inputs: list[ValueInfoProto], extents: Mapping[str, int]) -> None:
    """Give every open axis of the inputs its extent; the first one has one even where nothing is said."""
    found: list[Diagnostic] = []
    known: set[str] = set()
    for value in inputs:
        for position, axis in enumerate(value.type.tensor_type.shape.dim):
            if axis.HasField("dim_value"):
                continue
            known |= {axis.dim_param, *(() if position else ("batch",))}
            extent = extents.get(axis.dim_param, None if position else extents.get("batch", BATCH))
            if extent is None:
                found.append(_open(value.name, position, axis.dim_param))
            else:
                axis.dim_value = extent
    found += [_unknown(name, known - {""}) for name in extents if name not in known]
    if found:
        raise DiagnosticError(found)


def _unknown(name: str, known: set[str]) -> Diagnostic:
    near = similar(name, known)
    helps = (f"there is an axis with a similar name: `{near}`",) if near else ()
    listed = ", ".join(f"`{axis}`" for axis in sorted(known))
    note = f"its open axes are {listed}" if known else "all extents of its inputs are fixed"
    return messages.NO_OPEN_AXIS.at(None, name=name, notes=(note,), helps=helps)


def _open(name: str, position: int, symbol: str) -> Diagnostic:
    named, way = (f", which calls it `{symbol}`", f"`-P {symbol}=128`") if symbol else ("", "")
    helps = (f"say what it is: {way}",) if way else ("export the model again with that extent",)
    return messages.OPEN_EXTENT.at(None, axis=position, input=name, named=named, helps=helps)


def _forget_shapes(graph: GraphProto) -> None:
    """Shapes that were inferred for other extents give way to those that follow from the inputs'."""
    del graph.value_info[:]
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")


# --- constants ---------------------------------------------------------------------------------------------------


def _folded(work: ModelProto, constants: dict[str, Array]) -> dict[str, ValueType]:
    """Compute all that does not depend on inputs, until nothing is left to compute; the types of all values.

    Shapes of values are constants too, once they are inferred, and lead to more of both: from Shape to Reshape.
    """
    while True:
        types = _inferred(work, constants)
        found = dict(_computed(work, constants, types))
        constants.update(found)
        kept = [node for node in work.graph.node if not set(node.output) & found.keys()]
        del work.graph.node[:]
        work.graph.node.extend(kept)
        if not found:
            return types


def _inferred(work: ModelProto, constants: Mapping[str, Array]) -> dict[str, ValueType]:
    """Types of all values by ONNX's shape inference, in which large constants stand as inputs."""
    onnx = load_onnx()
    graph = work.graph
    inputs = [value for value in graph.input if value.name not in constants]
    del graph.input[:]
    graph.input.extend(inputs)
    del graph.initializer[:]
    for name, array in constants.items():
        if array.size <= _SMALL:
            graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        else:
            number = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
            graph.input.append(onnx.helper.make_tensor_value_info(name, number, array.shape))
    shaped = _shaped(work).graph
    values = (*shaped.input, *shaped.value_info, *shaped.output)
    return {value.name: type_ for value in values if (type_ := _type(value)) is not None}


def _shaped(work: ModelProto) -> ModelProto:
    """ONNX's shape inference, helped over ops that it has no rule for."""
    onnx = load_onnx()
    while True:
        try:
            shaped: ModelProto = onnx.shape_inference.infer_shapes(work, strict_mode=True, data_prop=True)
            return shaped
        except onnx.shape_inference.InferenceError:
            if not _declare_unshaped(work):
                raise


def _declare_unshaped(work: ModelProto) -> bool:
    """Give results of such ops the type of what they read, as far as that is known; whether any was new."""
    onnx = load_onnx()
    known = onnx.shape_inference.infer_shapes(work, data_prop=True).graph
    types = {value.name: value.type for value in (*known.input, *known.value_info, *known.output)}
    told = {value.name for value in work.graph.value_info}
    nodes = [node for node in work.graph.node if node.op_type in _UNSHAPED and node.output[0] not in told]
    ready = [node for node in nodes if node.input[0] in types]
    for node in ready:
        work.graph.value_info.append(onnx.helper.make_value_info(node.output[0], types[node.input[0]]))
    return bool(ready)


def _type(value: ValueInfoProto) -> ValueType | None:
    """The type of a tensor whose extents are all known."""
    tensor = value.type.tensor_type
    known = tensor.HasField("shape") and all(axis.HasField("dim_value") for axis in tensor.shape.dim)
    if not known or tensor.elem_type not in DTYPES:
        return None
    return ValueType(DTYPES[tensor.elem_type], tuple(axis.dim_value for axis in tensor.shape.dim))


def _computed(
    work: ModelProto, constants: Mapping[str, Array], types: Mapping[str, ValueType]
) -> Iterator[tuple[str, Array]]:
    """The results of nodes whose inputs are all known, by ONNX's reference evaluator."""
    import numpy as np

    known = dict(constants)
    for node in work.graph.node:
        if node.op_type == "Shape" and node.input[0] in types:
            start, stop = (_attribute(node, name) for name in ("start", "end"))
            results: list[Array] = [np.array(types[node.input[0]].shape, np.int64)[start:stop]]
        elif _foldable(node) and all(name in known for name in node.input if name):
            results = _evaluated(work, node, known)
        else:
            continue
        made = dict(zip(node.output, results, strict=False))
        known.update(made)
        yield from made.items()


def _attribute(node: NodeProto, name: str) -> int | None:
    return next((attribute.i for attribute in node.attribute if attribute.name == name), None)


def _foldable(node: NodeProto) -> bool:
    holds_graphs = any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)
    return node.op_type not in _DRAWN and not holds_graphs


def _evaluated(work: ModelProto, node: NodeProto, known: Mapping[str, Array]) -> list[Array]:
    """The results of one node."""
    import numpy as np

    onnx = load_onnx()
    inputs = list(dict.fromkeys(name for name in node.input if name))
    untyped = [onnx.helper.make_empty_tensor_value_info(name) for name in (*inputs, *filter(None, node.output))]
    graph = onnx.helper.make_graph([node], "node", untyped[: len(inputs)], untyped[len(inputs) :])
    model = onnx.helper.make_model(graph, opset_imports=work.opset_import)
    results = onnx.reference.ReferenceEvaluator(model).run(None, {name: known[name] for name in inputs})
    return [np.asarray(result) for result in results]


# --- nodes -------------------------------------------------------------------------------------------------------


def _leading_to(outputs: tuple[str, ...], nodes: Any, constants: Mapping[str, Array]) -> list[NodeProto]:
    """The nodes that the outputs depend on, in order."""
    needed = set(outputs)
    kept = []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            needed.update(name for name in node.input if name not in constants)
            kept.append(node)
    return kept[::-1]


def _node(node: NodeProto, versions: Mapping[str, int]) -> OnnxNode:
    onnx = load_onnx()
    domain = node.domain or "ai.onnx"
    try:
        schema = onnx.defs.get_schema(node.op_type, versions.get(domain, 1), "" if domain == "ai.onnx" else domain)
        version = schema.since_version if domain == "ai.onnx" else 0
    except onnx.defs.SchemaError:
        version = 0
    attributes = {a.name: _plain(onnx.helper.get_attribute_value(a)) for a in node.attribute}
    name = node.name or next(filter(None, node.output))
    return OnnxNode(name, node.op_type, version, tuple(node.input), tuple(node.output), attributes)


def _plain(value: Any) -> Any:
    """An attribute's value, texts as texts and lists as tuples."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return tuple(map(_plain, value)) if isinstance(value, list) else value
