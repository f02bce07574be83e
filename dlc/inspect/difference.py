"""`dlc diff`: what two plans decide differently, and what that changes in the prediction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from dlc.inspect.decisions import partition, splits, strategy
from dlc.inspect.folding import folded
from dlc.inspect.plan_table import PASSES, PROVED, bucket_title
from dlc.inspect.stages import span_of, stage_rows
from dlc.inspect.tables import percent, table
from dlc.ir.plan import Plan
from dlc.units import format_bytes, format_seconds

Facts = dict[str, str]


@dataclass(frozen=True, slots=True)
class Difference:
    """One fact that two plans do not share: of the whole plan (`where` is ""), a stage, an op, or an allreduce.

    The seconds are those of the op (all passes, one microbatch) or of the allreduce in each plan, 0 elsewhere.
    """

    where: str
    what: str
    before: str
    after: str
    before_seconds: float = 0.0
    after_seconds: float = 0.0


def differences(
    before: Plan, after: Plan, fused: tuple[Mapping[str, Facts], Mapping[str, Facts]] = ({}, {})
) -> tuple[Difference, ...]:
    """The differences: of the whole first, then stage by stage, op by op, allreduce by allreduce.

    `fused` says of either plan's ops with which others they are one call.
    """
    seconds = _seconds(before), _seconds(after)
    return (
        *_compared("", _whole(before), _whole(after)),
        *_each(_stages(before), _stages(after), seconds),
        *_each(_ops(before, fused[0]), _ops(after, fused[1]), seconds),
        *_each(_buckets(before), _buckets(after), seconds),
    )


def _each(
    before: Mapping[str, Facts], after: Mapping[str, Facts], seconds: tuple[Mapping[str, float], Mapping[str, float]]
) -> Iterator[Difference]:
    """The differences by address or name, in the order of the first plan, then what only the second one has."""
    for where in dict.fromkeys((*before, *after)):
        times = tuple(known.get(where, 0.0) for known in seconds)
        yield from _compared(where, before.get(where, {}), after.get(where, {}), times)


def _compared(where: str, before: Facts, after: Facts, times: Sequence[float] = (0.0, 0.0)) -> Iterator[Difference]:
    for what in dict.fromkeys((*before, *after)):
        one, other = before.get(what, ""), after.get(what, "")
        if one != other:
            yield Difference(where, what, one, other, *times)


FIGURES = ("predicted step", "simulated step", "predicted peak", "lower bound", "gap")
"""What a plan says of itself; all else is decided, or given."""


def _whole(plan: Plan) -> Facts:
    predicted = plan.predicted
    return {
        "network": plan.network,
        "cluster": plan.cluster,
        "spec": dict(plan.digests).get("spec", "")[:12],
        "parameters": ", ".join(f"{name} = {value}" for name, value in plan.parameters),
        "strategy": strategy(plan),
        "mesh": " x ".join(f"{name} {extent}" for name, extent in plan.mesh),
        "microbatches": str(plan.microbatches),
        "schedule": plan.schedule + (f", {plan.chunks} chunks" if plan.chunks > 1 else ""),
        "shard": plan.shard,
        "kernels": plan.kernels,
        "recomputed ops": str(sum(op.recompute for op in plan.ops)),
        "predicted step": format_seconds(predicted.step_seconds),
        "simulated step": format_seconds(predicted.simulated_seconds) if predicted.simulated_seconds else "",
        "predicted peak": format_bytes(predicted.peak_bytes),
        "lower bound": format_seconds(plan.bounds.step),
        "gap": percent(plan.gap if plan.gap > PROVED else 0.0),
    }


def _stages(plan: Plan) -> dict[str, Facts]:
    return {
        f"stage {row.stage.index}": {
            "ops": span_of(row.ops),
            "mesh": " x ".join(f"{name} {extent}" for name, extent in row.stage.mesh) or "one rank",
        }
        for row in stage_rows(plan)
    }


def _ops(plan: Plan, fused: Mapping[str, Facts]) -> dict[str, Facts]:
    found = splits(plan)
    return {
        op.address: {
            "layout": op.layout,
            "partition": partition(found[op.address]),
            **{stage: op.algorithm(stage) for stage in PASSES},
            "recompute": "yes" if op.recompute else "no",
            **fused.get(op.address, {}),
            "reason": str(op.reason),
            "layout's reason": str(op.layout_reason),
            "partition's reason": str(op.partition_reason),
        }
        for op in plan.ops
    }


def _buckets(plan: Plan) -> dict[str, Facts]:
    return {
        bucket_title(plan, bucket): {
            "algorithm": bucket.algorithm,
            "values": str(len(bucket.members)),
            "size": format_bytes(bucket.bytes),
        }
        for bucket in plan.buckets
    }


def _seconds(plan: Plan) -> dict[str, float]:
    """Address or name of an allreduce -> its seconds."""
    ops = {op.address: sum(part.figure.seconds for part in op.passes) for op in plan.ops}
    return ops | {bucket_title(plan, bucket): bucket.figure.seconds for bucket in plan.buckets}


def difference_document(found: tuple[Difference, ...]) -> dict[str, object]:
    """The differences as JSON; `where` is an op's address, a stage, or an allreduce's name."""
    return {"equal": not found, "differences": [asdict(difference) for difference in found]}


def difference_text(found: tuple[Difference, ...], before: str, after: str) -> str:
    """One row a difference; ops that differ in the same way share one, with the sum of their times."""
    if not found:
        return f"{before} and {after} decide the same"
    alike: dict[tuple[str, str, str], list[Difference]] = {}
    for d in found:
        alike.setdefault((d.what, d.before, d.after), []).append(d)
    rows = [
        (
            _places([d.where or "the plan" for d in group]),
            what,
            one or "-",
            other or "-",
            _time([d.before_seconds for d in group]),
            _time([d.after_seconds for d in group]),
        )
        for (what, one, other), group in alike.items()
    ]
    return table(("where", "what", before, after, "time", "time then"), rows, right=(4, 5))


def _time(seconds: Sequence[float]) -> str:
    return format_seconds(sum(seconds)) if any(seconds) else ""


NAMED = 3
"""Up to so many folds of addresses are named one by one."""


def _places(names: list[str]) -> str:
    """`c1.conv`, `body[0..48].ffn.linear (48)`, `c1.conv to f6.tanh (12)`."""
    folds = folded((name, None) for name in names)
    count = f" ({len(names):,})" if len(names) > 1 else ""
    if len(folds) <= NAMED:
        return ", ".join(fold.name for fold in folds) + count
    return f"{names[0]} to {names[-1]}{count}"


def in_short(found: tuple[Difference, ...]) -> str:
    """What another plan decides otherwise, in a line: `mesh, shard, partition of 12 ops`; `nothing`."""
    whole = [d.what for d in found if not d.where and d.what not in ("strategy", "cluster", *FIGURES)]
    inside = Counter(d.what for d in found if d.where and _decided(d))
    stages = len({d.where for d in found if d.where.startswith("stage ")})
    parts = [*whole, *([f"{stages} stages"] if stages else [])]
    parts += [f"{what} of {count:,} {'op' if count == 1 else 'ops'}" for what, count in _of_ops(inside)]
    return ", ".join(parts) or "nothing"


def _decided(difference: Difference) -> bool:
    return "reason" not in difference.what and not difference.where.startswith("stage ")


def _of_ops(inside: Counter[str]) -> Iterator[tuple[str, int]]:
    """Layout and partition by themselves; the algorithms of all passes as one; allreduces not at all."""
    for what in ("partition", "layout", "recompute"):
        if inside[what]:
            yield what, inside[what]
    algorithms = max((inside[stage] for stage in PASSES), default=0)
    if algorithms:
        yield "algorithm", algorithms
