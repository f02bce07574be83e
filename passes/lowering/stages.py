"""Which nodes a stage of the pipeline runs, and which values cross its ends.

Forward values go from the stage that makes them through every boundary to the last stage that reads them, gradients the
other way. Where uses of a value stand on several stages, each stage adds up the gradients of its own uses and of the
stages behind it, so that one tensor crosses a boundary.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from dlc.ir.graph import Graph, Node, Value
from dlc.ir.plan import Plan
from passes.differentiate import operator_of

FORWARD_LIKE = ("forward", "loss", "metric")
BACKWARD = ("dx", "dw", "dt", "sum")


@dataclass(slots=True)
class Stage:
    """What one (virtual) stage runs, in order: its forward nodes, with the sums behind running averages each behind its
    op, then its backward nodes.

    `takes` and `gives` are values from the stage before it and to the stage behind it; `takes_back` and `gives_back`
    are gradients from the stage behind it and to the stage before it.
    """

    index: int
    forward: list[Node] = field(default_factory=list)
    backward: list[Node] = field(default_factory=list)
    takes: list[str] = field(default_factory=list)
    gives: list[str] = field(default_factory=list)
    takes_back: list[str] = field(default_factory=list)
    gives_back: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Staged:
    """A graph cut into stages. `of` maps addresses of forward ops, `made` values, to their stage.

    `parts` has, for each weight with a gradient, the values that make it up, by stage; their sums are no nodes here.
    """

    graph: Graph
    stages: tuple[Stage, ...]
    of: dict[str, int]
    made: dict[str, int]
    parts: dict[str, tuple[str, ...]]


def staged(graph: Graph, plan: Plan, count: int) -> Staged:
    """The stages of a training graph; one where the plan has no pipeline."""
    of = _stages_of_ops(graph, plan, count) if count > 1 else {}
    stages = tuple(Stage(index) for index in range(count))
    weights = {value.name for value in graph.of_kind("weight")}
    found = Staged(graph, stages, of, {}, {})
    added: list[Value] = []
    readers = graph.consumers() if count > 1 else {}
    averages = {node.base: node for node in graph.nodes if node.stage == "statistics"}
    for node in graph.nodes:
        if node.stage in FORWARD_LIKE:
            at = of.get(node.address, 0)
            _place(found, node, at, stages[at].forward)
            if node.address in averages:
                _place(found, averages[node.address], at, stages[at].forward)
        elif node.stage == "sum" and node.base in weights:
            found.parts[node.base] = node.inputs
        elif node.stage == "sum" and count > 1:
            for at, each in _split_sum(found, node, readers[node.base], added):
                _place(found, each, at, stages[at].backward)
        elif node.stage in BACKWARD:
            at = of.get(node.base, 0)
            _place(found, node, at, stages[at].backward)
    for weight in weights:
        if weight not in found.parts and graph.has_value(f"{weight}@grad"):
            found.parts[weight] = (f"{weight}@grad",)
    if added:
        found.graph = graph.with_(values=(*graph.values, *added))
    for stage in stages if count > 1 else ():
        _cross(found, stage.index, stage.forward, 1)
        _cross(found, stage.index, stage.backward, -1)
    return found


def _place(found: Staged, node: Node, at: int, nodes: list[Node]) -> None:
    nodes.append(node)
    for name in node.outputs:
        found.made[name] = at


def _stages_of_ops(graph: Graph, plan: Plan, count: int) -> dict[str, int]:
    """Address -> stage of every forward op: the plan's, or, where it has none, the last stage of its operands.

    Losses and metrics are the last stage's, which has their totals. What is computed of weights alone is where it is
    first used, so that it does not go from stage to stage with every microbatch.
    """
    planned = {op.address: op.stage for op in plan.ops}
    of: dict[str, int] = {}
    made: dict[str, int] = {}
    for node in graph.nodes:
        if node.stage in FORWARD_LIKE:
            at = planned.get(node.address, max((made.get(name, 0) for name in node.inputs), default=0))
            of[node.address] = at = at if node.stage == "forward" else count - 1
            made.update(dict.fromkeys(node.outputs, at))
    readers = graph.consumers()
    for node in reversed(graph.nodes):
        if node.stage == "forward" and all(graph.value(name).kind == "weight" for name in node.inputs):
            users = [of[r.address] for name in node.outputs for r in readers[name] if r.address in of]
            of[node.address] = min(users, default=of[node.address])
    return of


def _split_sum(found: Staged, node: Node, readers: Iterable[Node], added: list[Value]) -> Iterator[tuple[int, Node]]:
    """The sum at a fan-out, stage by stage from the last one: what a stage has is added to what comes from behind."""
    identities = [found.of[each.address] for each in readers if _hands_on(each)]
    by_stage: dict[int, list[str]] = {}
    for part in node.inputs:
        by_stage.setdefault(_stage_of_part(found, part, identities), []).append(part)
    carried: list[str] = []
    order = sorted(by_stage, reverse=True)
    for at in order:
        inputs = (*carried, *by_stage[at])
        if at == order[-1]:
            yield at, replace(node, inputs=inputs)
        elif len(inputs) == 1:
            carried = list(inputs)
        else:
            name = f"{node.outputs[0]}.stage{at}"
            added.append(Value(name, found.graph.type(node.outputs[0]), "gradient"))
            yield at, replace(node, address=f"{node.address}.stage{at}", inputs=inputs, outputs=(name,))
            carried = [name]


def _stage_of_part(found: Staged, part: str, identities: list[int]) -> int:
    """The stage of the use that a part of a gradient belongs to: an op that hands gradients on stands before them."""
    at = found.made.get(part, len(found.stages) - 1)
    producer = found.graph.producer(part)
    if producer is not None and producer.stage != "sum" and not identities:
        return at
    return max((stage for stage in identities if stage <= at), default=at) if identities else at


def _hands_on(node: Node) -> bool:
    return node.stage in FORWARD_LIKE and operator_of(node).identity_gradient


def _cross(found: Staged, at: int, nodes: list[Node], step: int) -> None:
    """Note every value that these nodes read from another stage at each boundary on its way."""
    kept = ("activation", "saved") if step == 1 else ("gradient",)
    for node in nodes:
        for name in node.inputs:
            source = found.made.get(name)
            if source is None or source == at or found.graph.value(name).kind not in kept:
                continue
            if (at - source) * step < 0:
                raise ValueError(f"{node.address} on stage {at} reads {name}, which stage {source} makes later")
            for index in range(source, at, step):
                here, there = found.stages[index], found.stages[index + step]
                gives, takes = (here.gives, there.takes) if step == 1 else (here.gives_back, there.takes_back)
                if name not in gives:
                    gives.append(name)
                    takes.append(name)
