"""Plans that fit the memory: of a device, and of `limit memory`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil

from dlc.cost.memory import bytes_by_kind, peak_bytes
from dlc.diagnostics import Diagnostic, DiagnosticError, Span
from dlc.ir.graph import Graph
from dlc.ir.plan import Plan
from dlc.ir.program import BufferKind, Program
from dlc.ir.request import Limit
from dlc.ir.storage import Storage
from dlc.messages.e05_plan import NO_FIT
from dlc.ops.operator import LAYOUTS
from dlc.units import format_bytes
from passes.choose import choose
from passes.context import Context
from passes.lower import lower

TRIES = 16
_NOWHERE = Span("", 0, 0, 0, 0)
_PARTS: dict[str, tuple[BufferKind, ...]] = {
    "weights": ("weight", "statistic", "constant"),
    "gradients": ("gradient", "bucket"),
    "optimizer state": ("state",),
    "activations": ("input", "field", "activation", "saved"),
    "workspace": ("workspace",),
}


@dataclass(frozen=True, slots=True)
class Memory:
    """The bytes that a rank may use, and where that is written."""

    bytes: int
    span: Span | None


def fit(graph: Graph, context: Context) -> Plan:
    """The plan that `choose` makes, with smaller workspaces where it would not fit the memory.

    Buffers of a step all live from its start to its end, so what a plan can save is workspace and conversions: the
    bound on workspaces is lowered by what is missing until the plan fits. E0509 (DiagnosticError) where none does,
    with what the smallest plan needs and the ways out.
    """
    plan = choose(graph, context)
    room = memory_of(context)
    if plan.predicted.peak_bytes <= room.bytes:
        return plan
    tried = [plan]
    asked = context.request.layout
    for layout in ("auto", *LAYOUTS) if asked == "auto" else (asked,):
        for smaller in _smaller(graph, _with_layout(context, layout), plan, room):
            if smaller.predicted.peak_bytes <= room.bytes:
                return smaller
            tried.append(smaller)
    smallest = min(tried, key=lambda one: one.predicted.peak_bytes)
    raise DiagnosticError([_refusal(smallest, lower(graph, smallest, context), context, room)])


def memory_of(context: Context) -> Memory:
    """The tightest of the devices' memories and the plan's limit."""
    limits = [limit for limit in context.request.limits if limit.subject == "memory"]
    rooms = [Memory(int(limit.bound), limit.span) for limit in limits]
    rooms.extend(Memory(device.memory, device.span) for device in context.cluster.devices)
    return min(rooms, key=lambda room: room.bytes)


def _with_layout(context: Context, layout: str) -> Context:
    return context.with_(request=replace(context.request, layout=layout))


def _smaller(graph: Graph, context: Context, plan: Plan, room: Memory) -> Iterator[Plan]:
    """Plans under ever smaller bounds on workspaces; none where rules leave no choice."""
    for _ in range(TRIES):
        workspace = bytes_by_kind(lower(graph, plan, context)).get("workspace", 0)
        missing = plan.predicted.peak_bytes - room.bytes
        smaller = _bounded(graph, context, workspace - missing) or _bounded(graph, context, workspace - 1)
        if smaller is None:
            return
        plan = smaller
        yield plan


def _bounded(graph: Graph, context: Context, bound: int) -> Plan | None:
    """The best plan whose workspaces stay within a bound; None where some op has no such algorithm."""
    try:
        return choose(graph, _with_workspace(context, bound)) if bound >= 0 else None
    except DiagnosticError:
        return None


def _with_workspace(context: Context, bound: int) -> Context:
    """The same orders with a tighter limit on workspaces."""
    limits = (*context.request.limits, Limit("workspace", float(bound), _NOWHERE))
    return context.with_(request=replace(context.request, limits=limits))


def _refusal(smallest: Plan, program: Program, context: Context, room: Memory) -> Diagnostic:
    """E0509: what the smallest plan is made of, and the repairs."""
    needed = peak_bytes(program)
    kinds = bytes_by_kind(program)
    parts = {name: sum(kinds.get(kind, 0) for kind in members) for name, members in _PARTS.items()}
    note = ", ".join(f"{name} {format_bytes(size)}" for name, size in parts.items() if size)
    return NO_FIT.at(
        room.span,
        limit=format_bytes(room.bytes),
        needed=format_bytes(needed),
        notes=(f"the smallest plan holds {note}",),
        helps=tuple(_repairs(smallest, program, context, room)),
    )


def _repairs(smallest: Plan, program: Program, context: Context, room: Memory) -> Iterator[str]:
    """Fewer samples a rank, by a smaller batch or by more ranks; or a higher limit, where the device has the memory."""
    fixed = peak_bytes(program) - _batched(program)
    share = _batched(program) / program.roles[0].largest_shard
    samples = int((room.bytes - fixed) // share) if share else 0
    if samples >= 1:
        batch, ranks = samples * smallest.ranks, ceil(smallest.batch / samples)
        yield f"a batch of {batch} fits, with about {samples} samples a rank"
        if context.cluster.resized(ranks) is not None:
            yield f"keep the batch of {smallest.batch} on {ranks} ranks: `-n {ranks}`"
    else:
        size = format_bytes(int(fixed))
        yield f"what does not grow with the batch takes {size}: more memory for a rank, or a smaller network"
    memory = min(device.memory for device in context.cluster.devices)
    if room.bytes < peak_bytes(program) <= memory:
        unit, step = ("MiB", 2**20) if peak_bytes(program) >= 2**24 else ("KiB", 2**10)
        allowed = ceil(peak_bytes(program) / step)
        yield f"allow `limit memory <= {allowed} {unit}`: the device has {format_bytes(memory)}"


def _batched(program: Program) -> int:
    """Bytes of the worst rank that grow with its samples."""
    (role,) = program.roles
    storage = Storage(role, role.largest_shard)
    return sum(storage.bytes(b) for b in role.buffers if b.view_of is None and b.type.batched)
