"""The backward pass, node by node: every gradient is a value, and where a value fans out its gradients are summed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from dlc.ir import schema
from dlc.ir.chain_rule import gradient_type
from dlc.ir.graph import Attrs, Graph, Init, Node, Value
from dlc.ir.tensor import TensorType
from dlc.ops import operator
from dlc.ops.operator import Gradient, Operator
from passes.context import Context


def differentiate(graph: Graph, context: Context) -> Graph:
    """Append `ADDRESS@dx`, `ADDRESS@dw` and the sums at fan-outs, in reverse order of the forward nodes.

    Before: `y = linear(x, weight, bias)`, `loss = mse(y, target)`.
    After, besides: `y@grad = mse@dx(loss@seed, y, target)`, `weight@grad, bias@grad = linear@dw(y@grad, x)`, and
    `x@grad = linear@dx(y@grad, weight)` if something before x is trained.
    """
    if graph.loss is None:
        raise ValueError("a graph without a loss has no gradients")
    backward = _Backward(graph)
    backward.seed(graph.loss, context.first_scale)
    for node in reversed(graph.nodes):
        backward.visit(node)
    backward.finish()
    return graph.with_(
        stage="training", nodes=(*graph.nodes, *backward.nodes), values=(*graph.values, *backward.values)
    )


def roles(node: Node) -> dict[str, str]:
    """Role -> value name of a forward node: operands, weights and statistics that it has, results and saved values."""
    found = schema.roles(operator_of(node), node)
    if found is None:
        raise ValueError(f"{node.address} does not have the operands that its operator declares")
    return found


def operator_of(node: Node) -> Operator:
    """The operator of a node; every node past expansion has one."""
    found = operator(node.op)
    if found is None:
        raise ValueError(f"{node.address} has the unknown operator {node.op}")
    return found


@dataclass(slots=True)
class _Backward:
    """The gradients gathered so far while walking the graph backwards."""

    graph: Graph
    nodes: list[Node] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    parts: dict[str, list[str]] = field(default_factory=dict)  # value -> gradients that reach it
    trained: set[str] = field(default_factory=set)  # values that depend on a weight
    uses: Counter[str] = field(default_factory=Counter)  # value -> how many gradients of the loss reach it

    def __post_init__(self) -> None:
        self.trained.update(value.name for value in self.graph.of_kind("weight"))
        for node in self.graph.nodes:
            if node.stage != "metric" and self.trained.intersection(node.inputs):
                self.trained.update(node.outputs)
        leading = {self.graph.loss}
        for node in reversed(self.graph.nodes):
            if leading.intersection(node.outputs):
                reached = tuple(self._differentiated(node))
                leading.update(reached)
                self.uses.update(reached)

    def _differentiated(self, node: Node) -> Iterator[str]:
        """The operands that a node has gradients of: what it reads as positions alone has none."""
        op, known = operator_of(node), roles(node)
        if self._is_identity(node, op):
            yield from node.inputs
        else:
            yield from (known[role] for gradient in op.gradients for role in schema.given(gradient, known))

    def _is_identity(self, node: Node, op: Operator) -> bool:
        """Whether the gradient of the result is that of every operand."""
        return op.identity_gradient and len({self.graph.type(name) for name in (*node.inputs, *node.outputs)}) == 1

    def seed(self, loss: str, scale: float) -> None:
        """d loss / d loss = 1, or the loss scale: then all gradients are so many times as large."""
        name = f"{loss}@seed"
        self.values.append(Value(name, self.graph.type(loss), "constant", Init("constant", value=scale)))
        self.parts[loss] = [name]

    def visit(self, node: Node) -> None:
        """Add the backward nodes of one forward node, if a gradient reaches its result."""
        op = operator_of(node)
        results = node.outputs[: len(schema.result_roles(op, node))]
        reached = tuple(index for index, name in enumerate(results) if name in self.parts)
        if node.stage == "metric" or not reached:
            return
        dy = tuple(self.gradient(results[index]) for index in reached)
        known = roles(node)
        if self._is_identity(node, op):
            for name in node.inputs:
                self._reach(name, dy[0])
            return
        told: Attrs = (("reached", reached),) if op.variadic_results else ()
        for gradient in op.gradients:
            self._append(node, gradient, known, dy, told)

    def finish(self) -> None:
        """Sum the parts of weights and of whatever else no backward node has asked for."""
        for name in list(self.parts):
            if self.graph.value(name).kind == "weight":
                self.gradient(name)

    def gradient(self, name: str) -> str:
        """The value that holds the whole gradient of a value; where several parts reach it, they are summed now."""
        parts = self.parts[name]
        if len(parts) > 1:
            total = self._value(f"{name}@grad", gradient_type(self.graph.value(name)))
            self.nodes.append(Node(f"{name}@sum", "sum", "sum", tuple(parts), (total,)))
            self.parts[name] = [total]
        return self.parts[name][0]

    def _append(self, node: Node, gradient: Gradient, known: dict[str, str], dy: tuple[str, ...], told: Attrs) -> None:
        given = tuple(schema.given(gradient, known))
        if not any(known[role] in self.trained for role in given):
            return
        read = {"dy": dy, **{role: (name,) for role, name in known.items()}}
        needs = tuple(name for role in schema.needed(gradient, known) for name in read[role])
        sources = _numbered(f"{node.address}@{gradient.suffix}", [known[role] for role in given])
        outputs = tuple(self._part(known[role], source) for role, source in zip(given, sources, strict=True))
        address, attrs = f"{node.address}@{gradient.suffix}", (*node.attrs, *told)
        self.nodes.append(Node(address, node.op, gradient.suffix, needs, outputs, attrs, node.span))

    def _part(self, name: str, source: str) -> str:
        """A new part of a value's gradient, named `VALUE@grad` where it is the only one."""
        part = self._value(
            f"{name}@grad" if self.uses[name] == 1 else f"{name}@grad_{source}", gradient_type(self.graph.value(name))
        )
        self._reach(name, part)
        return part

    def _reach(self, name: str, part: str) -> None:
        if name in self.trained:
            self.parts.setdefault(name, []).append(part)

    def _value(self, name: str, type_: TensorType) -> str:
        self.values.append(Value(name, type_, "gradient"))
        return name


def _numbered(source: str, names: Sequence[str]) -> Iterator[str]:
    """The source of each part of these values' gradients: `_2` tells the second one of `concat(x, x)` apart."""
    for index, name in enumerate(names):
        earlier = names[:index].count(name)
        yield f"{source}_{earlier + 1}" if earlier else source
