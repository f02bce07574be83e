"""A solved strategy as a Plan: every decision by address, with the figures behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from dlc.cost.compute import seconds, step_work
from dlc.cost.profile import interval
from dlc.ir.mesh import shards
from dlc.ir.plan import OpPlan, PassPlan, Plan, Prediction, Reason, Stage
from dlc.ir.request import Split
from dlc.ir.tensor import BATCH, Axis, TensorType
from dlc.ops.operator import Shapes
from dlc.units import format_seconds
from passes.context import Context
from passes.options import Rules
from passes.planning.network import Operands, OpKind
from passes.planning.partitions import local_extents
from passes.planning.parts import scratch_bytes
from passes.planning.solve import Solved
from passes.planning.space import Space
from passes.planning.step import Finished

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Integers = NDArray[np.int64]


@dataclass(slots=True)
class _Writer:
    """Decisions of ops that are of one kind and do the same are found once."""

    found: Space
    solved: Solved

    def op(self, variable: int, stage: int, recomputed: bool, checkpoint: bool) -> OpPlan:
        """The decisions for one op."""
        net = self.found.network
        kind, option = net.kinds[net.variables[variable]], int(self.solved.values[variable])
        assert isinstance(kind, OpKind)
        table = self.solved.tables.op(kind)
        layout, row = table.layouts[option % len(table.layouts)], int(table.rows[option // len(table.layouts)])
        spent = self.found.prices.of(kind)
        parts = int(spent.parts[spent.layouts.index(layout), row])
        key, known = (kind.index, row, layout, parts), self.found.passes
        if key not in known:
            known[key] = tuple(self._pass(kind, each, row, layout, parts) for each in kind.passes)
        address = net.addresses[variable]
        cut = table.partition(option // len(table.layouts))
        names = self.solved.strategy.inner.names
        return OpPlan(
            address,
            layout,
            tuple(part for part in known[key] if part.stage in ("forward", "dx", "dw")),
            tuple(Split(axis, over) for axis, over in zip(cut, names, strict=True) if axis),
            _reason(self.found.prices.rules, address, "algorithm", len(kind.operator.algorithms) > 1),
            _reason(self.found.prices.rules, address, "layout", len(table.layouts) > 1),
            stage,
            recomputed,
            parts,
            partition_reason=_reason(self.found.prices.rules, address, "partition", len(table.codes) > 1),
            checkpoint=checkpoint,
        )

    def _pass(self, kind: OpKind, each: Operands, row: int, layout: str, parts: int) -> PassPlan:
        """The cheapest algorithm of a pass on the rank with most of the op, which goes through its samples in parts."""
        prices = self.found.prices
        own = prices.rows[kind.indexing.axes][row : row + 1]
        shapes = Shapes(
            tuple(_local(local_extents(kind, role, own), kind.types[role], parts) for role in each.inputs),
            tuple(_local(local_extents(kind, role, own), kind.types[role], parts) for role in each.outputs),
            dict(each.node.attrs),
        )
        stage, most = each.node.stage, prices.rules.workspace
        figures = {
            name: seconds(kind.operator, stage, shapes, name, layout, prices.device, prices.profile)
            for name in prices.legal(kind)[stage, layout]
            if most is None or scratch_bytes(kind.operator, stage, shapes, name, layout, 1)[0] <= most
        }
        local = dict(zip((*each.inputs, *each.outputs), (*shapes.inputs, *shapes.outputs), strict=True))

        def taken(name: str) -> float:
            alone = figures[name].seconds
            fused = stage in kind.chains and parts == 1
            return alone - float(prices.saving(kind, each, local, name, layout, alone).max()) if fused else alone

        name = min(figures, key=taken)
        figure = figures[name]
        return PassPlan(stage, name, replace(figure, seconds=parts * figure.seconds) if parts > 1 else figure)


def _local(extents: Mapping[str, int | Integers], type_: TensorType, parts: int) -> TensorType:
    """A tensor in the only row of these extents."""

    def at(name: str) -> int:
        extent = extents[name]
        local = extent if isinstance(extent, int) else int(extent[0])
        return -(-local // parts) if name == BATCH else local

    return TensorType(type_.dtype, tuple(Axis(axis.name, at(axis.name)) for axis in type_.axes))


def _reason(rules: Rules, address: str, key: str, several: bool) -> Reason:
    pin = rules.pin(address, key)
    if pin is not None:
        return Reason("pinned", pin.span.place)
    span = rules.request.span(key)
    if key == "layout" and span is not None and rules.request.layout != "auto":
        return Reason("pinned", span.place)
    return Reason("chosen" if several else "only")


def op_plans(found: Space, step: Finished) -> tuple[OpPlan, ...]:
    """The decisions for every op."""
    writer, stages = _Writer(found, step.solved), list[int]()
    for index, (first, end) in enumerate(pairwise(step.bounds)):
        stages.extend([index] * (end - first))
    again, begins = step.recomputed, {first for first, _ in step.again}
    return tuple(writer.op(i, stage, i in again, i in begins) for i, stage in enumerate(stages))


def stage_plans(step: Finished) -> tuple[Stage, ...]:
    """The stages of a pipeline: their ranks, their seconds for one microbatch, the bytes of their device."""
    strategy = step.strategy
    if strategy.stages == 1:
        return ()
    ranks, again, found = strategy.inner.ranks, sorted(step.recomputed), list[Stage]()
    for index, (first, end) in enumerate(pairwise(step.bounds)):
        device, part = index % strategy.stages, slice(first, end)
        costs = step.own[device] if step.own else step.repeated or step.solved.line
        send = step.sends[index] if index < len(step.sends) else 0.0
        twice = [op for op in again if first <= op < end] if step.own else []  # else they are in the costs
        found.append(
            Stage(
                index,
                device * ranks,
                strategy.inner.axes,
                float(costs.forward[part].sum()),
                float(costs.backward[part].sum()) + sum(float(costs.forward[op]) for op in twice),
                float(costs.weights[part].sum()),
                send,
                step.peaks[device],
            )
        )
    return tuple(found)


def data_parallel(found: Space, ops: tuple[OpPlan, ...], step: Finished) -> bool:
    """Whether a step does nothing but split the batch: then its Plan has one mesh axis, and no partitions.

    Not where the request names mesh axes of its own, or an allreduce that goes over several axes.
    """
    strategy, request = step.strategy, found.context.request
    if strategy.stages > 1 or strategy.microbatches * found.batches > 1 or strategy.shard != "none" or step.recomputed:
        return False
    if request.allreduce == "hierarchical" or any(axis.name != "data" for axis in request.mesh if axis.extent > 1):
        return False
    whole = [BATCH] * len(strategy.inner.axes)
    return all(
        [split.axis for split in op.partition] == (whole if _batched(found, op.address) else []) and op.microbatch == 1
        for op in ops
    )


def _batched(found: Space, address: str) -> bool:
    """Whether an op reads or makes samples."""
    node = found.graph.node(address)
    return any(found.graph.type(name).batched for name in (*node.inputs, *node.outputs))


def _shards(batch: int, ranks: int, shares: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """(start, stop) of each rank's samples: even, or in these shares."""
    return tuple(pairwise(accumulate(shares, initial=0))) if shares else shards(batch, ranks)


