"""What a step does with the gradients: clipping, the optimizer's update of each weight, and running averages."""

from __future__ import annotations

from collections.abc import Iterator

from dlc.ir.graph import Attr, Attrs, Graph, Init, Node, Value
from dlc.ir.training import Choice
from dlc.ops import optimizer
from passes.context import Context
from passes.differentiate import operator_of, roles


def add_updates(graph: Graph, context: Context) -> Graph:
    """Append `clip`, `WEIGHT@update` for each trained weight and `OP@statistics`, `OP@update` for batch norms.

    After: `clip(c1.conv.weight@grad, …)`, `sgd(c1.conv.weight, c1.conv.weight@grad, c1.conv.weight@velocity)`. They
    work in place and have no outputs.
    """
    nodes, values = list[Node](), list[Value]()
    gradients = dict(weight_gradients(graph))
    for node in graph.nodes:
        if node.stage == "forward" and operator_of(node).statistics:
            running, sums = _running_averages(graph, node)
            nodes.extend(running)
            values.extend(sums)
    if context.training.clip is not None and gradients:
        nodes.append(Node("clip", "clip", "clip", tuple(gradients.values()), (), _attrs(context.training.clip)))
    rule = optimizer(context.training.optimizer.kind)
    attrs = _attrs(context.training.optimizer)
    for weight, gradient in gradients.items():
        value = graph.value(weight)
        states = tuple(
            Value(f"{weight}@{state}", value.type, "state", Init("constant"), value.owner)
            for state in rule.states(dict(attrs))
        )
        values.extend(states)
        operands = (weight, gradient, *(state.name for state in states))
        nodes.append(Node(f"{weight}@update", rule.name, "update", operands, (), attrs))
    return graph.with_(nodes=(*graph.nodes, *nodes), values=(*graph.values, *values))


def weight_gradients(graph: Graph) -> Iterator[tuple[str, str]]:
    """(weight, its whole gradient) for each weight that the loss depends on, in the order of the graph's values."""
    for weight in graph.of_kind("weight"):
        if graph.has_value(f"{weight.name}@grad"):
            yield weight.name, f"{weight.name}@grad"


def _attrs(choice: Choice) -> Attrs:
    def checked(value: object) -> Attr:
        if not isinstance(value, int | float | bool | str):
            raise ValueError(f"{choice.kind} has an argument {value!r}")
        return value

    return tuple((name, checked(value)) for name, value in choice.arguments)


def _running_averages(graph: Graph, node: Node) -> tuple[list[Node], list[Value]]:
    """`ADDRESS@statistics` sums each group's mean and unbiased variance over the groups, divided by their number;
    `ADDRESS@update` moves the running averages towards them.

    The sums have no batch axis: they add up over the ranks like gradients.
    """
    known = roles(node)
    op = operator_of(node)
    running = tuple(known[role] for role in op.statistics)
    sums = tuple(Value(f"{name}@sum", graph.type(name), "gradient") for name in running)
    saved = (node.inputs[0], *(known[role] for role in op.saved))
    names = tuple(value.name for value in sums)
    gather = Node(f"{node.address}@statistics", node.op, "statistics", saved, names, node.attrs, node.span)
    update = Node(f"{node.address}@update", node.op, "update", (*running, *names), (), node.attrs, node.span)
    return [gather, update], list(sums)
