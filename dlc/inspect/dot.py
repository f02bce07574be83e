"""`dlc inspect --dot`: a network as Graphviz text, statements as boxes, ops coloured as they are planned."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from itertools import groupby

from dlc.inspect.decisions import Splits, short_partition, splits
from dlc.inspect.stages import stage_rows
from dlc.ir.graph import Graph, Node
from dlc.ir.plan import Plan
from dlc.units import format_seconds

PALETTE = (
    "#a6cee3", "#b2df8a", "#fdbf6f", "#cab2d6", "#fb9a99", "#ffff99", "#80cdc1", "#dfc27d", "#d9d9d9", "#f4cae4",
)  # fmt: skip
"""Light fills that dark text stays readable on; from ColorBrewer's qualitative schemes."""

CONVERSION = "#d7301f"

ONE_CALL = ' [penwidth = 3, label = "one call"]'
"""An edge within a fused call: nothing is stored, so nothing is converted."""


def dot_text(graph: Graph, plan: Plan | None = None, fused: Container[tuple[str, str]] = ()) -> str:
    """The forward ops and their values. Colour: the planned partition, algorithm and layout, or without a plan the kind
    of op.

    An edge whose ends disagree in layout or partition is drawn red, with both beside it. The stages of a pipeline are
    boxes around the statements. Of ops that are `fused`, what one hands to the next in a call is a thick edge.
    """
    nodes = list(graph.forward)
    found = {} if plan is None else splits(plan)
    fills = {node.address: _decision(node, plan, found) for node in nodes}
    legend = dict.fromkeys(fills.values())
    colours = {kind: PALETTE[index % len(PALETTE)] for index, kind in enumerate(legend)}
    lines = [
        f"digraph {_quoted(graph.name)} {{",
        "  rankdir = TB;",
        '  node [shape = box, style = "rounded,filled", fontname = "sans-serif", fontsize = 10];',
        '  edge [fontname = "sans-serif", fontsize = 8];',
        *(f"  {_quoted(name)} [fillcolor = white, label = {_quoted(_input(graph, name))}];" for name in graph.inputs),
        *_boxes(graph, nodes, plan, fills, colours),
        *_edges(graph, nodes, plan, found, fused),
        "}",
    ]
    return "\n".join(lines)


def _decision(node: Node, plan: Plan | None, found: Mapping[str, Splits]) -> str:
    """What a node's colour stands for: `conv`, or `conv im2col NCHW batch/data` where it is planned."""
    if plan is None:
        return node.op
    op = plan.op(node.address)
    divided = short_partition(found[node.address]) if plan.ranks > 1 else ""
    return " ".join(part for part in (node.op, op.algorithm("forward"), op.layout, divided) if part)


def _boxes(
    graph: Graph, nodes: list[Node], plan: Plan | None, fills: Mapping[str, str], colours: Mapping[str, str]
) -> Iterator[str]:
    """The statements, in a box for each stage where there is a pipeline."""
    if plan is None or not plan.stages:
        yield from _statements(graph, nodes, fills, colours, "")
        return
    for row in stage_rows(plan):
        stage = row.stage
        busy = format_seconds(stage.forward + stage.backward + stage.weights)
        ranks = f"ranks {stage.first} to {stage.first + row.ranks - 1}" if row.ranks > 1 else f"rank {stage.first}"
        label = f"stage {stage.index}: {ranks}, {busy} a microbatch"
        yield f"  subgraph cluster_stage{stage.index} {{"
        yield f"    label = {_quoted(label)}; style = dashed;"
        inside = [node for node in nodes if plan.op(node.address).stage == stage.index]
        yield from (f"  {line}" for line in _statements(graph, inside, fills, colours, f"{stage.index}_"))
        yield "  }"


def _statements(
    graph: Graph, nodes: list[Node], fills: Mapping[str, str], colours: Mapping[str, str], prefix: str
) -> Iterator[str]:
    """Ops in a box for each run of ops of one statement."""
    runs = groupby(nodes, key=lambda node: node.address.partition(".")[0])
    for number, (statement, members) in enumerate(runs):
        yield f"  subgraph cluster_{prefix}{number} {{"
        yield f"    label = {_quoted(statement)}; color = gray;"
        for node in members:
            fill = fills[node.address]
            label = f"{node.address}\n{fill}\n{graph.type(node.outputs[0])}"
            yield f"    {_quoted(node.address)} [fillcolor = {_quoted(colours[fill])}, label = {_quoted(label)}];"
        yield "  }"


def _edges(
    graph: Graph, nodes: list[Node], plan: Plan | None, found: Mapping[str, Splits], fused: Container[tuple[str, str]]
) -> Iterator[str]:
    for node in nodes:
        for value in dict.fromkeys(node.inputs):
            producer = graph.producer(value)
            if producer is not None:
                attributes = "" if plan is None else _conversion(producer, node, plan, found)
                attributes = ONE_CALL if (producer.address, node.address) in fused else attributes
                yield f"  {_quoted(producer.address)} -> {_quoted(node.address)}{attributes};"
            elif graph.value(value).kind == "input":
                yield f"  {_quoted(value)} -> {_quoted(node.address)};"


def _conversion(producer: Node, consumer: Node, plan: Plan, found: Mapping[str, Splits]) -> str:
    """What has to change on the way, in red; "" where nothing has."""
    ends = producer.address, consumer.address
    layouts = [plan.op(address).layout for address in ends]
    divided = [short_partition(found[address]) for address in ends]
    changes = [f"{before} to {after}" for before, after in (layouts, divided) if before != after and before and after]
    return f" [color = {_quoted(CONVERSION)}, label = {_quoted(', '.join(changes))}]" if changes else ""


def _input(graph: Graph, name: str) -> str:
    return f"{name}\n{graph.type(name)}"


def _quoted(text: str) -> str:
    """A Graphviz string; a new line stays one."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
