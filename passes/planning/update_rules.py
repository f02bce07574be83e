"""What a step does to weights and their gradients behind the backward pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dlc.ir.graph import Attr, Graph
from dlc.ir.tensor import DTYPE_BYTES, NARROW
from dlc.ops.operator import Operator
from passes.differentiate import operator_of

Widths = tuple[int, int]
"""Bytes of an element of gradients of weights and of their states, which are wider than weights in half precision."""

AS_WEIGHTS: Widths = (0, 0)


@dataclass(frozen=True, slots=True)
class UpdateRule:
    """Something that a step does to each weight or its gradient by itself: `operands` arrays of the weight's shape.

    A `joint` one is done to all of them in one call, which J counts where the loss is.
    """

    operator: Operator
    stage: str
    operands: int
    attrs: Mapping[str, Attr]
    joint: bool = False


def update_rules(graph: Graph) -> tuple[UpdateRule, ...]:
    """What a step does to every weight: unscale, regularise, clip, update.

    A joint rule counts as one of each weight.
    """
    found: dict[str, UpdateRule] = {}
    for node in graph.nodes:
        if node.stage in ("unscale", "regularise", "clip", "update") and node.op != "bn":
            joint = {"unscale": 1, "regularise": 2, "clip": 1}.get(node.stage, len(node.inputs))
            alone = node.stage == "update" and node.address.endswith("@update")
            operands = len(node.inputs) if alone else min(joint, 3)
            rule = UpdateRule(operator_of(node), node.stage, operands, dict(node.attrs), not alone)
            found.setdefault(node.stage, rule)
    return tuple(found.values())


def widths(graph: Graph) -> Widths:
    """As the graph has them; AS_WEIGHTS where weights are not in half precision."""
    for weight in graph.of_kind("weight"):
        if weight.type.dtype in NARROW and graph.has_value(f"{weight.name}@grad"):
            gradient = DTYPE_BYTES[graph.type(f"{weight.name}@grad").dtype]
            states = (s.type.dtype for s in graph.of_kind("state") if s.owner == weight.owner)
            return gradient, DTYPE_BYTES[next(states, "f32")]
    return AS_WEIGHTS