def _as_data_parallel(found: Space, plan: Plan, shares: tuple[int, ...]) -> Plan:
    """The same decisions in the terms of data parallelism."""
    graph, context = found.graph, found.context
    forward = {node.address for node in graph.forward}
    ops = tuple(replace(op, partition=()) for op in plan.ops if op.address in forward)
    return plan.with_(
        mesh=(("data", context.ranks),),
        shards=_shards(graph.batch, plan.ranks, shares),
        ops=ops,
    )


def _sources(context: Context) -> tuple[tuple[str, str], ...]:
    """Where the figures behind the prices come from."""
    kernels = "dlc/cost/gpu.py" if context.cluster.device_of(0).kind != "cpu" else "dlc/cost/compute.py"
    step = step_work(context.cluster.device_of(0), context.profile)
    return (
        ("bandwidth", f"cluster {context.cluster.name}"),
        ("collectives", "dlc/cluster/rounds.py"),
        ("kernels", f"profile of {context.profile.device}" if context.profile else f"analytic, {kernels}"),
        ("latency", f"cluster {context.cluster.name}"),
        ("peak", f"cluster {context.cluster.name}"),
        *((("step", f"{step.source}, {format_seconds(step.seconds)} besides its ops"),) if step.seconds else ()),
    )


def conversion_seconds(found: Space, step: Finished) -> float:
    """Seconds of a step in which images are copied from one layout to another, on the stage with most of them."""
    import numpy as np

    net, solved, stages = found.network, step.solved, step.strategy.stages
    copies, known = np.zeros(len(net.addresses)), dict[tuple[int, int, int], float]()
    for source, target, number in net.edges:
        key = number, int(solved.values[source]), int(solved.values[target])
        if key not in known:
            known[key] = solved.tables.copied(net.edge_kinds[number], *key[1:])
        copies[net.makers[source]] += known[key]
    parts = [float(copies[first:end].sum()) for first, end in pairwise(step.bounds)]
    most = max(sum(parts[device::stages]) for device in range(stages))
    return step.strategy.microbatches * found.batches * most


def apply(found: Space, step: Finished, gap: float) -> Plan:
    """The Plan of a finished step but for its buckets; what it is compared with is added by who compares."""
    graph, context, strategy, parts = found.graph, found.context, step.strategy, step.parts
    conversions = conversion_seconds(found, step)
    prediction = Prediction(
        parts.objective,
        step.peak,
        parts.objective,
        parts.compute + parts.update + parts.recomputed,
        conversions,
        parts.moves - conversions + parts.sums,
        parts.bubble,
        0.0,
        *interval(parts.objective, context.profile),
    )
    ops = op_plans(found, step)
    plan = Plan(
        network=graph.name,
        cluster=context.cluster.name,
        ranks=context.ranks,
        batch=graph.batch,
        mesh=strategy.axes or (("data", 1),),
        shards=shards(graph.batch, strategy.inner.extent("data")) if strategy.axes else ((0, graph.batch),),
        ops=ops,
        buckets=(),
        predicted=prediction,
        bounds=found.bounds,
        threads=found.device.cores if found.device.kind == "cpu" else 1,
        kernels=found.device.kernels,
        stages=stage_plans(step),
        schedule=strategy.schedule if strategy.stages > 1 else "",
        microbatches=strategy.microbatches,
        chunks=strategy.chunks,
        shard=strategy.shard,
        batches=found.batches,
        gap=gap,
        sources=_sources(context),
    )
    return _as_data_parallel(found, plan, strategy.shares) if data_parallel(found, ops, step) else plan
