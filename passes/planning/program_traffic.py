"""Bytes that a Program sends in a step, and plans whose Programs, too, keep a limit on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf

from dlc.cluster.groups import of_ranks
from dlc.cluster.rounds import rounds
from dlc.cluster.topology import Cluster
from dlc.diagnostics import DiagnosticError
from dlc.ir.program import TRAIN_STEP, Collective, Program, Role, Send
from dlc.ir.storage import Storage, local, operand_bytes, placed
from dlc.messages.e05_plan import NO_PLAN
from dlc.units import format_bytes
from passes.context import Context
from passes.planning.plan import Planned
from passes.planning.traffic import sent

TIGHTER = 6
"""How often a limit on communication is lowered, where a Program sends more than the count of its plan."""


def keeping_to_it(
    context: Context, planned: Callable[[Context], Planned], sends: Callable[[Planned], float]
) -> Planned:
    """The plan under a context whose Program, too, keeps the limit on communication, if there is one.

    DiagnosticError E0527 where none was found.
    """
    limit = next((limit for limit in context.request.limits if limit.subject == "communication"), None)
    if limit is None:
        return planned(context)
    others = tuple(other for other in context.request.limits if other is not limit)
    allowed, least = limit.bound, inf
    for attempt in range(TIGHTER):
        limits = (*others, replace(limit, bound=allowed))
        try:
            made = planned(context.with_(request=replace(context.request, limits=limits)))
        except DiagnosticError:
            if attempt == 0:
                raise
            break
        size = sends(made)
        if size <= limit.bound:
            return made
        least, allowed = min(least, size), STEP * sent(made.space, made.step) * limit.bound / size
    order = f"`limit communication <= {format_bytes(int(limit.bound))}` by line {limit.span.line}"
    notes = (f"a device sends {format_bytes(int(least))} in the program that comes nearest",)
    raise DiagnosticError([NO_PLAN.at(limit.span, notes=notes, orders=order)])


STEP = 0.98
"""How far below the share of a plan's count that its Program would need the next limit is."""


def sent_by(program: Program, cluster: Cluster) -> float:
    """Bytes that the rank with most sends in a training step of a Program, by the rounds of its collectives."""
    members = {group.name: group.members for group in program.groups}
    most = 0.0
    for role in program.roles:
        parts = Storage(role, 0).microbatches
        bytes_ = 0.0
        for name, times in role.runs(TRAIN_STEP).items():
            for made in role.segment(name).instructions:
                if isinstance(made, Send):
                    bytes_ += times * local(role, role.buffer(made.buffer), role.largest_shard, parts).bytes
                elif isinstance(made, Collective):
                    bytes_ += times * _collective(role, made, members[made.group], cluster, parts)
        most = max(most, bytes_)
    return most


def _collective(
    role: Role, made: Collective, groups: tuple[tuple[int, ...], ...], cluster: Cluster, parts: int
) -> float:
    """Bytes that a rank sends in a collective at most: in each round one message of its share."""
    if made.kind == "halo":
        return 2.0 * made.bytes
    mine = tuple(group for group in groups if group[0] in role.ranks)
    size = float(operand_bytes(role, made, parts)) if placed(role, role.buffer(made.buffer)) else float(made.bytes)
    if made.algorithm == "shared":
        return 2.0 * size * (len(mine[0]) - 1) / len(mine[0])
    name = "rabenseifner" if made.algorithm == "mpi" else made.algorithm
    plan = rounds(made.kind, name, of_ranks(cluster, mine).shape) or ()
    return size * sum(each.times * each.share for each in plan)
