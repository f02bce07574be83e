"""A simulated step in a table: how busy each stream of each class of ranks is, and the memory it needs."""

from __future__ import annotations

from collections.abc import Iterator

from dlc.cost.timeline import Lane, Timeline
from dlc.inspect.tables import table
from dlc.units import format_bytes, format_seconds


def timeline_document(timeline: Timeline) -> dict[str, object]:
    """The timeline's totals as JSON: seconds and bytes; the events stand in the trace."""
    return {
        "network": timeline.program,
        "entry": timeline.entry,
        "step_seconds": timeline.makespan,
        "bubble": timeline.bubble,
        "roles": [
            {
                "role": role.role,
                "ranks": role.ranks,
                "bubble": role.bubble,
                "exposed_seconds": role.exposed,
                "live_peak_bytes": role.peak_bytes,
                "live_bytes": [{"seconds": seconds, "bytes": size} for seconds, size in role.memory],
            }
            for role in timeline.roles
        ],
        "ranks": [
            {
                "ranks": list(lane.ranks.ranks),
                "samples": lane.ranks.samples,
                "streams": [{"name": s.name, "busy_seconds": s.busy, "idle_seconds": s.idle} for s in lane.streams],
                "allocated_bytes": lane.allocated_bytes,
                "live_peak_bytes": _live_peak(lane),
            }
            for lane in timeline.lanes
        ],
    }


def timeline_text(timeline: Timeline) -> str:
    """One row a stream of each class of ranks that behave alike, and one a role where there are several."""
    rows = []
    for lane in timeline.lanes:
        for index, stream in enumerate(lane.streams):
            share = f"{stream.busy / timeline.makespan:.0%}" if timeline.makespan else "-"
            memory = ("", "") if index else (format_bytes(lane.allocated_bytes), format_bytes(_live_peak(lane)))
            rows.append(("" if index else str(lane.ranks), stream.name, format_seconds(stream.busy), share, *memory))
    head = f"{timeline.program}: {timeline.entry} takes {format_seconds(timeline.makespan)}"
    streams = table(("ranks", "stream", "busy", "share", "allocated", "live"), rows, right=(2, 3, 4, 5))
    return "\n\n".join((head, streams, *_roles(timeline)))


def _roles(timeline: Timeline) -> Iterator[str]:
    """What the stages of a pipeline wait for: `idle` is all of it, `exposed` while a transfer is under way."""
    if len(timeline.roles) > 1:
        rows = [
            (role.role, str(role.ranks), f"{role.bubble:.0%}", format_seconds(role.exposed)) for role in timeline.roles
        ]
        yield table(("role", "ranks", "idle", "exposed"), rows, right=(1, 2, 3))


def _live_peak(lane: Lane) -> int:
    return 0 if lane.peak is None else lane.peak.total
