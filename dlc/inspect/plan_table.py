"""`dlc plan`: the decisions op by op, what they are predicted to cost, and what they are compared with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from dlc.inspect.tables import table
from dlc.ir.plan import Bucket, OpPlan, Plan
from dlc.ir.request import Request, Rule
from dlc.units import format_bytes, format_seconds

PASSES = ("forward", "dx", "dw")


@dataclass(frozen=True, slots=True)
class Reach:
    """How many ops a pin or forbid of the plan block reached, and where it stands."""

    kind: str  # pin or forbid
    selector: str
    key: str
    value: str
    place: str
    ops: int


def reaches(request: Request) -> tuple[Reach, ...]:
    """Every setting of every pin and forbid, in the order of the text."""
    rules = [("pin", rule) for rule in request.pins] + [("forbid", rule) for rule in request.forbids]
    rules.sort(key=lambda item: item[1].span)
    return tuple(
        Reach(kind, rule.selector, rule.key, _value(rule), rule.span.place, len(rule.addresses)) for kind, rule in rules
    )


def _value(rule: Rule) -> str:
    if isinstance(rule.value, tuple):
        return ", ".join(f"split({part.axis}, over = {part.over})" for part in rule.value) or "replicate"
    return ("yes" if rule.value else "no") if isinstance(rule.value, bool) else str(rule.value)


# --- for programs --------------------------------------------------------------------------------------------------


def plan_document(plan: Plan, request: Request | None = None) -> dict[str, object]:
    """The plan as `dlc plan --json` prints it; seconds and bytes. `request` adds what the plan block reached."""
    document: dict[str, object] = {
        "network": plan.network,
        "cluster": plan.cluster,
        "spec": plan.spec,
        "parameters": dict(plan.parameters),
        "ranks": plan.ranks,
        "batch": plan.batch,
        "mesh": dict(plan.mesh),
        "shards": [list(shard) for shard in plan.shards],
        "predicted": asdict(plan.predicted),
        "lower_bound_seconds": plan.bounds.step,
        "bounds": asdict(plan.bounds),
        "runner_up": None if plan.runner_up is None else asdict(plan.runner_up),
        "baselines": [asdict(baseline) for baseline in plan.baselines],
        "ops": [_op_document(op, plan) for op in plan.ops],
        "buckets": [_bucket_document(bucket) for bucket in plan.buckets],
        "sources": dict(plan.sources),
        "digests": dict(plan.digests),
    }
    if request is not None:
        document["rules"] = [asdict(reach) for reach in reaches(request)]
    return document


def _op_document(op: OpPlan, plan: Plan) -> dict[str, object]:
    """`algorithm` is the forward pass's; `passes` has all, with seconds, source and what bounds them."""
    return {
        "address": op.address,
        "algorithm": op.algorithm("forward"),
        "layout": op.layout,
        "partition": [{"axis": axis, "over": over} for axis, over in splits(op, plan)],
        "passes": [{"pass": part.stage, "algorithm": part.algorithm, **asdict(part.figure)} for part in op.passes],
        "seconds": seconds(op),
        "reason": str(op.reason),
        "layout_reason": str(op.layout_reason),
    }


def _bucket_document(bucket: Bucket) -> dict[str, object]:
    return {
        "name": bucket.name,
        "group": bucket.group,
        "members": list(bucket.members),
        "bytes": bucket.bytes,
        "algorithm": bucket.algorithm,
        **asdict(bucket.figure),
        "reason": str(bucket.reason),
    }


def splits(op: OpPlan, plan: Plan) -> tuple[tuple[str, str], ...]:
    """(axis, mesh axis) of everything that is split: the batch over the data axis, and what the op adds."""
    data = [("batch", name) for name, extent in plan.mesh if name == "data" and extent > 1]
    return (*data, *((part.axis, part.over) for part in op.partition))


def seconds(op: OpPlan) -> float:
    """All passes of an op on the slowest rank."""
    return sum(part.figure.seconds for part in op.passes)


# --- for people ----------------------------------------------------------------------------------------------------


def plan_text(plan: Plan, request: Request | None = None) -> str:
    """Summary, ops, communication, what the pins reached, and the comparison, each under its own heading."""
    parts = [summary(plan), ops_text(plan)]
    if plan.buckets:
        parts.append(buckets_text(plan))
    if request is not None and (request.pins or request.forbids):
        parts.append(rules_text(request))
    parts.append(comparison_text(plan))
    return "\n\n".join(parts)


