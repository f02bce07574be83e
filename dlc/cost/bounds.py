"""Lower bounds on a training step, whatever the plan: cost-models.md §5, last line."""

from __future__ import annotations

from dlc.cluster.topology import Cluster
from dlc.cost.communication import allreduce_bound
from dlc.cost.phases import phases
from dlc.ir.graph import Graph, Node
from dlc.ir.plan import Bounds
from dlc.ops import operator
from dlc.ops.operator import Operator, Shapes


def bounds(graph: Graph, cluster: Cluster, ranks: int, dtype: str, reduced_bytes: int) -> Bounds:
    """Bounds in seconds for a training graph on the first `ranks` ranks of a cluster.

    Work is that of the legal algorithm with the fewest operations for each node, at all ranks' peak together; memory
    traffic touches each operand of each node once, at all ranks' bandwidth together; `reduced_bytes` are summed over
    the ranks; the longest dependency path takes one operation after another at the fastest rank's peak.
    """
    devices = [cluster.device_of(rank) for rank in range(ranks)]
    everyone = tuple(range(ranks))
    slowest = min(devices, key=lambda device: device.bandwidth)
    least = [_least(graph, node) for node in graph.nodes]
    return Bounds(
        work=sum(flops for flops, _ in least) / sum(device.peak(dtype) for device in devices),
        memory_traffic=sum(size for _, size in least) / sum(device.bandwidth for device in devices),
        communication=0.0 if ranks == 1 else allreduce_bound(reduced_bytes, everyone, cluster, slowest),
        depth=_depth(graph) / max(device.peak(dtype) for device in devices),
    )


def _least(graph: Graph, node: Node) -> tuple[float, float]:
    """(flops, bytes) that every way to compute a node has in common."""
    op, shapes = _operator(node), _shapes(graph, node)
    names = [a.name for a in op.algorithms if a.excluded(node.stage, shapes) is None and "cpu" in a.devices] or [""]
    work = min(sum(part.flops for part in phases(op, node.stage, shapes, name, "NCHW")) for name in names)
    return work, op.cost(node.stage, shapes).bytes


def _depth(graph: Graph) -> int:
    """D: the most operations on any path through the graph."""
    at: dict[str, int] = {}
    deepest = 0
    for node in graph.nodes:
        depth = _operator(node).cost(node.stage, _shapes(graph, node)).depth
        depth += max((at.get(name, 0) for name in node.inputs), default=0)
        at.update((name, depth) for name in node.outputs)
        deepest = max(deepest, depth)
    return deepest


def _operator(node: Node) -> Operator:
    found = operator(node.op)
    if found is None:
        raise ValueError(f"{node.address} has the unknown operator {node.op}")
    return found


def _shapes(graph: Graph, node: Node) -> Shapes:
    inputs, outputs = (tuple(map(graph.type, names)) for names in (node.inputs, node.outputs))
    return Shapes(inputs, outputs, dict(node.attrs))
