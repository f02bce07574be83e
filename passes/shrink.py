"""Plans that need less memory than the fastest: smaller workspaces, fewer copies, an allreduce without scratch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from dlc.cost.memory import bytes_by_kind
from dlc.diagnostics import DiagnosticError, Span
from dlc.ir.graph import Graph
from dlc.ir.plan import Bucket, Plan, Reason
from dlc.ir.request import Limit
from passes.choose import choose
from passes.context import Context
from passes.lower import lower

TRIES = 16
THRIFT = 1.0
"""Seconds that a byte of a copy counts in plans that have to be small: more than any op can save by a layout."""

FRUGAL = "mpi"
"""The allreduce without memory of its own: `dlc.ir.storage.collective_scratch`."""

_NOWHERE = Span("", 0, 0, 0, 0)


def smaller(graph: Graph, context: Context, room: int) -> Iterator[Plan]:
    """Plans under ever smaller bounds on workspaces: the fastest ones, then the one that copies least.

    A tighter bound never makes for fewer copies. So where the plan that copies least still needs some bytes too many,
    its workspaces must shrink by as many: what is skipped does not fit into `room` either.
    """
    bound: int | None = None
    sparing = _sparing(context)
    for _ in range(TRIES):
        yield from _bounded(graph, context, bound, 0.0)
        yield from _bounded(graph, sparing, bound, 0.0)
        thrifty = next(_bounded(graph, sparing, bound, THRIFT), None)
        if thrifty is None:
            return
        yield thrifty
        bound = _scratch(graph, context, thrifty) - (thrifty.predicted.peak_bytes - room)


def smallest(graph: Graph, context: Context) -> Iterator[Plan]:
    """Plans that copy least, each with smaller workspaces than the one before; the last steps are larger ones."""
    bound: int | None = None
    for step in range(2 * TRIES):
        thrifty = next(_bounded(graph, _sparing(context), bound, THRIFT), None)
        if thrifty is None:
            return
        yield thrifty
        scratch = _scratch(graph, context, thrifty)
        bound = scratch - 1 if step < TRIES else scratch // 2


def _scratch(graph: Graph, context: Context, plan: Plan) -> int:
    """Bytes of a plan's largest workspace."""
    return bytes_by_kind(lower(graph, plan, context)).get("workspace", 0)


def _bounded(graph: Graph, context: Context, bound: int | None, thrift: float) -> Iterator[Plan]:
    """The best plan whose workspaces stay within a bound; none where some op has no such algorithm."""
    if bound is None or bound >= 0:
        with suppress(DiagnosticError):
            plan = choose(graph, context if bound is None else _with_workspace(context, bound), thrift)
            yield plan if context.request.span("allreduce") else plan.with_(buckets=tuple(map(_chosen, plan.buckets)))


def _sparing(context: Context) -> Context:
    """With the allreduce that needs no memory beside its operand, where the plan leaves that open."""
    request = context.request
    return context if request.allreduce != "auto" else context.with_(request=replace(request, allreduce=FRUGAL))


def _chosen(bucket: Bucket) -> Bucket:
    """Nobody has written the allreduce that a plan was made small by."""
    return replace(bucket, reason=Reason("chosen"))


def _with_workspace(context: Context, bound: int) -> Context:
    """The same orders with a tighter limit on workspaces."""
    limits = (*context.request.limits, Limit("workspace", float(bound), _NOWHERE))
    return context.with_(request=replace(context.request, limits=limits))
