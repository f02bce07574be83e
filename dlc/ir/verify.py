"""The verifier: what holds of every Graph between passes, one small function per invariant.

A broken graph is a defect of dlc, not of the user's spec: `verify` names the pass that made it. The operators' schemas
are handed in, since the IR lies below the operators.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from dlc.ir import chain_rule
from dlc.ir.graph import Graph, Kind, Node
from dlc.ir.schema import Operators, Schema, roles, weight_roles
from dlc.ir.tensor import BATCH, NARROW, TensorType

FED: tuple[Kind, ...] = ("input", "field", "weight", "statistic", "state", "constant")
"""Kinds of values that no node computes."""

STARTED: tuple[Kind, ...] = ("weight", "statistic", "state", "constant")
"""Kinds of values that have a first content."""

FLOATING = ("f64", "f32", "tf32", "f16", "bf16")

FORWARD = ("forward", "loss", "metric")

CHANGES = ("unscale", "regularise", "clip", "update")
"""Passes that work in place, in their order."""

Invariant = Callable[[Graph, Operators], Iterator[str]]
"""A sentence for each place where a graph breaks it."""


class InternalError(ValueError):
    """A pass made a graph that is no graph: `after` names the pass, `faults` say what is wrong."""

    def __init__(self, after: str, faults: tuple[str, ...]) -> None:
        super().__init__(f"internal error in pass `{after}`: {'; '.join(faults)}")
        self.after, self.faults = after, faults


def verify(graph: Graph, after: str, operators: Operators, before: Graph | None = None) -> None:
    """Raise InternalError where the graph that the pass `after` made breaks an invariant.

    `operators` looks up a schema by name: `dlc.ops.operator`. Later invariants build on earlier ones, so all faults of
    the first broken one are reported and none of those behind it. Invariants of single nodes are not looked at again
    for those that stand in `before`, a graph that was verified, over values of the same types.
    """
    changed = graph if before is None else graph.with_(nodes=tuple(_changed(graph, before)))
    for invariant in INVARIANTS:
        faults = tuple(invariant(changed if invariant in OF_NODES else graph, operators))
        if faults:
            raise InternalError(after, faults)


def _changed(graph: Graph, before: Graph) -> Iterator[Node]:
    """The nodes that are not in an earlier graph, or not over values of the same types."""
    known = {node.address: node for node in before.nodes}
    for node in graph.nodes:
        names = (*node.inputs, *node.outputs)
        if known.get(node.address) is not node or any(
            not (graph.has_value(name) and before.has_value(name)) or graph.type(name) is not before.type(name)
            for name in names
        ):
            yield node


def names_are_unique(graph: Graph, operators: Operators) -> Iterator[str]:
    """No two values, and no two nodes, have the same name."""
    yield from _repeated("value", (value.name for value in graph.values))
    yield from _repeated("node", (node.address for node in graph.nodes))


def _repeated(what: str, names: Iterable[str]) -> Iterator[str]:
    for name, count in Counter(names).items():
        if count > 1:
            yield f"{count} {what}s are called `{name}`"


def names_are_known(graph: Graph, operators: Operators) -> Iterator[str]:
    """What nodes, inputs, outputs, loss and metrics name are values of the graph; ops are operators."""
    for node in graph.nodes:
        for name in (*node.inputs, *node.outputs):
            if not graph.has_value(name):
                yield f"`{node.address}` names the value `{name}`, which does not exist"
        if operators(node.op) is None:
            yield f"`{node.address}` has the operator `{node.op}`, which does not exist"
    named = (value for _, value in (*graph.outputs, *graph.metrics))
    loss = () if graph.loss is None else (graph.loss,)
    for name in (*graph.inputs, *graph.fields, *named, *loss):
        if not graph.has_value(name):
            yield f"the graph names the value `{name}`, which does not exist"


def fed_values_are_listed(graph: Graph, operators: Operators) -> Iterator[str]:
    """`inputs` and `fields` are exactly the values of these kinds."""
    for listed, kind in ((graph.inputs, "input"), (graph.fields, "field")):
        held = tuple(value.name for value in graph.values if value.kind == kind)
        if sorted(listed) != sorted(held):
            yield f"the graph lists the {kind}s {list(listed)}, its values of that kind are {list(held)}"


def values_have_one_origin(graph: Graph, operators: Operators) -> Iterator[str]:
    """Fed values are computed by no node, all others by exactly one."""
    made = Counter(name for node in graph.nodes for name in node.outputs)
    for value in graph.values:
        if value.kind in FED and made[value.name]:
            yield f"the {value.kind} `{value.name}` is computed by `{_maker(graph, value.name)}`"
        if value.kind not in FED and made[value.name] != 1:
            yield f"{made[value.name]} nodes compute the {value.kind} `{value.name}`"


def _maker(graph: Graph, name: str) -> str:
    node = graph.producer(name)
    return "" if node is None else node.address


def nodes_are_in_order(graph: Graph, operators: Operators) -> Iterator[str]:
    """Every node stands behind those whose results it reads."""
    made = {value.name for value in graph.values if value.kind in FED}
    for node in graph.nodes:
        for name in node.inputs:
            if name not in made:
                yield f"`{node.address}` stands before `{_maker(graph, name)}`, whose result `{name}` it reads"
        made.update(node.outputs)


def changes_come_last(graph: Graph, operators: Operators) -> Iterator[str]:
    """Gradients are regularised, clipped and used by updates, in this order, and nothing else reads what was changed.

    What an update has written only updates read.
    """
    changed: dict[str, Node] = {}
    used: dict[str, Node] = {}
    for node in graph.nodes:
        for name in node.inputs:
            if name in changed and node.stage != "update" and not _comes_behind(node, changed[name]):
                yield f"`{node.address}` reads `{name}` after `{changed[name].address}` has changed it"
            if name in used and node.stage in CHANGES[:-1]:
                yield f"`{node.address}` changes `{name}` after `{used[name].address}` has used it"
        if node.stage in CHANGES[:-1]:
            changed.update((name, node) for name in node.inputs if graph.value(name).kind == "gradient")
        if node.stage == "update":
            changed.update((name, node) for name in node.inputs if graph.value(name).kind in STARTED)
            used.update((name, node) for name in node.inputs if graph.value(name).kind not in STARTED)


def _comes_behind(node: Node, earlier: Node) -> bool:
    """Whether a node may change what an earlier one has changed."""
    return node.stage in CHANGES and CHANGES.index(node.stage) > CHANGES.index(earlier.stage)


def first_contents_are_known(graph: Graph, operators: Operators) -> Iterator[str]:
    """Weights, statistics, states and constants have an initialiser, and no others."""
    for value in graph.values:
        if (value.init is not None) != (value.kind in STARTED):
            fault = "has no initialiser" if value.init is None else "has an initialiser and is computed"
            yield f"the {value.kind} `{value.name}` {fault}"


def owners_exist(graph: Graph, operators: Operators) -> Iterator[str]:
    """Weights, statistics and states belong to a node of the forward pass; states of all weights together to none."""
    forward = {node.address for node in graph.nodes if node.stage in FORWARD}
    for value in graph.of_kind("weight", "statistic", "state"):
        if value.owner not in forward and not (value.kind == "state" and value.owner is None):
            yield f"the {value.kind} `{value.name}` belongs to `{value.owner}`, which is no node of the forward pass"


def stages_fit(graph: Graph, operators: Operators) -> Iterator[str]:
    """A network has forward nodes only, a graph with loss besides losses and metrics; all else is for training."""
    allowed = {"network": ("forward",), "loss": FORWARD}.get(graph.stage)
    for node in graph.nodes:
        if allowed is not None and node.stage not in allowed:
            yield f"`{node.address}` is a {node.stage} node in a graph of stage `{graph.stage}`"
    if graph.stage == "network" and graph.loss is not None:
        yield f"a graph of stage `network` has the loss `{graph.loss}`"
    if graph.stage != "network" and graph.loss is None:
        yield f"a graph of stage `{graph.stage}` has no loss"


def results_are_sums(graph: Graph, operators: Operators) -> Iterator[str]:
    """Loss and metrics are scalars: sums over the samples at hand."""
    loss = () if graph.loss is None else (graph.loss,)
    for name in (*loss, *(value for _, value in graph.metrics)):
        if graph.type(name).axes:
            yield f"`{name}` is minimised or shown and is no scalar but {graph.type(name)}"


def batches_are_whole(graph: Graph, operators: Operators) -> Iterator[str]:
    """The axis `batch` counts the samples of the whole batch: a graph has no shards."""
    for value in graph.values:
        for axis in value.type.axes:
            if axis.name == BATCH and axis.extent != graph.batch:
                yield f"`{value.name}` has {axis.extent} samples in a batch of {graph.batch}"


def operands_are_complete(graph: Graph, operators: Operators) -> Iterator[str]:
    """A forward node has as many inputs and outputs as its operator declares."""
    for node, op in _scheduled(graph, operators):
        known = roles(op, node)
        if known is None:
            weights = weight_roles(op, node)
            declared = ", ".join((*op.operands, *weights, *op.statistics, "->", *op.results, *op.saved))
            yield f"`{node.address}` has {len(node.inputs)} inputs and {len(node.outputs)} outputs for {declared}"


def types_follow_the_operators(graph: Graph, operators: Operators) -> Iterator[str]:
    """Results, by-products, weights and attributes are those that the operator makes of the operands.

    Nodes that are alike in all of these are looked at once.
    """
    numbers: dict[TensorType, int] = {}
    number = {value.name: numbers.setdefault(value.type, len(numbers)) for value in graph.values}
    sound = set[tuple[object, ...]]()
    for node, op in _scheduled(graph, operators):
        types = (*map(number.get, node.inputs), "->", *map(number.get, node.outputs))
        key = (node.op, str(node.attrs), *types)
        if key in sound:
            continue
        faults = tuple(_faults_of_types(graph, node, op))
        if not faults:
            sound.add(key)
        yield from faults


def _faults_of_types(graph: Graph, node: Node, op: Schema) -> Iterator[str]:
    """What is wrong with the types of one node."""
    own = len(op.statistics) + len(weight_roles(op, node))
    types = tuple(graph.type(name) for name in node.inputs[: len(node.inputs) - own])
    try:
        made = op.infer(types, dict(node.attrs))
    except Exception as fault:  # a rule of shapes refuses in many ways, each is a fault of the graph here
        yield f"`{node.address}` cannot have operands {', '.join(map(str, types))}: {fault}"
        return
    expected = (*made.results, *(type_ for _, type_ in made.saved))
    for name, type_ in zip(node.outputs, expected, strict=False):
        if not _agree(graph.type(name), type_, types):
            yield f"`{name}` is {graph.type(name)}, `{node.op}` makes {type_}"
    known = roles(op, node) or {}
    for weight in made.weights:
        if weight.role in known and graph.type(known[weight.role]).shape != weight.type.shape:
            yield f"`{known[weight.role]}` is {graph.type(known[weight.role])}, `{node.op}` needs {weight.type}"
    for name, value in made.attrs:
        if not node.has(name) or node.attr(name) != value:
            yield f"`{node.address}` has no attribute {name} = {value}"


def _agree(found: TensorType, made: TensorType, operands: tuple[TensorType, ...]) -> bool:
    """Whether a result is as inferred; where no operand computes, as of an embedding, the precision is free.

    Sums over operands in half precision may be in f32.
    """
    free = not any(operand.dtype in FLOATING for operand in operands)
    alike = (
        (found.dtype == "f32" and made.dtype in NARROW)
        or found.dtype == made.dtype
        or (free and found.dtype in FLOATING and made.dtype in FLOATING)
    )
    return alike and found.axes == made.axes


def _scheduled(graph: Graph, operators: Operators) -> Iterator[tuple[Node, Schema]]:
    """The nodes of the forward pass with their operators."""
    for node in graph.nodes:
        op = operators(node.op)
        if op is not None and node.stage in FORWARD:
            yield node, op


INVARIANTS: tuple[Invariant, ...] = (
    names_are_unique,
    names_are_known,
    fed_values_are_listed,
    values_have_one_origin,
    nodes_are_in_order,
    changes_come_last,
    first_contents_are_known,
    owners_exist,
    stages_fit,
    results_are_sums,
    batches_are_whole,
    operands_are_complete,
    types_follow_the_operators,
    chain_rule.rules_hold,
)
"""All invariants, in the order in which they are checked."""

OF_NODES: tuple[Invariant, ...] = (operands_are_complete, types_follow_the_operators)
"""Those that hold of each node by itself, over the types of what it reads and makes."""
