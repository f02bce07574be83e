"""Plans whose Programs, too, keep within the memory: scratch arrays of sums, and arrays that could share memory but do
not, are more than a plan counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import ceil
from typing import TypeVar

from dlc.diagnostics import Diagnostic, DiagnosticError, Span
from dlc.ir.request import Limit
from dlc.messages.e05_plan import NO_FIT
from dlc.units import format_bytes
from passes.context import Context

TIGHTER = 6
"""How often the limit on memory is lowered, where a Program allocates more than the count of its plan."""

FAILURES = 2
"""How often more is tried where nothing fits: finding out why takes long."""

Made = TypeVar("Made")


def allocating_within(
    context: Context, planned: Callable[[Context], Made], sizes: Callable[[Made], tuple[int, int]]
) -> Made:
    """What `planned` makes under a context, or under a lower limit on memory, so that it fits the context's memory.

    `sizes` are the bytes that a plan counts, and those that its Program allocates: so much more is set aside. Where
    nothing is left to fit, half as much more is, as plans differ in it. DiagnosticError E0509 where none was found that
    fits.
    """
    asked, room, failed = context, context.memory, list[int]()
    least = over = aside = 0
    for _ in range(TIGHTER):
        try:
            made = planned(asked)
        except DiagnosticError:
            if not least:
                raise
            if len(failed) == FAILURES:
                break
            failed.append(aside)
        else:
            counted, allocated = sizes(made)
            if allocated <= room.bytes:
                return made
            least = min(least or allocated, allocated)
            over = max(allocated, room.bytes + 1) - counted
        aside = (over + failed[-1]) // 2 if failed else over
        limit = Limit("memory", max(0, room.bytes - aside), room.span or Span("", 0, 0, 0, 0))
        asked = context.with_(request=replace(context.request, limits=(*context.request.limits, limit)))
    raise DiagnosticError([_too_large(context, least)])


def _too_large(context: Context, least: int) -> Diagnostic:
    """E0509 with the higher limit that the smallest Program that was found needs, or the larger devices."""
    room, whole = context.memory, min(device.memory for device in context.cluster.devices)
    written = f"{ceil(least / 2**10)} KiB"
    limited = any(limit.subject == "memory" for limit in context.request.limits)
    if limited and least <= whole:
        help_ = f"allow `limit memory <= {written}`: the device has {format_bytes(whole)}"
    else:
        help_ = f"devices with `memory = {written}`" + f", and `limit memory <= {written}`" * limited
    return NO_FIT.at(
        room.span,
        notes=("so much does the smallest program that was found allocate, scratch memory of its sums included",),
        helps=(help_,),
        limit=format_bytes(room.bytes),
        needed=format_bytes(least),
    )
