"""The stages of a pipeline: what is in them, how long a microbatch takes in each, and how long each is idle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import prod

from dlc.inspect.folding import ranges
from dlc.inspect.tables import percent, table
from dlc.ir.plan import Plan, Stage
from dlc.units import format_bytes, format_seconds


@dataclass(frozen=True, slots=True)
class StageRow:
    """One stage with its ops; `idle` is the share of a step in which its device waits."""

    stage: Stage
    ops: tuple[str, ...]
    idle: float

    @property
    def ranks(self) -> int:
        """How many ranks work on it."""
        return prod(extent for _, extent in self.stage.mesh)


def stage_rows(plan: Plan) -> tuple[StageRow, ...]:
    """The stages in order; none without a pipeline."""
    if not plan.stages:
        return ()
    ops: list[list[str]] = [[] for _ in plan.stages]
    for op in plan.ops:
        ops[op.stage].append(op.address)
    devices = len({stage.first for stage in plan.stages})
    step = plan.predicted.step_seconds
    busy = [
        plan.microbatches * sum(s.forward + s.backward + s.weights for s in plan.stages[device::devices])
        for device in range(devices)
    ]
    return tuple(
        StageRow(stage, tuple(inside), max(0.0, 1.0 - busy[stage.index % devices] / step) if step else 0.0)
        for stage, inside in zip(plan.stages, ops, strict=True)
    )


def stages_text(plan: Plan) -> str:
    """One row a stage; neighbours with the same figures share one."""
    rows = [(_cells(row), row) for row in stage_rows(plan)]
    groups = [(cells, [row for _, row in group]) for cells, group in groupby(rows, key=lambda pair: pair[0])]
    shown = [(*_where(members), *cells) for cells, members in groups]
    apart = any(stage.weights for stage in plan.stages)
    passes = ("forward", "backward", "weights") if apart else ("forward", "backward")
    if not apart:
        shown = [(*row[:5], *row[6:]) for row in shown]
    header = ("stage", "ranks", "ops", *passes, "send", "idle", "memory")
    return table(header, shown, right=range(3, len(header)))


def _where(rows: Sequence[StageRow]) -> tuple[str, str, str]:
    first = min(row.stage.first for row in rows)
    end = max(row.stage.first + row.ranks for row in rows)
    inside = [address for row in rows for address in row.ops]
    return ranges(row.stage.index for row in rows), ranges(range(first, end)), span_of(inside)


def span_of(addresses: Sequence[str]) -> str:
    """`stem.conv to stage1[2].add (38)`."""
    if not addresses:
        return "none"
    if len(addresses) == 1:
        return addresses[0]
    return f"{addresses[0]} to {addresses[-1]} ({len(addresses):,})"


def _cells(row: StageRow) -> tuple[str, ...]:
    return tuple(_figures(row))


def _figures(row: StageRow) -> Iterator[str]:
    stage = row.stage
    for seconds in (stage.forward, stage.backward, stage.weights, stage.send):
        yield format_seconds(seconds)
    yield percent(row.idle)
    yield format_bytes(stage.peak_bytes)
