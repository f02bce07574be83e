"""`dlc plan`: the decisions, repeated blocks in one row, what they are predicted to cost, and what they are compared
with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from dlc.inspect.communication import communication_text
from dlc.inspect.decisions import (
    Splits,
    data_parallel,
    per_second,
    reason,
    seconds,
    shares_of_step,
    short_partition,
    source,
    splits,
    strategy,
    summary,
)
from dlc.inspect.folding import Fold, folded, ranges
from dlc.inspect.fusions import chains_text
from dlc.inspect.in_place import takeovers_line
from dlc.inspect.packs import packs_text
from dlc.inspect.plan_document import plan_document, ratio, reaches
from dlc.inspect.stages import stages_text
from dlc.inspect.tables import percent, table
from dlc.ir.mesh import Mesh
from dlc.ir.plan import Alternative, Bucket, OpPlan, Plan
from dlc.ir.request import Request
from dlc.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from dlc.cluster.topology import Cluster
    from dlc.inspect.background import Background
    from passes.planning.plan import Record

__all__ = ["PASSES", "plan_document", "plan_text", "summary"]

PASSES = ("forward", "dx", "dw")


def plan_text(plan: Plan, request: Request | None = None, known: Background | None = None) -> str:
    """Summary, mesh, stages, ops, communication, what the pins reached, and the comparison, each under its heading."""
    parts = [facts_text(plan, known)]
    if not data_parallel(plan):
        parts.append(mesh_text(plan, None if known is None else known.cluster))
    if plan.stages:
        parts.append(stages_text(plan))
    parts.append(ops_text(plan))
    if plan.buckets:
        parts.append(buckets_text(plan))
    if known is not None and sum(each.times for each in known.exchanges) > len(plan.buckets):
        parts.append(communication_text(known.exchanges))
    if known is not None and known.chains:
        parts.append(chains_text(known.chains))
    if known is not None and known.packs:
        parts.append(packs_text(known.packs))
    if request is not None and (request.pins or request.forbids):
        parts.append(rules_text(request))
    parts.append(bounds_text(plan))
    if plan.runner_up is not None or plan.baselines:
        parts.append(others_text(plan))
    if plan.sources:
        parts.append(table(("figure", "comes from"), plan.sources))
    return "\n\n".join(parts)


# --- the whole -----------------------------------------------------------------------------------------------------


def facts_text(plan: Plan, known: Background | None = None) -> str:
    """The strategy, and what a step takes: time, memory, how near to the best it is, and the search behind it."""
    rows = [*_times(plan), *_proof(plan, known), *_memory(plan, known), *_kernels(plan, known), *_search(known)]
    width = max(len(what) for what, _ in rows)
    lines = (f"{what:<{width}}  {text}" for what, text in rows)
    return "\n".join([f"{plan.network} on {plan.cluster}: {strategy(plan)}", *lines])


def _times(plan: Plan) -> Iterator[tuple[str, str]]:
    predicted = plan.predicted
    speed = f", {per_second(plan)} samples/s" if predicted.step_seconds else ""
    yield "predicted", f"{format_seconds(predicted.step_seconds)} a step ({shares_of_step(plan)}){speed}"
    if predicted.high_seconds:
        between = f"{format_seconds(predicted.low_seconds)} to {format_seconds(predicted.high_seconds)}"
        yield "interval", f"{between}, as far as the device is known"
    if predicted.simulated_seconds:
        times = ratio(predicted.simulated_seconds, predicted.step_seconds)
        of = "" if times is None else f", {times:.3g} times the prediction"
        yield "simulated", f"{format_seconds(predicted.simulated_seconds)} a step{of}"


def _proof(plan: Plan, known: Background | None) -> Iterator[tuple[str, str]]:
    if known is None or known.record is None:
        return
    yield "gap", proof(plan.gap)


PROVED = 1e-9
"""A gap below this is rounding."""


def proof(gap: float) -> str:
    """`proved best`, or by how much another plan may be faster."""
    if gap <= PROVED:
        return "proved best of all plans that were searched"
    return f"within {percent(gap)} of the best of all plans that were searched"


def _memory(plan: Plan, known: Background | None) -> Iterator[tuple[str, str]]:
    peak = plan.predicted.peak_bytes
    if known is None:
        yield "memory", f"{format_bytes(peak)} at the peak of a rank"
        return
    share = percent(peak / known.limit)
    yield "memory", f"{format_bytes(peak)} at the peak of a rank, {share} of {format_bytes(known.limit)}"
    if known.takeovers:
        yield "in place", takeovers_line(known.takeovers)


def _kernels(plan: Plan, known: Background | None) -> Iterator[tuple[str, str]]:
    if plan.kernels == "c":
        yield "kernels", "in C, compiled where the program runs"
    elif known is not None and not known.compiler:
        yield "kernels", 'NumPy\'s: there is no C compiler here, `pip install "dlc[c]"` brings one'


def _search(known: Background | None) -> Iterator[tuple[str, str]]:
    if known is not None and known.record is not None:
        yield "search", search_line(known.record)


def search_line(record: Record) -> str:
    """`175 ops and homes of 60 kinds, 4,302 options, 5 of 14 strategies solved; tables 0.2 s, search 1 s`."""
    times = ", ".join(f"{part} {format_seconds(spent)}" for part, spent in record.seconds.items())
    return (
        f"{record.variables:,} variables of {record.kinds:,} kinds, {record.options:,} options, "
        f"{record.solved:,} of {record.strategies:,} strategies solved; {times}"
    )


# --- the mesh ------------------------------------------------------------------------------------------------------


def mesh_text(plan: Plan, cluster: Cluster | None = None) -> str:
    """One row a mesh axis: its ranks, the link between them, and what ops split over it by their share of the time."""
    mesh, found = Mesh(plan.mesh), splits(plan)
    rows = [
        (name, f"{extent:,}", "" if cluster is None else _link(cluster, mesh, name), _uses(plan, found, name))
        for name, extent in plan.mesh
        if extent > 1
    ]
    return table(("mesh axis", "ranks", "over", "splits (share of the time computing)"), rows, right=(1,))


def _link(cluster: Cluster, mesh: Mesh, name: str) -> str:
    """The outermost link that a group of ranks along the axis crosses."""
    group = mesh.groups((name,))[0]
    if group[-1] >= cluster.ranks:
        return ""
    link = cluster.link_between(group[0], group[-1])
    return "" if link is None else link.name


def _uses(plan: Plan, found: dict[str, Splits], name: str) -> str:
    if name == "pipeline":
        return f"{len(plan.stages):,} stages"
    spent: Counter[str] = Counter()
    for op in plan.ops:
        what = " ".join(axis for axis, over in found[op.address] if over == name) or "nothing"
        spent[what] += seconds(op)  # type: ignore[assignment]
    total = sum(spent.values()) or 1.0
    ordered = sorted(spent.items(), key=lambda item: -item[1])
    return ", ".join(f"{what} {percent(share / total)}" for what, share in ordered)


# --- ops -----------------------------------------------------------------------------------------------------------


def ops_text(plan: Plan) -> str:
    """One row for ops that are decided alike in repeated blocks: layout, each pass with its algorithm and time, the
    time of all of them, and why. Partitions are shown where they are not the same for all ops."""
    found = splits(plan)
    alike = len(set(found.values())) < 2
    rows = {op.address: _op_row(op, "" if alike else short_partition(found[op.address])) for op in plan.ops}
    stage = {op.address: op.stage for op in plan.ops} if plan.stages else {}
    cells = [_fold_row(fold, rows[fold.addresses[0]], stage) for fold in folded(rows.items())]
    header = ("op", "", "stage", "layout", "partition", *PASSES, "time", "source", "reason")
    return table(header, cells, right=(1, 8))


def _fold_row(fold: Fold, row: tuple[str, ...], stage: dict[str, int]) -> tuple[str, ...]:
    stages = ranges(sorted({stage[address] for address in fold.addresses})) if stage else ""
    return (fold.name, fold.times, stages, *row)


SOURCES = ("measured", "interpolated", "analytic")
"""Of figures, the best first."""


def _op_row(op: OpPlan, divided: str) -> tuple[str, ...]:
    cells = {part.stage: f"{part.algorithm} {format_seconds(part.figure.seconds)}".strip() for part in op.passes}
    figures = sorted((part.figure for part in op.passes), key=lambda figure: figure.spread)
    sources = {figure.source: source(figure) for figure in figures}  # of one source, the widest
    again = {"forward": " twice"} if op.recompute else {}
    return (
        op.layout,
        divided,
        *(cells[stage] + again.get(stage, "") if stage in cells else "-" for stage in PASSES),
        format_seconds(seconds(op)),
        ", ".join(sources[name] for name in SOURCES if name in sources),
        reason(op),
    )


def bucket_title(plan: Plan, bucket: Bucket) -> str:
    """The name of a bucket, and in a pipeline the ranks' device."""
    return f"{bucket.name} of device {bucket.stage}" if plan.stages else bucket.name


