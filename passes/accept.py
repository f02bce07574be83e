"""Whether a plan that is given decides about this very graph, and asks for nothing but what there are kernels for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod

from dlc.ir.graph import Graph
from dlc.ir.mesh import shards
from dlc.ir.plan import OpPlan, Plan
from passes.context import Context
from passes.lower import unfit_buckets
from passes.options import Operation, candidates, operations, rules_of


def accept(graph: Graph, plan: Plan, context: Context) -> tuple[str, ...]:
    """What stands against the plan, in words; nothing for a plan that was made for the same spec."""
    return tuple(_decided(graph, plan, context)) or tuple(unfit_buckets(graph, plan, context))


def _decided(graph: Graph, plan: Plan, context: Context) -> Iterator[str]:
    """What stands against its mesh and the decisions about ops."""
    yield from _extents(graph, plan, context)
    planned = {op.address: op for op in plan.ops}
    layouts = {op.address: op.layout for op in plan.ops}
    found = {operation.address: operation for operation in operations(graph, layouts)}
    known = {node.address for node in graph.nodes if node.stage in ("forward", "loss", "metric")}
    for address in sorted((planned.keys() - known) | (found.keys() - planned.keys())):
        yield f"{address} is an op of the {'plan' if address in planned else 'network'} alone"
    pins = tuple(rule for rule in context.request.pins if rule.key == "algorithm")  # they allow what rounds more
    free = context.with_(request=replace(context.request, pins=pins, forbids=(), limits=(), layout="auto"))
    for address, operation in found.items():
        if address in planned:
            yield from _decisions(graph, operation, planned[address], free)
    if plan.mesh == (("data", plan.ranks),) and plan.ranks > 1 and not _cut(plan):
        yield from _data_parallel(graph, plan, context)


def _extents(graph: Graph, plan: Plan, context: Context) -> Iterator[str]:
    """The batch, and the mesh of the ranks."""
    if (plan.network, plan.batch) != (graph.name, graph.batch):
        yield f"it is for batches of {plan.batch} in `{plan.network}`, not of {graph.batch} in `{graph.name}`"
    elif plan.ranks != context.ranks or prod(extent for _, extent in plan.mesh) != plan.ranks:
        yield f"its mesh is none of {context.ranks} ranks"


def _decisions(graph: Graph, operation: Operation, planned: OpPlan, context: Context) -> Iterator[str]:
    """Layout and algorithms of one op."""
    largest = -(-graph.batch // context.ranks)
    rules = rules_of(context.request, context.exact, context.cluster.slowest(range(context.ranks)).kind)
    legal = {
        (candidate.node.stage, candidate.algorithm)
        for candidate in candidates(graph, operation, rules, largest)
        if candidate.layout == planned.layout
        and (candidate.excluded is None or not candidate.excluded.startswith("because"))
    }
    for node in operation.passes:
        if (node.stage, planned.algorithm(node.stage)) not in legal:
            how = " ".join(filter(None, (planned.algorithm(node.stage), "in", planned.layout or "no layout")))
            yield f"there is no kernel for {node.address} by {how}"


def _cut(plan: Plan) -> bool:
    """Whether anything is cut but the batch: a plan of data parallelism leaves the partitions of its ops empty."""
    whole = plan.microbatches == plan.batches == 1 and plan.shard == "none"
    return not whole or any(op.partition or op.recompute for op in plan.ops)


def _data_parallel(graph: Graph, plan: Plan, context: Context) -> Iterator[str]:
    """The ranks' shares of the batch."""
    alike = len({context.cluster.device_of(rank) for rank in range(context.ranks)}) == 1
    if alike and plan.shards != shards(graph.batch, plan.ranks):
        yield f"its shards are no even shares of {graph.batch} samples on {context.ranks} ranks"