def summary(plan: Plan) -> str:
    """Network, cluster, ranks, shards and the predicted step in two lines."""
    predicted = plan.predicted
    parts = [("computing", predicted.compute_seconds), ("conversions", predicted.conversion_seconds)]
    parts.append(("communication", predicted.communication_seconds))
    shares = ", ".join(f"{what} {format_seconds(value)}" for what, value in parts if value)
    return (
        f"{plan.network} on {plan.cluster}: {strategy(plan)}\n"
        f"predicted: {format_seconds(predicted.step_seconds)} a step ({shares}), "
        f"{format_bytes(predicted.peak_bytes)} at the peak of a rank"
    )


def strategy(plan: Plan) -> str:
    """`2 ranks, data parallel, batch 32 as 2 x 16`."""
    if plan.ranks == 1:
        return f"1 rank, batch {plan.batch}"
    extents = [stop - start for start, stop in plan.shards]
    runs = [(extents.count(extent), extent) for extent in dict.fromkeys(extents)]
    shares = " + ".join(f"{number} x {extent}" for number, extent in runs)
    return f"{plan.ranks} ranks, data parallel, batch {plan.batch} as {shares}"


def ops_text(plan: Plan) -> str:
    """One row an op: its layout, each pass with its algorithm and time, the time of all of them, and why.

    Partitions are shown where they are not the same for all ops.
    """
    alike = len({splits(op, plan) for op in plan.ops}) < 2
    rows = [_op_row(op, "" if alike else partition(op, plan)) for op in plan.ops]
    return table(("op", "layout", "partition", *PASSES, "time", "source", "reason"), rows, right=(6,))


def _op_row(op: OpPlan, divided: str) -> tuple[str, ...]:
    cells = {part.stage: f"{part.algorithm} {format_seconds(part.figure.seconds)}".strip() for part in op.passes}
    sources = dict.fromkeys(part.figure.source for part in op.passes)
    return (
        op.address,
        op.layout,
        divided,
        *(cells.get(stage, "-") for stage in PASSES),
        format_seconds(seconds(op)),
        ", ".join(sources),
        reason(op),
    )


def partition(op: OpPlan, plan: Plan) -> str:
    """What is split over which mesh axis, in the language's words."""
    return ", ".join(f"split({axis}, over = {over})" for axis, over in splits(op, plan))


def reason(op: OpPlan) -> str:
    """Who decided: once where algorithm and layout have the same reason, else each."""
    chosen = any(part.algorithm for part in op.passes)
    if not chosen:
        return str(op.layout_reason) if op.layout else ""
    if not op.layout or op.reason == op.layout_reason:
        return str(op.reason)
    return f"{op.reason}; layout {op.layout_reason}"


def buckets_text(plan: Plan) -> str:
    """The allreduces of a step, in the order in which they begin."""
    rows = [
        (
            bucket.name,
            f"{len(bucket.members)}",
            format_bytes(bucket.bytes),
            bucket.algorithm,
            format_seconds(bucket.figure.seconds),
            str(bucket.reason),
        )
        for bucket in plan.buckets
    ]
    return table(("allreduce", "values", "size", "algorithm", "time", "reason"), rows, right=(1, 2, 4))


def rules_text(request: Request) -> str:
    """What each pin and forbid reached."""
    rows = [
        (reach.place, f"{reach.kind} {reach.selector}", f"{reach.key} = {reach.value}", f"{reach.ops:,}")
        for reach in reaches(request)
    ]
    return table(("at", "rule", "setting", "ops reached"), rows, right=(3,))


def comparison_text(plan: Plan) -> str:
    """The plan beside its lower bounds, the runner-up and the baselines, as multiples of the plan's own objective."""
    return table(("compared with", "time", "plan / it", ""), list(_comparisons(plan)), right=(1, 2))


def _comparisons(plan: Plan) -> Iterator[tuple[str, str, str, str]]:
    step, bounds = plan.predicted.step_seconds, plan.bounds
    for what, bound in (
        ("lower bound: work", bounds.work),
        ("lower bound: memory traffic", bounds.memory_traffic),
        ("lower bound: communication", bounds.communication),
        ("lower bound: depth", bounds.depth),
    ):
        yield what, format_seconds(bound), _ratio(step, bound), ""
    if plan.runner_up is not None:
        other = plan.runner_up
        ratio = _ratio(plan.predicted.objective, other.objective)
        yield "runner-up", format_seconds(other.objective), ratio, other.description
    for other in plan.baselines:
        ratio = _ratio(plan.predicted.objective, other.objective)
        yield "baseline", format_seconds(other.objective), ratio, other.description


def _ratio(value: float, other: float) -> str:
    if other <= 0:
        return "-"
    ratio = value / other
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.3g}"
