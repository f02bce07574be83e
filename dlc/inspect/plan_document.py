"""`dlc plan --json`: a plan as one document; seconds and bytes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from dlc.inspect.communication import communication_document
from dlc.inspect.decisions import Splits, seconds, splits, strategy
from dlc.inspect.fusions import chains_document
from dlc.inspect.in_place import takeovers_document
from dlc.inspect.packs import packs_document
from dlc.ir.plan import Alternative, Bucket, OpPlan, Plan
from dlc.ir.request import Request, Rule

if TYPE_CHECKING:
    from dlc.inspect.background import Background
    from passes.planning.plan import Record


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


def plan_document(plan: Plan, request: Request | None = None, known: Background | None = None) -> dict[str, object]:
    """The plan as `dlc plan --json` prints it. `request` adds what the plan block reached, `known` the rest."""
    found = splits(plan)
    document: dict[str, object] = {
        "network": plan.network,
        "cluster": plan.cluster,
        "spec": plan.spec,
        "parameters": dict(plan.parameters),
        "ranks": plan.ranks,
        "batch": plan.batch,
        "strategy": strategy(plan),
        "mesh": dict(plan.mesh),
        "shards": [list(shard) for shard in plan.shards],
        "microbatches": plan.microbatches,
        "batches": plan.batches,
        "schedule": plan.schedule,
        "chunks": plan.chunks,
        "shard": plan.shard,
        "predicted": asdict(plan.predicted),
        "samples_per_second": plan.batch / plan.predicted.step_seconds if plan.predicted.step_seconds else None,
        "gap": plan.gap,
        "lower_bound_seconds": plan.bounds.step,
        "bounds": asdict(plan.bounds),
        "runner_up": None if plan.runner_up is None else _other(plan.runner_up, plan),
        "baselines": [_other(baseline, plan) for baseline in plan.baselines],
        "stages": [{**asdict(stage), "mesh": dict(stage.mesh)} for stage in plan.stages],
        "ops": [_op(op, found[op.address]) for op in plan.ops],
        "buckets": [_bucket(bucket) for bucket in plan.buckets],
        "sources": dict(plan.sources),
        "digests": dict(plan.digests),
    }
    if request is not None:
        document["rules"] = [asdict(reach) for reach in reaches(request)]
    if known is not None:
        document["memory_limit_bytes"] = known.limit
        document["communication"] = communication_document(known.exchanges)
        document["fusion"] = chains_document(known.chains)
        document["packs"] = packs_document(known.packs)
        document["in_place"] = takeovers_document(known.takeovers)
        document["search"] = None if known.record is None else search_document(known.record)
    return document


def search_document(record: Record) -> dict[str, object]:
    """How much there was to choose from, and how long each part of the planning took."""
    return {
        "variables": record.variables,
        "kinds": record.kinds,
        "options": record.options,
        "strategies": record.strategies,
        "solved": record.solved,
        "seconds": dict(record.seconds),
    }


def _other(other: Alternative, plan: Plan) -> dict[str, object]:
    """A plan that was not taken, and how many times longer it takes than this one, by J and by simulation."""
    return {
        **asdict(other),
        "ratio": ratio(other.objective, plan.predicted.objective),
        "simulated_ratio": ratio(other.simulated_seconds, plan.predicted.simulated_seconds),
    }


def ratio(value: float, other: float) -> float | None:
    """How many times `other` the value is; None where one of them is not known."""
    return value / other if value > 0 and other > 0 else None


def _op(op: OpPlan, found: Splits) -> dict[str, object]:
    """`algorithm` is the forward pass's; `passes` has all, with seconds, source and what bounds them."""
    return {
        "address": op.address,
        "algorithm": op.algorithm("forward"),
        "layout": op.layout,
        "partition": [{"axis": axis, "over": over} for axis, over in found],
        "passes": [{"pass": part.stage, "algorithm": part.algorithm, **asdict(part.figure)} for part in op.passes],
        "seconds": seconds(op),
        "stage": op.stage,
        "recompute": op.recompute,
        "microbatch": op.microbatch,
        "reason": str(op.reason),
        "layout_reason": str(op.layout_reason),
        "partition_reason": str(op.partition_reason),
    }


def _bucket(bucket: Bucket) -> dict[str, object]:
    return {
        "name": bucket.name,
        "stage": bucket.stage,
        "group": bucket.group,
        "members": list(bucket.members),
        "bytes": bucket.bytes,
        "algorithm": bucket.algorithm,
        **asdict(bucket.figure),
        "reason": str(bucket.reason),
    }
