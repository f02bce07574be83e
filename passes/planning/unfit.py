"""Why no plan fits the memory, and the cheapest ways out (E0509)."""

from __future__ import annotations

from dlc.diagnostics import Diagnostic
from dlc.messages.e05_plan import NO_FIT
from dlc.units import format_bytes
from passes.fit import memory_of
from passes.planning.search import Found
from passes.planning.space import Space


def unfit(everything: Space, found: Found, limit: float) -> Diagnostic:
    """E0509: the limit that binds, and the least memory that any strategy was proved to need."""
    room = memory_of(everything.context)
    return NO_FIT.at(room.span, limit=format_bytes(int(limit)), needed=format_bytes(int(found.needed)))
