"""`dlc inspect --dot`: a network as Graphviz text, statements as boxes, ops coloured as they are planned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby

from dlc.ir.graph import Graph, Node
from dlc.ir.plan import Plan

PALETTE = (
    "#a6cee3", "#b2df8a", "#fdbf6f", "#cab2d6", "#fb9a99", "#ffff99", "#80cdc1", "#dfc27d", "#d9d9d9", "#f4cae4",
)  # fmt: skip
"""Light fills that dark text stays readable on; from ColorBrewer's qualitative schemes."""

CONVERSION = "#d7301f"


def dot_text(graph: Graph, plan: Plan | None = None) -> str:
    """The forward ops and their values. Colour: the planned algorithm and layout, or the kind of op without a plan.

    An edge whose ends disagree in layout is drawn red, with the conversion beside it.
    """
    nodes = list(graph.forward)
    fills = {node.address: _decision(node, plan) for node in nodes}
    legend = dict.fromkeys(fills.values())
    colours = {kind: PALETTE[index % len(PALETTE)] for index, kind in enumerate(legend)}
    lines = [
        f"digraph {_quoted(graph.name)} {{",
        "  rankdir = TB;",
        '  node [shape = box, style = "rounded,filled", fontname = "sans-serif", fontsize = 10];',
        '  edge [fontname = "sans-serif", fontsize = 8];',
        *(f"  {_quoted(name)} [fillcolor = white, label = {_quoted(_input(graph, name))}];" for name in graph.inputs),
        *_statements(graph, nodes, fills, colours),
        *_edges(graph, nodes, plan),
        "}",
    ]
    return "\n".join(lines)


def _decision(node: Node, plan: Plan | None) -> str:
    """What a node's colour stands for: `conv`, or `conv im2col NCHW` where it is planned."""
    if plan is None:
        return node.op
    op = plan.op(node.address)
    return " ".join(part for part in (node.op, op.algorithm("forward"), op.layout) if part)


def _statements(graph: Graph, nodes: list[Node], fills: Mapping[str, str], colours: Mapping[str, str]) -> Iterator[str]:
    """Ops in a box for each run of ops of one statement."""
    runs = groupby(nodes, key=lambda node: node.address.partition(".")[0])
    for number, (statement, members) in enumerate(runs):
        yield f"  subgraph cluster_{number} {{"
        yield f"    label = {_quoted(statement)}; color = gray;"
        for node in members:
            fill = fills[node.address]
            label = f"{node.address}\n{fill}\n{graph.type(node.outputs[0])}"
            yield f"    {_quoted(node.address)} [fillcolor = {_quoted(colours[fill])}, label = {_quoted(label)}];"
        yield "  }"


def _edges(graph: Graph, nodes: list[Node], plan: Plan | None) -> Iterator[str]:
    for node in nodes:
        for value in dict.fromkeys(node.inputs):
            producer = graph.producer(value)
            if producer is not None:
                attributes = _conversion(producer, node, plan)
                yield f"  {_quoted(producer.address)} -> {_quoted(node.address)}{attributes};"
            elif graph.value(value).kind == "input":
                yield f"  {_quoted(value)} -> {_quoted(node.address)};"


def _conversion(producer: Node, consumer: Node, plan: Plan | None) -> str:
    if plan is None:
        return ""
    before, after = plan.op(producer.address).layout, plan.op(consumer.address).layout
    if before == after or not before or not after:
        return ""
    return f" [color = {_quoted(CONVERSION)}, label = {_quoted(f'{before} to {after}')}]"


def _input(graph: Graph, name: str) -> str:
    return f"{name}\n{graph.type(name)}"


def _quoted(text: str) -> str:
    """A Graphviz string; a new line stays one."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
