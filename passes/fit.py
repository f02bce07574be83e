"""Plans that fit the memory: of a device, and of `limit memory`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil, inf

from dlc.cluster.topology import Group, Link
from dlc.cost.memory import bytes_by_kind
from dlc.diagnostics import Diagnostic, DiagnosticError, Span
from dlc.ir.graph import Graph
from dlc.ir.plan import Plan
from dlc.ir.program import BufferKind, Program
from dlc.messages.e05_plan import NO_FIT
from dlc.units import format_bytes
from passes.choose import choose
from passes.context import Context
from passes.lower import lower
from passes.shrink import smaller, smallest

GUESSES = 6
"""How often the number of samples that would fit is guessed anew."""

FLAT = Link("flat", inf, 0.0)
"""Joins the ranks of a cluster on which only memory is counted."""

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
    """The plan that `choose` makes, with smaller workspaces and fewer copies where it would not fit the memory.

    Buffers of a step all live from its start to its end, so what a plan can save is its largest workspace and its
    conversions. E0509 (DiagnosticError) where no plan fits, with what the smallest needs and the ways out.
    """
    plan = choose(graph, context)
    room = memory_of(context)
    if plan.predicted.peak_bytes <= room.bytes:
        return plan
    tried = [plan]
    for other in smaller(graph, context, room.bytes):
        if other.predicted.peak_bytes <= room.bytes:
            return other
        tried.append(other)
    tried.extend(smallest(graph, context))
    least = min(tried, key=lambda one: one.predicted.peak_bytes)
    raise DiagnosticError([_refusal(graph, least, context, room)])


def memory_of(context: Context) -> Memory:
    """The tightest of the devices' memories and the plan's limit."""
    limits = [limit for limit in context.request.limits if limit.subject == "memory"]
    rooms = [Memory(int(limit.bound), limit.span) for limit in limits]
    rooms.extend(Memory(device.memory, device.span) for device in context.cluster.devices)
    return min(rooms, key=lambda room: room.bytes)


def _refusal(graph: Graph, plan: Plan, context: Context, room: Memory) -> Diagnostic:
    """E0509: what the smallest plan is made of, and the repairs."""
    kinds = bytes_by_kind(lower(graph, plan, context))
    parts = {name: sum(kinds.get(kind, 0) for kind in members) for name, members in _PARTS.items()}
    note = ", ".join(f"{name} {format_bytes(size)}" for name, size in parts.items() if size)
    return NO_FIT.at(
        room.span,
        limit=format_bytes(room.bytes),
        needed=format_bytes(plan.predicted.peak_bytes),
        notes=(f"the smallest plan holds {note}",),
        helps=tuple(_repairs(graph, plan, context, room)),
    )


def _repairs(graph: Graph, plan: Plan, context: Context, room: Memory) -> Iterator[str]:
    """Fewer samples a rank, by a smaller batch or by more ranks; or a higher limit, where the device has the memory."""
    samples = _samples_that_fit(graph, plan, context, room.bytes)
    if samples:
        ranks = ceil(graph.batch / samples)
        yield f"a batch of {samples * context.ranks} fits, with {samples} sample{'s' * (samples > 1)} a rank"
        if context.cluster.resized(ranks) is not None:
            yield f"keep the batch of {graph.batch} on {ranks} ranks: `-n {ranks}`"
    else:
        yield f"even one sample a rank does not fit into {format_bytes(room.bytes)}: a smaller network is needed"
    needed, memory = plan.predicted.peak_bytes, min(device.memory for device in context.cluster.devices)
    if room.bytes < needed <= memory:
        unit, step = ("MiB", 2**20) if needed >= 2**24 else ("KiB", 2**10)
        yield f"allow `limit memory <= {ceil(needed / step)} {unit}`: the device has {format_bytes(memory)}"


def _samples_that_fit(graph: Graph, plan: Plan, context: Context, room: int) -> int:
    """Samples of a rank for which a plan fits, found by plans for more ranks; 0 where even one is too many.

    What depends on the samples is nearly proportional to them, so each plan that is too large tells the next guess.
    """
    fixed = _fixed(lower(graph, plan, context))
    samples, peak = ceil(graph.batch / context.ranks), plan.predicted.peak_bytes
    for guess in range(GUESSES):
        if samples == 1 or fixed >= room:
            return 0
        nearest = min(samples - 1, int(samples * (room - fixed) / (peak - fixed)))
        samples = max(1, nearest if guess < GUESSES - 1 else 1)
        ranks = ceil(graph.batch / samples)
        samples = ceil(graph.batch / ranks)
        peaks = []
        for other in smaller(graph, _on(context, ranks), room):
            peaks.append(other.predicted.peak_bytes)
            if peaks[-1] <= room:
                return samples
        peak = min(peaks)
    return 0


def _on(context: Context, ranks: int) -> Context:
    """The cluster with so many ranks; one without links where it cannot have them: memory does not ask for links."""
    (device, *_) = context.cluster.devices
    flat = replace(context.cluster, links=(FLAT,), topology=(Group(device.name, ranks, FLAT.name),))
    return context.with_(ranks=ranks, cluster=context.cluster.resized(ranks) or flat)


def _fixed(program: Program) -> int:
    """Bytes of a rank that do not depend on its samples: weights, their gradients and states."""
    (role,) = program.roles
    whole = (b for b in role.buffers if b.view_of is None and b.kind != "workspace" and not b.type.batched)
    return sum(buffer.type.bytes for buffer in whole)