def buckets_text(plan: Plan) -> str:
    """What a step sums over the ranks, in the order in which it begins."""
    rows = [
        (
            bucket_title(plan, bucket),
            f"{len(bucket.members)}",
            format_bytes(bucket.bytes),
            bucket.algorithm,
            format_seconds(bucket.figure.seconds),
            str(bucket.reason),
        )
        for bucket in plan.buckets
    ]
    return table(("sums", "values", "size", "algorithm", "time", "reason"), rows, right=(1, 2, 4))


def rules_text(request: Request) -> str:
    """What each pin and forbid reached."""
    rows = [
        (reach.place, f"{reach.kind} {reach.selector}", f"{reach.key} = {reach.value}", f"{reach.ops:,}")
        for reach in reaches(request)
    ]
    return table(("at", "rule", "setting", "ops reached"), rows, right=(3,))


# --- comparison ----------------------------------------------------------------------------------------------------


def comparison_text(plan: Plan) -> str:
    """The plan beside its lower bounds, the runner-up and the baselines."""
    others = plan.runner_up is not None or bool(plan.baselines)
    return "\n\n".join([bounds_text(plan), *([others_text(plan)] if others else [])])


def bounds_text(plan: Plan) -> str:
    """Times that no plan can be below, and how many times each the plan takes."""
    bounds, step = plan.bounds, plan.predicted.step_seconds
    rows = [
        (f"lower bound: {what}", format_seconds(value), times(step, value))
        for what, value in (
            ("work", bounds.work),
            ("memory traffic", bounds.memory_traffic),
            ("communication", bounds.communication),
            ("depth", bounds.depth),
        )
    ]
    return table(("compared with", "time", "plan / it"), rows, right=(1, 2))


