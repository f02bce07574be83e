"""The table of buckets of a plan: made once all else is decided, and what stands against one that is given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Literal

from dlc.ir.plan import Bucket, Figure, Reason
from passes.lowering.buckets import Bucket as Summed
from passes.lowering.buckets import Total, alike, buckets_of, kind_of, totals_of
from passes.lowering.schedule import cells
from passes.lowering.setting import Setting

MEMORY_BOUND = 2**16
"""Bytes from which on it is bandwidth rather than calls and latency that a sum takes its time for."""


def bucket_table(setting: Setting) -> tuple[Bucket, ...]:
    """What each device of the pipeline sums in one collective, by which algorithm, and what that takes."""
    request = setting.context.request
    span = request.span("allreduce")
    pinned = Reason("pinned", span.place if span else "")
    found = list[Bucket]()
    for totals in _totals(setting):
        for made in buckets_of(setting, totals):
            if not made.axes:
                continue
            figure = _figure(setting, made)
            reason = Reason("chosen") if request.allreduce == "auto" or made.sharded else pinned
            members = tuple(total.value for total in made.members)
            stage = totals[0].stage % setting.devices
            group = "+".join(made.axes)
            found.append(Bucket(made.name, group, members, made.bytes, made.algorithm, figure, reason, stage))
    return tuple(found)


def _figure(setting: Setting, made: Summed) -> Figure:
    """What a bucket's sum takes; between sizes that were measured it is interpolated."""
    kind, algorithm = kind_of(made.sharded), made.algorithm
    seconds = setting.fabric.algorithms(kind, made.bytes, made.axes)[algorithm]
    bound: Literal["memory", "launch"] = "memory" if made.bytes > MEMORY_BOUND else "launch"
    spread = setting.fabric.spread(kind, algorithm, made.axes)
    return Figure(seconds, bound=bound) if spread is None else Figure(seconds, "interpolated", bound, spread)


def bucket_faults(setting: Setting) -> Iterator[str]:
    """What stands against the plan's own table, in words."""
    table = setting.plan.buckets
    for device, totals in enumerate(_totals(setting)):
        of = {total.value: total for total in totals if total.axes}
        given = [bucket for bucket in table if bucket.stage == device]
        if Counter(name for bucket in given for name in bucket.members) != Counter(of.keys()):
            yield "its buckets do not hold each gradient, loss and metric once"
            continue
        for bucket in given:
            yield from _unfit(setting, bucket, [of[name] for name in bucket.members])
    if len({(bucket.stage, bucket.name) for bucket in table}) < len(table):
        yield "two of its buckets have one name"
    if any(bucket.stage not in range(setting.devices) for bucket in table):
        yield "it has buckets of a stage that there is not"


def _unfit(setting: Setting, bucket: Bucket, members: list[Total]) -> Iterator[str]:
    if len({alike(setting, total) for total in members}) != 1:
        yield f"the members of `{bucket.name}` are not summed alike"
        return
    axes, kind = members[0].axes, kind_of(members[0].shard is not None)
    if bucket.group != "+".join(axes):
        yield f"`{bucket.name}` is summed over {'+'.join(axes)}, not over {bucket.group}"
    elif bucket.algorithm not in setting.fabric.algorithms(kind, bucket.bytes, axes):
        yield f"there is no {kind.replace('_', '-')} by {bucket.algorithm} over {bucket.group}"


def _totals(setting: Setting) -> Iterator[list[Total]]:
    """The totals of each device."""
    rows = cells(setting.plan, setting.devices, setting.context.hides)
    for device, row in enumerate(rows):
        stages = setting.cut.stages[device :: setting.devices]
        yield totals_of(setting, stages, separate=any(cell.phase == "W" for cell in row))
