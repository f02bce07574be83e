"""A timeline as a Chrome trace, for https://ui.perfetto.dev and chrome://tracing.

A process is a class of ranks that behave alike, a thread one of its streams. Arrows lead from sends to receives, and a
counter shows the live bytes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from dlc.cost.timeline import Event, Lane, Timeline
from dlc.ir.program import Receive, Send

MICROSECONDS = 1e6

TraceEvent = dict[str, Any]


def to_trace(timeline: Timeline) -> dict[str, Any]:
    """The whole trace as one value."""
    return {"displayTimeUnit": "ms", "traceEvents": list(trace_events(timeline))}


def trace_lines(timeline: Timeline) -> Iterator[str]:
    """The text of the trace as it is made, one event a line: a lane at a time is in memory, however long it is."""
    yield '{"displayTimeUnit": "ms", "traceEvents": ['
    for index, event in enumerate(trace_events(timeline)):
        yield f"{',' if index else ''}\n{json.dumps(event, sort_keys=True)}"
    yield "\n]}\n"


def trace_events(timeline: Timeline) -> Iterator[TraceEvent]:
    """The events of the trace, lane by lane."""
    for lane in timeline.lanes:
        threads = {stream.name: index for index, stream in enumerate(lane.streams)}
        yield _name("process_name", lane.index, 0, f"{lane.ranks.role.name}, {lane.ranks}")
        for name, thread in threads.items():
            yield _name("thread_name", lane.index, thread, name)
        starts, messages = dict[int, float](), Counter[str]()
        for event in lane.expanded():
            thread = threads[event.stream]
            yield _slice(thread, event)
            if isinstance(message := event.instruction, Send | Receive):
                yield _arrow(thread, event, message, lane.history.peers[event.stream], messages[event.stream])
                messages[event.stream] += 1
            starts[event.step] = event.start
        yield from _memory(lane, starts)


def _name(what: str, process: int, thread: int, name: str) -> TraceEvent:
    return {"ph": "M", "name": what, "pid": process, "tid": thread, "args": {"name": name}}


def _slice(thread: int, event: Event) -> TraceEvent:
    return {
        "ph": "X",
        "name": event.name,
        "cat": type(event.instruction).__name__.lower(),
        "pid": event.ranks,
        "tid": thread,
        "ts": event.start * MICROSECONDS,
        "dur": (event.end - event.start) * MICROSECONDS,
        "args": {"microbatch": event.microbatch, "step": event.step},
    }


def _arrow(thread: int, event: Event, message: Send | Receive, peer: int, number: int) -> TraceEvent:
    """One end of an arrow: out of a send as it begins, into the receive that it meets as that ends."""
    sends = isinstance(message, Send)
    way = (event.ranks, peer, message.peer) if sends else (peer, event.ranks, -message.peer)
    ends: TraceEvent = {"ph": "s", "ts": event.start} if sends else {"ph": "f", "bp": "e", "ts": event.end}
    return {
        **ends,
        "ts": ends["ts"] * MICROSECONDS,
        "name": "message",
        "cat": "message",
        "id": f"{message.group} {way[0]} to {way[1]} by {way[2]:+d}, {number}",
        "pid": event.ranks,
        "tid": thread,
    }


def _memory(lane: Lane, starts: dict[int, float]) -> Iterator[TraceEvent]:
    """A counter of live bytes, at the start of each instruction that takes time."""
    for point in lane.usage.points():
        if point.step in starts:
            counter = {"ph": "C", "name": "live bytes", "pid": lane.index, "args": dict(point.live)}
            yield {**counter, "ts": starts[point.step] * MICROSECONDS}
