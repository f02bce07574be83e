"""`dlc diff`: what two plans decide differently."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

from dlc.inspect.plan_table import PASSES, partition, strategy
from dlc.inspect.tables import table
from dlc.ir.plan import Plan
from dlc.units import format_bytes, format_seconds


@dataclass(frozen=True, slots=True)
class Difference:
    """One fact that two plans do not share: of the whole plan (`where` is ""), an op, or an allreduce."""

    where: str
    what: str
    before: str
    after: str


def differences(before: Plan, after: Plan) -> tuple[Difference, ...]:
    """The differences: of the whole first, then op by op, then allreduce by allreduce; figures only of the whole."""
    return (
        *_compared("", _whole(before), _whole(after)),
        *_each(_ops(before), _ops(after)),
        *_each(_buckets(before), _buckets(after)),
    )


def _each(before: Mapping[str, dict[str, str]], after: Mapping[str, dict[str, str]]) -> Iterator[Difference]:
    """The differences by address or name, in the order of the first plan, then what only the second one has."""
    for where in dict.fromkeys((*before, *after)):
        yield from _compared(where, before.get(where, {}), after.get(where, {}))


def _compared(where: str, before: dict[str, str], after: dict[str, str]) -> Iterator[Difference]:
    for what in dict.fromkeys((*before, *after)):
        one, other = before.get(what, ""), after.get(what, "")
        if one != other:
            yield Difference(where, what, one, other)


def _whole(plan: Plan) -> dict[str, str]:
    return {
        "network": plan.network,
        "cluster": plan.cluster,
        "spec": dict(plan.digests).get("spec", "")[:12],
        "parameters": ", ".join(f"{name} = {value}" for name, value in plan.parameters),
        "strategy": strategy(plan),
        "predicted step": format_seconds(plan.predicted.step_seconds),
        "predicted peak": format_bytes(plan.predicted.peak_bytes),
        "lower bound": format_seconds(plan.bounds.step),
    }


def _ops(plan: Plan) -> dict[str, dict[str, str]]:
    return {
        op.address: {
            "layout": op.layout,
            "partition": partition(op, plan),
            **{stage: op.algorithm(stage) for stage in PASSES},
            "reason": str(op.reason),
            "layout's reason": str(op.layout_reason),
        }
        for op in plan.ops
    }


def _buckets(plan: Plan) -> dict[str, dict[str, str]]:
    return {
        bucket.name: {
            "algorithm": bucket.algorithm,
            "values": str(len(bucket.members)),
            "size": format_bytes(bucket.bytes),
        }
        for bucket in plan.buckets
    }


def difference_document(found: tuple[Difference, ...]) -> dict[str, object]:
    """The differences as JSON; `where` is an op's address or an allreduce's name."""
    return {"equal": not found, "differences": [asdict(difference) for difference in found]}


def difference_text(found: tuple[Difference, ...], before: str, after: str) -> str:
    """One row a difference; ops that differ in the same way share one."""
    if not found:
        return f"{before} and {after} decide the same"
    alike: dict[tuple[str, str, str], list[str]] = {}
    for d in found:
        alike.setdefault((d.what, d.before, d.after), []).append(d.where or "the plan")
    rows = [(_places(where), what, one or "-", other or "-") for (what, one, other), where in alike.items()]
    return table(("where", "what", before, after), rows)


def _places(names: list[str]) -> str:
    """`c1.conv`, `c1.conv to f6.tanh (12)`."""
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]} ({len(names)})"
