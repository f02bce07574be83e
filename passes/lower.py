"""Graph and Plan to Program: buffers, instructions and schedules, with nothing left to decide."""

from __future__ import annotations

from dataclasses import replace

from dlc.ir.graph import Graph
from dlc.ir.plan import Plan
from dlc.ir.program import Program
from dlc.ir.request import Split
from dlc.ir.tensor import BATCH
from passes.context import Context
from passes.lowering.program import lower_general

BY_SAMPLES = (Split(BATCH, "data"),)


def lower(graph: Graph, plan: Plan, context: Context) -> Program:
    """The Program of a plan: a role for each device of its pipeline, whose ranks are a mesh.

    A plan on the axis `data` alone that splits no op splits each that has samples by these.
    """
    if tuple(name for name, _ in plan.mesh) == ("data",) and not any(op.partition for op in plan.ops):
        ops = (replace(op, partition=BY_SAMPLES if _batched(graph, op.address) else ()) for op in plan.ops)
        plan = plan.with_(ops=tuple(ops))
    return lower_general(graph, plan, context)


def _batched(graph: Graph, address: str) -> bool:
    node = graph.node(address)
    return any(graph.type(name).batched for name in (*node.inputs, *node.outputs))
