"""Data parallelism: the batch in shards, gradients in buckets, and an allreduce for each bucket by cost."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

from dlc.cluster.collectives import shares_memory
from dlc.cluster.topology import Cluster, Device
from dlc.cost.communication import Transfer, allreduce_seconds, exposed
from dlc.diagnostics import DiagnosticError
from dlc.ir.graph import Graph
from dlc.ir.plan import Alternative, Bucket, Figure, Reason
from dlc.messages.e07_run import E0701, E0708
from passes.add_updates import weight_gradients
from passes.context import Context
from passes.lower_groups import spans_shards

FIRST_BUCKET_BYTES, BUCKET_BYTES = 2**20, 25 * 2**20
"""Capacities of the first bucket and of the others, as PyTorch's reducer has them. The first gradients leave early; at
25 MiB a message of 10 us latency spends less than 1 % of its time on it on any link up to 25 GB/s.
"""

MEMORY_BOUND = 2**16
"""Bytes from which on it is bandwidth rather than calls and latency that a sum takes its time for."""

ALGORITHMS = ("tree", "butterfly", "ring", "rabenseifner", "shared", "mpi")
"""Allreduce algorithms that emitted programs have, in the order that breaks ties."""


def shards(batch: int, ranks: int) -> tuple[tuple[int, int], ...]:
    """(start, stop) of each rank's samples: consecutive, extents differ by at most one, the larger ones first."""
    small, larger = divmod(batch, ranks)
    starts = [rank * small + min(rank, larger) for rank in range(ranks + 1)]
    return tuple(pairwise(starts))


def refuse_what_is_not_planned(graph: Graph, context: Context) -> None:
    """DiagnosticError E0701 for a strategy or allreduce without a backend, E0708 for ranks without a sample."""
    request, found = context.request, []
    if context.ranks > 1 and request.strategy.kind not in ("auto", "data"):
        help_ = "it emits data parallelism: `strategy = data` or `auto`"
        what = f"the strategy `{request.strategy.kind}`"
        found.append(E0701.at(request.strategy.span, helps=(help_,), backend="numpy", what=what))
    if request.allreduce not in ("auto", *ALGORITHMS):
        help_ = f"it emits {', '.join(ALGORITHMS[:-1])} and {ALGORITHMS[-1]}"
        what = f"the allreduce `{request.allreduce}`"
        found.append(E0701.at(request.span("allreduce"), helps=(help_,), backend="numpy", what=what))
    elif request.allreduce == "shared" and not shares_memory(tuple(range(context.ranks)), context.cluster):
        help_ = "it emits `shared` where all ranks are CPU cores of one innermost group"
        what = "the allreduce `shared` for ranks on several nodes"
        found.append(E0701.at(request.span("allreduce"), helps=(help_,), backend="numpy", what=what))
    if graph.batch < context.ranks:
        idle = context.ranks - graph.batch
        helps = (f"a batch of {context.ranks} or more, or `-n {graph.batch}`",)
        span = request.span("strategy")
        found.append(E0708.at(span, helps=helps, batch=graph.batch, idle=idle, ranks=context.ranks))
    if found:
        raise DiagnosticError(found)


def reduced_values(graph: Graph) -> tuple[str, ...]:
    """What is summed over the ranks each step: gradients as the backward pass completes them, then the loss, the
    metrics and the sums behind running averages."""
    position = {output: i for i, node in enumerate(graph.nodes) for output in node.outputs}
    gradients = sorted((gradient for _, gradient in weight_gradients(graph)), key=position.__getitem__)
    statistics = (name for node in graph.nodes if node.stage == "statistics" for name in node.outputs)
    scalars = (*((graph.loss,) if graph.loss else ()), *(value for _, value in graph.metrics))
    return (*gradients, *dict.fromkeys((*scalars, *statistics)))


Item = TypeVar("Item")


def packed(items: Iterable[tuple[Item, Hashable, float]]) -> list[list[Item]]:
    """Items, each with a key and its bytes, in buckets, in the order in which these begin: a bucket takes what comes of
    one key up to its capacity."""
    made: list[list[Item]] = []
    open_: dict[Hashable, tuple[list[Item], float, float]] = {}
    for item, key, size in items:
        members, held, capacity = open_.get(key, ([], 0.0, FIRST_BUCKET_BYTES))
        if members and held + size > capacity:
            members, held, capacity = [], 0.0, BUCKET_BYTES
        if not members:
            made.append(members)
        members.append(item)
        open_[key] = (members, held + size, capacity)
    return made


