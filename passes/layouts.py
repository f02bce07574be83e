"""Which op's layout each node follows, and where values are converted: shared by prices, choice and tests.

A node takes the layout of its forward op (`c1.conv@dx` that of `c1.conv`), the sum at a fan-out that of the op whose
result's gradients it adds up; views, losses and metrics keep logical order. A value is computed in the layout of its
producer and converted once for each other layout that any of its readers takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dlc.ir.graph import Graph, Node
from dlc.ir.tensor import TensorType
from dlc.ops.operator import LAYOUTS
from passes.differentiate import operator_of
from passes.lower_buffers import DEFAULT_LAYOUT, is_image, same_memory

FOLLOWING = ("forward", "dx", "dw", "statistics")


def leader(graph: Graph, node: Node) -> str | None:
    """The forward op whose layout a node takes; None where it keeps logical order."""
    if node.stage == "sum":
        producer = graph.producer(node.base)
        return leader(graph, producer) if producer else None
    if node.stage not in FOLLOWING:
        return None
    op = graph.node(node.base)
    return op.address if op.stage == "forward" and not operator_of(op).view else None


def offered(graph: Graph, node: Node) -> tuple[str, ...]:
    """The layouts that a forward op can take, the default first; ("",) where it has no image."""
    op = operator_of(node)
    images = [graph.type(name) for name in (*node.inputs, *node.outputs) if is_image(graph.type(name))]
    if not images:
        return ("",)
    if op.elementwise:
        operands = {graph.type(name).names for name in node.inputs}
        return LAYOUTS if len(operands) == 1 else (DEFAULT_LAYOUT,)  # broadcasting is by logical order
    return (DEFAULT_LAYOUT, *op.layout_free)


@dataclass(frozen=True, slots=True)
class Edge:
    """An image value on its way: the op whose layout it is made in, and those in whose layouts it is read.

    None stands for logical order. Targets are distinct and in the order of the graph; the source is not among them.
    """

    value: str
    type: TensorType
    source: str | None
    targets: tuple[str | None, ...]


def edges(graph: Graph) -> tuple[Edge, ...]:
    """Every image value that is read under another leader than it is made under, activations and gradients alike."""
    leaders = {node.address: leader(graph, node) for node in graph.nodes}
    found = []
    for name, readers in graph.consumers().items():
        if not is_image(graph.type(name)):
            continue
        producer = graph.producer(name)
        source = leaders[producer.address] if producer else None
        targets = dict.fromkeys(leaders[reader.address] for reader in readers)
        others = tuple(target for target in targets if target != source)
        if others:
            found.append(Edge(name, graph.type(name), source, others))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Conversion:
    """A copy of a value from one layout to another, made just before the node that first needs it."""

    value: str
    type: TensorType
    source: str
    target: str
    before: str


def conversions(graph: Graph, layouts: Mapping[str, str]) -> Iterator[Conversion]:
    """The copies that a choice of layouts (op address -> layout) makes necessary, in the order of the nodes."""

    def layout(node: Node | None) -> str:
        address = leader(graph, node) if node else None
        return (layouts[address] if address else "") or DEFAULT_LAYOUT

    made = set[tuple[str, str]]()
    for node in graph.nodes:
        target = layout(node)
        for name in node.inputs:
            if not is_image(graph.type(name)) or (name, target) in made:
                continue
            made.add((name, target))
            source = layout(graph.producer(name))
            if not same_memory(graph.type(name), source, target):
                yield Conversion(name, graph.type(name), source, target, node.address)
