"""The decisions of a plan in words: how the ranks share the work, what each op splits, and why."""

from __future__ import annotations

from collections.abc import Mapping

from dlc.inspect.tables import percent
from dlc.ir.plan import Figure, OpPlan, Plan
from dlc.units import format_bytes, format_count, format_seconds

SCHEDULES: Mapping[str, str] = {
    "gpipe": "GPipe",
    "one_f_one_b": "1F1B",
    "interleaved": "interleaved 1F1B",
    "zero_bubble": "ZB-H1",
}
"""Schedules of a pipeline by the names of their papers."""

SHARDS: Mapping[str, str] = {
    "none": "",
    "optimizer": "optimizer state sharded (ZeRO 1)",
    "gradients": "optimizer state and gradients sharded (ZeRO 2)",
    "weights": "optimizer state, gradients and weights sharded (ZeRO 3)",
}

Splits = tuple[tuple[str, str], ...]
"""(axis, mesh axis) of everything that an op splits."""


def data_parallel(plan: Plan) -> bool:
    """Whether all that a plan splits is the batch: its ops then leave their partitions empty."""
    alone = not plan.stages and plan.microbatches == 1 and plan.shard == "none"
    return alone and {name for name, _ in plan.mesh} <= {"data"} and not any(op.partition for op in plan.ops)


def strategy(plan: Plan) -> str:
    """`2 ranks, data parallel, batch 32 as 2 x 16`, `64 ranks as data 8 x model 8, batch 512`."""
    if plan.ranks == 1:
        return f"1 rank, {division(plan)}"
    return f"{plan.ranks:,} ranks{',' if data_parallel(plan) else ' as'} {division(plan)}"


def division(plan: Plan) -> str:
    """How the ranks, however many, share the work: `data 8 x model 8, batch 512`."""
    batch = f"batch {plan.batch:,}"
    if data_parallel(plan) and plan.ranks > 1:
        return f"data parallel, {batch} as {_shares(plan)}"
    mesh = " x ".join(f"{name} {extent:,}" for name, extent in plan.mesh if extent > 1)
    again = sum(op.recompute for op in plan.ops)
    parts = (
        mesh,
        f"{batch}{_microbatches(plan)}",
        f"{plan.batches:,} batches an update" if plan.batches > 1 else "",
        _pipeline(plan) if plan.stages else "",
        SHARDS[plan.shard],
        f"{again:,} of {len(plan.ops):,} ops recomputed" if again else "",
    )
    return ", ".join(filter(None, parts))


def _shares(plan: Plan) -> str:
    """`2 x 16`, `1 x 9 + 3 x 8`."""
    extents = [stop - start for start, stop in plan.shards]
    runs = [(extents.count(extent), extent) for extent in dict.fromkeys(extents)]
    return " + ".join(f"{number} x {extent}" for number, extent in runs)


def _microbatches(plan: Plan) -> str:
    count = plan.microbatches
    return f" in {count:,} microbatches of {plan.batch // count:,}" if count > 1 else ""


def _pipeline(plan: Plan) -> str:
    chunks = f" with {plan.chunks} chunks a device" if plan.chunks > 1 else ""
    return f"{len(plan.stages):,} stages by {SCHEDULES.get(plan.schedule, plan.schedule)}{chunks}"


def summary(plan: Plan) -> str:
    """Network, cluster, ranks, shards and the predicted step in two lines."""
    predicted = plan.predicted
    return (
        f"{plan.network} on {plan.cluster}: {strategy(plan)}\n"
        f"predicted: {format_seconds(predicted.step_seconds)} a step ({shares_of_step(plan)}), "
        f"{format_bytes(predicted.peak_bytes)} at the peak of a rank"
    )


def shares_of_step(plan: Plan) -> str:
    """`computing 1.2 ms, communication 0.3 ms`: what a step's seconds are made of."""
    predicted = plan.predicted
    parts = (
        ("computing", predicted.compute_seconds),
        ("conversions", predicted.conversion_seconds),
        ("communication", predicted.communication_seconds),
        ("bubble", predicted.bubble_seconds),
        ("the step itself", predicted.own_seconds),
    )
    return ", ".join(f"{what} {format_seconds(value)}" for what, value in parts if value)


def per_second(plan: Plan) -> str:
    """`7,633`: samples."""
    speed = plan.batch / plan.predicted.step_seconds
    return format_count(round(speed)) if speed >= 100 else format_count(speed)


def splits(plan: Plan) -> dict[str, Splits]:
    """Address -> everything that an op splits; in a data-parallel plan that is the batch."""
    if data_parallel(plan):
        batch = tuple(("batch", name) for name, extent in plan.mesh if name == "data" and extent > 1)
        return {op.address: batch for op in plan.ops}
    return {op.address: tuple((part.axis, part.over) for part in op.partition) for op in plan.ops}


def partition(found: Splits) -> str:
    """What is split over which mesh axis, in the language's words; `replicate` where nothing is."""
    return ", ".join(f"split({axis}, over = {over})" for axis, over in found) or "replicate"


def short_partition(found: Splits) -> str:
    """`batch/data feature/model`: the same in few letters, for tables."""
    return " ".join(f"{axis}/{over}" for axis, over in found) or "replicate"


def source(figure: Figure) -> str:
    """Where a figure comes from and, where something was measured, how far it may be off: `interpolated 12 %`.

    What nothing was measured for may take 1.7 times as long, or as short.
    """
    return figure.source if figure.source == "analytic" else f"{figure.source} {percent(figure.spread)}"


def seconds(op: OpPlan) -> float:
    """All passes of an op on the slowest rank, for one microbatch."""
    return sum(part.figure.seconds for part in op.passes)


def reason(op: OpPlan) -> str:
    """Who decided: once where algorithm, layout and partition have the same reason, else each of them; what had no
    choice is left out where something else had."""
    asked = (
        ("algorithm", op.reason, any(part.algorithm for part in op.passes)),
        ("layout", op.layout_reason, bool(op.layout)),
        ("partition", op.partition_reason, bool(op.partition)),
    )
    decided = [(what, why) for what, why, meant in asked if meant]
    chosen = [(what, why) for what, why in decided if why.kind != "only"] or decided
    found: dict[str, list[str]] = {}
    for what, why in chosen:
        found.setdefault(str(why), []).append(what)
    if len(found) < 2:
        return next(iter(found), "")
    (first, _), *others = found.items()
    return "; ".join([first, *(f"{' and '.join(what)} {why}" for why, what in others)])