def others_text(plan: Plan) -> str:
    """The runner-up and the plans that anyone would think of: how many times longer they take, by J and simulated."""
    others = [("runner-up", plan.runner_up)] if plan.runner_up else []
    rows = [
        _other_row(what, other, plan) for what, other in [*others, *(("baseline", each) for each in plan.baselines)]
    ]
    header = ("compared with", "strategy", "predicted", "it / plan", "simulated", "it / plan", "memory", "why not")
    return table(header, rows, right=(2, 3, 4, 5, 6))


def _other_row(what: str, other: Alternative, plan: Plan) -> tuple[str, ...]:
    predicted = plan.predicted
    return (
        what,
        other.description,
        format_seconds(other.objective) if other.objective else "",
        times(other.objective, predicted.objective) if other.objective else "",
        format_seconds(other.simulated_seconds) if other.simulated_seconds else "",
        times(other.simulated_seconds, predicted.simulated_seconds) if other.simulated_seconds else "",
        format_bytes(other.peak_bytes) if other.peak_bytes else "",
        other.note,
    )


def times(value: float, other: float) -> str:
    """`1.31`, `1,204`: how many times `other` the value is; `-` where that cannot be said."""
    found = ratio(value, other)
    if found is None:
        return "-"
    return f"{found:,.0f}" if found >= 100 else f"{found:.3g}"
