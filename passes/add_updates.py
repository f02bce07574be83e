"""What a step does with the gradients: regularisers, clipping, the optimizer's updates, and running averages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dlc.ir.graph import Attr, Attrs, Graph, Init, Node, Value
from dlc.ir.tensor import Axis, TensorType, tensor
from dlc.ir.training import Choice
from dlc.ops import optimizer
from dlc.ops.update_rule import Rule
from passes.context import Context
from passes.differentiate import operator_of, roles


def add_updates(graph: Graph, context: Context) -> Graph:
    """Append `unscale`, `regularise` and `clip`, `WEIGHT@update` for each trained weight, and batch norms' averages.

    Where weights are narrower than f32, the last state of each is `WEIGHT@master`: the weight itself, in f32.
    After: `clip(c1.conv.weight@grad, …)`, `sgd(c1.conv.weight, c1.conv.weight@grad, c1.conv.weight@velocity)`. They
    work in place and have no outputs. A joint rule has one node for all weights, at the address that is its name.
    """
    nodes, values = list[Node](), list[Value]()
    gradients = dict(weight_gradients(graph))
    for node in graph.nodes:
        if node.stage == "forward" and operator_of(node).statistics:
            running, sums = _running_averages(graph, node)
            nodes.extend(running)
            values.extend(sums)
    if context.scales and gradients:
        steps = Value("unscale@steps", tensor("f32", count=3), "state", Init("constant"))
        told: Attrs = (("dynamic", context.training.precision.loss_scale == "dynamic"),)
        operands = (*gradients.values(), f"{graph.loss}@seed", steps.name)
        nodes.append(Node("unscale", "unscale", "unscale", operands, (), told))
        values.append(steps)
    if context.training.regularise and gradients:
        strengths = tuple((choice.kind, _number(choice)) for choice in context.training.regularise)
        pairs = (*gradients, *gradients.values())
        nodes.append(Node("regularise", "regularise", "regularise", pairs, (), strengths))
    if context.training.clip is not None and gradients:
        nodes.append(Node("clip", "clip", "clip", tuple(gradients.values()), (), _attrs(context.training.clip)))
    rule = optimizer(context.training.optimizer.kind)
    attrs = _attrs(context.training.optimizer)
    for update, states in _updates(graph, rule, attrs, gradients):
        nodes.append(update)
        values.extend(states)
    return graph.with_(nodes=(*graph.nodes, *nodes), values=(*graph.values, *values))


def _updates(
    graph: Graph, rule: Rule, attrs: Attrs, gradients: Mapping[str, str]
) -> Iterator[tuple[Node, tuple[Value, ...]]]:
    """The nodes that update weights, each with its states: one a weight, or one for all."""
    if rule.joint is not None and gradients:
        types = [graph.type(gradient) for gradient in gradients.values()]
        vector = TensorType(types[0].dtype, (Axis("element", sum(type_.elements for type_ in types)),))
        states = tuple(
            Value(f"{rule.name}@{state}", type_, "state", Init("constant"))
            for state, type_ in rule.joint(dict(attrs), vector)
        )
        operands = (*gradients, *gradients.values(), *(state.name for state in states))
        yield Node(rule.name, rule.name, "update", operands, (), attrs), states
        return
    for weight, gradient in gradients.items():
        value, type_ = graph.value(weight), graph.type(gradient)
        master = ("master",) if value.type != type_ else ()
        states = tuple(
            Value(f"{weight}@{state}", type_, "state", Init("constant"), value.owner)
            for state in (*rule.states(dict(attrs)), *master)
        )
        operands = (weight, gradient, *(state.name for state in states))
        yield Node(f"{weight}@update", rule.name, "update", operands, (), attrs), states


def _number(regulariser: Choice) -> float:
    """How strong a regulariser is."""
    strength = regulariser.get("strength")
    if not isinstance(strength, int | float):
        raise ValueError(f"{regulariser.kind} has no strength but {strength!r}")
    return float(strength)


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
