"""Graph and Plan to Program: buffers, instructions and schedules, with nothing left to decide."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dlc.ir.graph import Graph
from dlc.ir.plan import Plan
from dlc.ir.program import Program
from dlc.ir.request import Split
from dlc.ir.tensor import BATCH
from passes.context import Context
from passes.lowering.lowered import Lowered
from passes.lowering.program import lower_general
from passes.lowering.setting import setting
from passes.lowering.table import bucket_faults, bucket_table

BY_SAMPLES = (Split(BATCH, "data"),)


def lower(graph: Graph, plan: Plan, context: Context) -> Program:
    """The Program of a plan: a role for each device of its pipeline, whose ranks are a mesh.

    A plan without a table of buckets gets those of `with_buckets`.
    """
    return lower_apart(graph, plan, context).program()


def lower_apart(graph: Graph, plan: Plan, context: Context) -> Lowered:
    """The same before its arrays share memory: enough to simulate it."""
    return lower_general(graph, _split(graph, plan), context)


def with_buckets(graph: Graph, plan: Plan, context: Context) -> Plan:
    """The plan with the table of what is summed together, and how: the last decision, which follows from all others."""
    return plan.with_(buckets=bucket_table(setting(graph, _split(graph, plan.with_(buckets=())), context)))


def unfit_buckets(graph: Graph, plan: Plan, context: Context) -> Iterator[str]:
    """What stands against the buckets of a plan that is given, in words."""
    return bucket_faults(setting(graph, _split(graph, plan), context))


def _split(graph: Graph, plan: Plan) -> Plan:
    """A plan on the axis `data` alone that splits no op splits each that has samples by these."""
    if tuple(name for name, _ in plan.mesh) == ("data",) and not any(op.partition for op in plan.ops):
        ops = (replace(op, partition=BY_SAMPLES if _batched(graph, op.address) else ()) for op in plan.ops)
        plan = plan.with_(ops=tuple(ops))
    return plan


def _batched(graph: Graph, address: str) -> bool:
    node = graph.node(address)
    return any(graph.type(name).batched for name in (*node.inputs, *node.outputs))
