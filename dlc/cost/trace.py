"""A timeline as a Chrome trace, for https://ui.perfetto.dev and chrome://tracing.

A process is a class of ranks that behave alike, a thread one of its streams. Arrows lead from sends to receives, and a
counter shows the live bytes. Each end of a message has its own times, since it goes on slower while its rank computes;
a send is shown as over where its receiver has the message.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
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
    received = _received(timeline)
    for lane in timeline.lanes:
        threads = {stream.name: index for index, stream in enumerate(lane.streams)}
        yield _name("process_name", lane.index, 0, f"{lane.ranks.role.name}, {lane.ranks}")
        for name, thread in threads.items():
            yield _name("thread_name", lane.index, thread, name)
        starts, messages, sent = dict[int, float](), Counter[str](), dict[str, float]()
        for each in lane.expanded():
            event, thread = each, threads[each.stream]
            if isinstance(message := event.instruction, Send | Receive):
                number, way = messages[event.stream], _way(event, message, lane)
                messages[event.stream] += 1
                if isinstance(message, Send):
                    event = _until(event, received[way][number], sent.get(event.stream, 0.0))
                    sent[event.stream] = event.end
                yield _arrow(thread, event, f"{way[0]} {way[1]} to {way[2]} by {way[3]:+d}, {number}")
            yield _slice(thread, event)
            starts[event.step] = event.start
        yield from _memory(lane, starts)


Way = tuple[str, int, int, int]
"""Of messages: their group, the classes that send and receive, and how far they go."""


def _way(event: Event, message: Send | Receive, lane: Lane) -> Way:
    peer = lane.history.peers[event.stream]
    if isinstance(message, Send):
        return message.group, event.ranks, peer, message.peer
    return message.group, peer, event.ranks, -message.peer


def _received(timeline: Timeline) -> Mapping[Way, list[tuple[float, float]]]:
    """When each message of each way is received: from and until when."""
    found: dict[Way, list[tuple[float, float]]] = {}
    for lane in timeline.lanes:
        for event in lane.expanded():
            if isinstance(message := event.instruction, Receive):
                found.setdefault(_way(event, message, lane), []).append((event.start, event.end))
    return found


def _until(event: Event, received: tuple[float, float], before: float) -> Event:
    """A send that is over where its receiver has the message, and begins where the one `before` it is over at least."""
    start, end = received
    if event.end <= end:
        return event
    return replace(event, start=event.start if event.start <= end else max(start, before), end=end)


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


def _arrow(thread: int, event: Event, title: str) -> TraceEvent:
    """One end of an arrow: out of a send as it begins, into the receive that it meets as that ends."""
    sends = isinstance(event.instruction, Send)
    ends: TraceEvent = {"ph": "s", "ts": event.start} if sends else {"ph": "f", "bp": "e", "ts": event.end}
    return {
        **ends,
        "ts": ends["ts"] * MICROSECONDS,
        "name": "message",
        "cat": "message",
        "id": title,
        "pid": event.ranks,
        "tid": thread,
    }


def _memory(lane: Lane, starts: dict[int, float]) -> Iterator[TraceEvent]:
    """A counter of live bytes, at the start of each instruction that takes time."""
    for point in lane.usage.points():
        if point.step in starts:
            counter = {"ph": "C", "name": "live bytes", "pid": lane.index, "args": dict(point.live)}
            yield {**counter, "ts": starts[point.step] * MICROSECONDS}
