"""The timeline of an entry point: when each stream of each rank is busy, and which memory is live.

The execution is that of `dlc.ir.execution`: kernels, loads and copies follow each other on a rank's compute stream,
communication runs on one stream a group, and a collective begins when the last of its ranks arrives. Ranks that behave
alike and hold as many samples are simulated once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dlc.cost.liveness import Point, live_bytes
from dlc.ir.execution import COMPUTE, Event, Execution, Price
from dlc.ir.program import BufferKind, Program
from dlc.ir.ranks import RankClass, fold, unfolded
from dlc.ir.storage import Storage

MICROSECONDS = 1e6


@dataclass(frozen=True, slots=True)
class Stream:
    """One lane of a class of ranks: seconds busy, and idle until the last rank of all has ended."""

    name: str
    busy: float
    idle: float


@dataclass(frozen=True, slots=True)
class Lane:
    """What one class of ranks does: its streams, its events in order, and its memory.

    `live` has the bytes in use at each instruction, `allocated` what the program takes once at its start, by kind.
    """

    ranks: RankClass
    end: float
    streams: tuple[Stream, ...]
    events: tuple[Event, ...]
    live: tuple[Point, ...]
    allocated: tuple[tuple[BufferKind, int], ...]

    def stream(self, name: str) -> Stream:
        """The stream of that name, idle where nothing ran on it; the compute stream is `compute`."""
        return next((stream for stream in self.streams if stream.name == name), Stream(name, 0.0, self.end))

    @property
    def peak(self) -> Point | None:
        """The first point at which most bytes are live; None where the entry point is empty."""
        return max(self.live, key=lambda point: point.total, default=None)

    @property
    def allocated_bytes(self) -> int:
        """Bytes of all kinds that are allocated."""
        return sum(size for _, size in self.allocated)


@dataclass(frozen=True, slots=True)
class Timeline:
    """A simulated entry point: seconds until the last rank has ended, and each class of alike ranks."""

    program: str
    entry: str
    makespan: float
    lanes: tuple[Lane, ...]

    @property
    def bubble(self) -> float:
        """The share of the ranks' time in which their compute streams are idle; 0 for an empty timeline."""
        ranks = sum(len(lane.ranks.ranks) for lane in self.lanes)
        idle = sum(len(lane.ranks.ranks) * lane.stream(COMPUTE).idle for lane in self.lanes)
        return idle / (ranks * self.makespan) if self.makespan else 0.0


def simulate(program: Program, entry: str, price: Price, overlap: float = 0.0, folded: bool = True) -> Timeline:
    """The timeline of an entry point.

    `price(instruction, role, samples)` gives seconds; `overlap` is the rate, 0 to 1, at which collectives advance while
    their rank computes. ValueError where the program would not end: `dlc.ir.check` says why in full.
    """
    classes = fold(program) if folded else unfolded(program)
    outcome = Execution(program, entry, classes, price, overlap).run()
    if outcome.problems:
        raise ValueError(f"`{entry}` of {program.name} cannot be simulated: {outcome.problems[0]}")
    makespan = max(outcome.ends, default=0.0)
    lanes = (
        _lane(ranks, entry, end, makespan, tuple(event for event in outcome.events if event.ranks == index))
        for index, (ranks, end) in enumerate(zip(classes, outcome.ends, strict=True))
    )
    return Timeline(program.name, entry, makespan, tuple(lanes))


def _lane(ranks: RankClass, entry: str, end: float, makespan: float, events: tuple[Event, ...]) -> Lane:
    busy: dict[str, float] = {COMPUTE: 0.0}
    for event in events:
        busy[event.stream] = busy.get(event.stream, 0.0) + event.end - event.start
    streams = tuple(Stream(name, seconds, max(0.0, makespan - seconds)) for name, seconds in busy.items())
    allocated = tuple(sorted(Storage(ranks.role, ranks.samples).allocated().items()))
    return Lane(ranks, end, streams, events, live_bytes(ranks.role, entry, ranks.samples), allocated)


def to_trace(timeline: Timeline) -> dict[str, Any]:
    """The timeline as a Chrome trace (chrome://tracing, Perfetto): a process a class of ranks, a thread a stream."""
    events: list[dict[str, Any]] = []
    for process, lane in enumerate(timeline.lanes):
        threads = {stream.name: index for index, stream in enumerate(lane.streams)}
        events.append(_name("process_name", process, 0, f"{lane.ranks.role.name}, {lane.ranks}"))
        events.extend(_name("thread_name", process, index, name) for name, index in threads.items())
        events.extend(_slice(process, threads[event.stream], event) for event in lane.events)
        events.extend(_memory(process, lane))
    return {"displayTimeUnit": "ms", "traceEvents": events}


def _name(what: str, process: int, thread: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": process, "tid": thread, "args": {"name": name}}


def _slice(process: int, thread: int, event: Event) -> dict[str, Any]:
    return {
        "ph": "X",
        "name": event.name,
        "cat": type(event.instruction).__name__.lower(),
        "pid": process,
        "tid": thread,
        "ts": event.start * MICROSECONDS,
        "dur": (event.end - event.start) * MICROSECONDS,
        "args": {"microbatch": event.microbatch, "step": event.step},
    }


def _memory(process: int, lane: Lane) -> list[dict[str, Any]]:
    """A counter of live bytes, at the start of each instruction that takes time."""
    starts = {event.step: event.start for event in reversed(lane.events)}
    return [
        {
            "ph": "C",
            "name": "live bytes",
            "pid": process,
            "ts": starts[point.step] * MICROSECONDS,
            "args": dict(point.live),
        }
        for point in lane.live
        if point.step in starts
    ]
