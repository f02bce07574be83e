"""How many classes the integers that a network is fed may name: rows of the tables they look up, and logits they are
compared with.
"""

from __future__ import annotations

from dataclasses import dataclass

from dlc.ir.graph import Graph, Node
from dlc.ops.operands import FLOATING
from passes.differentiate import operator_of


@dataclass(frozen=True, slots=True)
class Classes:
    """What an input or field may name: 0 to `count` − 1, because `node` has no more."""

    count: int
    node: Node


def fed_classes(graph: Graph) -> dict[str, Classes]:
    """The fewest classes that any use of an integer input or field has, by its name; those without a use are left out.

    A table of `embedding` has as many as rows, labels of a loss or metric as many as logits; ops that only move
    integers hand them on.
    """
    found: dict[str, Classes] = {}
    sources: dict[str, tuple[str, ...]] = {
        name: (name,) for name in (*graph.inputs, *graph.fields) if graph.type(name).dtype not in FLOATING
    }
    for node in graph.nodes:
        if node.stage not in ("forward", "loss", "metric"):
            continue
        read = [sources.get(name, ()) for name in node.inputs]
        if node.op == "embedding":
            used, count = read[0], graph.type(node.inputs[1]).shape[0]
        elif operator_of(node).operands[:2] == ("logits", "label"):
            used, count = read[1], graph.type(node.inputs[0]).shape[-1]
        else:
            moved = tuple(dict.fromkeys(name for names in read for name in names))
            sources |= {name: moved for name in node.outputs if graph.type(name).dtype not in FLOATING}
            continue
        for name in used:
            if name not in found or count < found[name].count:
                found[name] = Classes(count, node)
    return found