def grouped(graph: Graph) -> Iterator[tuple[str, ...]]:
    """The members of each bucket: gradients in reverse layer order up to its capacity, scalars in the last one."""
    values = reduced_values(graph)
    gradients = [name for name in values if "@grad" in name]
    *first, last = packed((name, None, graph.type(name).bytes) for name in gradients) or [[]]
    yield from map(tuple, first)
    yield (*last, *(name for name in values if "@grad" not in name))


@dataclass(frozen=True, slots=True)
class Reduction:
    """The buckets of a step, what they take besides the backward pass, and the next best allreduce."""

    buckets: tuple[Bucket, ...] = ()
    exposed: float = 0.0
    runner_up: Alternative | None = None  # its objective is the exposed time


def reduction(graph: Graph, context: Context, device: Device, ready: Mapping[str, float], backward: float) -> Reduction:
    """Buckets with the cheapest allreduce each, or the pinned one.

    `ready` maps a gradient to the second of the backward pass (of `backward` seconds) in which it is whole.
    """
    if context.ranks == 1:
        return Reduction()
    ranks, overlap = tuple(range(context.ranks)), 0.0 if context.request.overlap == "no" else device.overlap
    buckets, starts, others = list[Bucket](), list[float](), list[tuple[float, str, int]]()
    for index, members in enumerate(grouped(graph)):
        size = sum(graph.type(name).bytes for name in members)
        figures = {
            name: allreduce_seconds(name, size, ranks, context.cluster, device) for name in _allowed(context, ranks)
        }
        first, *rest = sorted(figures, key=lambda name: (figures[name], ALGORITHMS.index(name)))
        others.extend((figures[name], name, index) for name in rest[:1])
        figure = Figure(figures[first], "analytic", "memory" if size > MEMORY_BOUND else "launch")
        buckets.append(Bucket(f"bucket{index}", "data", members, size, first, figure, _reason(context)))
        starts.append(max((ready.get(name, 0.0) for name in members), default=0.0))

    def rest_of(changed: int | None = None, taken: float = 0.0) -> float:
        times = [taken if i == changed else bucket.figure.seconds for i, bucket in enumerate(buckets)]
        return exposed([Transfer(at, time) for at, time in zip(starts, times, strict=True)], backward, overlap)

    plans = [
        Alternative(f"{buckets[index].name} by {name}, not {buckets[index].algorithm}", rest_of(index, time))
        for time, name, index in others
    ]
    return Reduction(tuple(buckets), rest_of(), min(plans, key=lambda plan: plan.objective, default=None))


def _allowed(context: Context, ranks: tuple[int, ...]) -> tuple[str, ...]:
    if context.request.allreduce != "auto":
        return (context.request.allreduce,)
    return ALGORITHMS if shares_memory(ranks, context.cluster) else tuple(n for n in ALGORITHMS if n != "shared")


def _reason(context: Context) -> Reason:
    if context.request.allreduce == "auto":
        return Reason("chosen")
    span = context.request.span("allreduce")
    return Reason("pinned", span.place if span else "")


def group_seconds(graph: Graph, context: Context, device: Device, table: tuple[tuple[int, int], ...]) -> float:
    """What batch norms pay whose groups lie on several ranks: two sums forward, two backward, one row a group."""
    if context.ranks == 1:
        return 0.0
    total = 0.0
    for node in graph.nodes:
        if node.op != "bn" or node.stage not in ("forward", "dx"):
            continue
        group, x = node.attr("group"), graph.type(node.inputs[0])
        assert isinstance(group, int)
        if spans_shards(group, table, context):
            size = -(-graph.batch // group) * x.shape[1] * x.bytes // x.elements
            total += 2 * _butterfly(size, context.cluster, context.ranks, device)
    return total


def _butterfly(size: float, cluster: Cluster, ranks: int, device: Device) -> float:
    return allreduce_seconds("butterfly", size, tuple(range(ranks)), cluster, device)
