"""The timeline of an entry point: when each stream of each rank is busy, and which memory is live.

The execution is that of `dlc.ir.execution`: kernels, loads and copies follow each other on a rank's compute stream,
communication runs on streams of its groups, and a collective begins when the last of its ranks arrives. Ranks that
behave alike, hold as many samples and are as fast are simulated once. What a lane holds is compact: its events and the
live bytes at each instruction are made when they are asked for.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from dlc.cost.liveness import Live, Point, live
from dlc.cost.price import Prices
from dlc.ir.execution import COMPUTE, ClassPrice, Execution, Outcome, Price
from dlc.ir.program import BufferKind, Collective, Instruction, Program, Receive, Send
from dlc.ir.ranks import RankClass, fold, schedule, unfolded
from dlc.ir.storage import Storage, title
from dlc.ir.stretches import History


@dataclass(frozen=True, slots=True)
class Event:
    """One stretch of one stream of a class of ranks; `step` counts the class's instructions from 0."""

    ranks: int  # index of the class
    stream: str
    name: str
    start: float
    end: float
    step: int
    instruction: Instruction
    microbatch: int = 0


@dataclass(frozen=True, slots=True)
class Stream:
    """One lane of a class of ranks: seconds busy, and idle until the last rank of all has ended."""

    name: str
    busy: float
    idle: float


@dataclass(frozen=True)
class Lane:
    """What one class of ranks does: its streams, its events in order, and its memory.

    `live` has the bytes in use at each instruction, `allocated` what the program takes once at its start, by kind;
    `exposed` are the seconds in which the ranks wait for a transfer that is under way; `memory` has for each row of the
    schedule when it began and the most bytes that were in use during it.
    """

    index: int
    entry: str
    ranks: RankClass
    end: float
    streams: tuple[Stream, ...]
    exposed: float
    allocated: tuple[tuple[BufferKind, int], ...]
    rows: tuple[float, ...]
    history: History
    usage: Live

    def stream(self, name: str) -> Stream:
        """The stream of that name, idle where nothing ran on it; the compute stream is `compute`."""
        return next((stream for stream in self.streams if stream.name == name), Stream(name, 0.0, self.end))

    @cached_property
    def events(self) -> tuple[Event, ...]:
        """All events, by start and step."""
        return tuple(sorted(self.expanded(), key=lambda event: (event.start, event.step)))

    def expanded(self) -> Iterator[Event]:
        """All events as they ended, one at a time."""
        role, rows = self.ranks.role, schedule(self.ranks.role, self.entry)
        sizes = (len(role.segment(row.segment).instructions) for row in rows)
        firsts = tuple(accumulate(sizes, initial=0))
        for stream, start, end, step in self.history.events():
            at = bisect_right(firsts, step) - 1
            instruction = role.segment(rows[at].segment).instructions[step - firsts[at]]
            name, microbatch = title(instruction), rows[at].microbatch
            yield Event(self.index, stream, name, start, end, step, instruction, microbatch)

    @cached_property
    def live(self) -> tuple[Point, ...]:
        """The bytes in use at each instruction."""
        return tuple(self.usage.points())

    @cached_property
    def peak(self) -> Point | None:
        """The first point at which most bytes are live; None where the entry point is empty."""
        return self.usage.peak

    @property
    def memory(self) -> tuple[tuple[float, int], ...]:
        """(start in seconds, most live bytes) of each row of the schedule."""
        return tuple(zip(self.rows, self.usage.by_row, strict=True))

    @property
    def allocated_bytes(self) -> int:
        """Bytes of all kinds that are allocated."""
        return sum(size for _, size in self.allocated)


@dataclass(frozen=True, slots=True)
class RoleTimeline:
    """A role over an entry point: shares and seconds are means over its ranks, memory is of the rank that needs most.

    `bubble` is the share of the makespan in which a rank's compute stream is idle; `exposed` the seconds of it in which
    a transfer is under way that the rank waits for.
    """

    role: str
    ranks: int
    bubble: float
    exposed: float
    peak_bytes: int
    memory: tuple[tuple[float, int], ...]


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
        return self._bubble(self.lanes)

    @property
    def roles(self) -> tuple[RoleTimeline, ...]:
        """The lanes of each role summed up, in the order of their first ranks."""
        lanes: dict[str, list[Lane]] = {}
        for lane in self.lanes:
            lanes.setdefault(lane.ranks.role.name, []).append(lane)
        return tuple(self._role(name, tuple(found)) for name, found in lanes.items())

    def _role(self, name: str, lanes: tuple[Lane, ...]) -> RoleTimeline:
        worst = max(lanes, key=lambda lane: 0 if lane.peak is None else lane.peak.total)
        peak = 0 if worst.peak is None else worst.peak.total
        count = sum(len(lane.ranks.ranks) for lane in lanes)
        exposed = sum(len(lane.ranks.ranks) * lane.exposed for lane in lanes) / count
        return RoleTimeline(name, count, self._bubble(lanes), exposed, peak, worst.memory)

    def _bubble(self, lanes: tuple[Lane, ...]) -> float:
        ranks = sum(len(lane.ranks.ranks) for lane in lanes)
        idle = sum(len(lane.ranks.ranks) * lane.stream(COMPUTE).idle for lane in lanes)
        return idle / (ranks * self.makespan) if self.makespan else 0.0


def simulate(
    program: Program,
    entry: str,
    price: Price,
    overlap: float = 0.0,
    folded: bool = True,
    slowdown: Mapping[int, float] | None = None,
) -> Timeline:
    """The timeline of an entry point.

    `price(instruction, role, samples)` gives seconds; where it is `dlc.cost.price.Prices`, each rank's kernels take
    what they take on its own device. `overlap` is the rate, 0 to 1, at which collectives advance while their rank
    computes. `slowdown` (rank -> factor) says whose kernels, loads and copies take that many times as long. Not
    `folded`, every rank is simulated by itself, instruction by instruction: the same figures, much slower.
    ValueError where the program would not end: `dlc.ir.check` says why in full.
    """
    classes, outcome = _executed(program, entry, price, overlap, folded, slowdown or {})
    makespan = max(outcome.ends, default=0.0)
    memory: dict[tuple[str, int], Memory] = {}
    for ranks in classes:
        key = (ranks.role.name, ranks.samples)
        memory[key] = memory.get(key) or _memory(ranks, entry)
    lanes = (
        Lane(
            index,
            entry,
            ranks,
            outcome.ends[index],
            tuple(_streams(outcome.histories[index], makespan)),
            outcome.exposed[index],
            memory[ranks.role.name, ranks.samples][0],
            outcome.rows[index],
            outcome.histories[index],
            memory[ranks.role.name, ranks.samples][1],
        )
        for index, ranks in enumerate(classes)
    )
    return Timeline(program.name, entry, makespan, tuple(lanes))


def makespan(program: Program, entry: str, price: Price, overlap: float = 0.0) -> float:
    """The seconds until the last rank of an entry point has ended: those of `simulate`, without its lanes."""
    _, outcome = _executed(program, entry, price, overlap, True, {})
    return max(outcome.ends, default=0.0)


def _executed(
    program: Program, entry: str, price: Price, overlap: float, folded: bool, slowdown: Mapping[int, float]
) -> tuple[tuple[RankClass, ...], Outcome]:
    devices = price.devices if isinstance(price, Prices) else {}
    kinds = {rank: (devices.get(rank, ""), slowdown.get(rank, 1.0)) for rank in range(program.ranks)}
    classes = fold(program, kinds=kinds) if folded else unfolded(program, kinds)
    outcome = Execution(program, entry, classes, _priced(price), overlap, collapsed=folded).run()
    if outcome.problems:
        raise ValueError(f"`{entry}` of {program.name} cannot be simulated: {outcome.problems[0]}")
    return classes, outcome


Memory = tuple[tuple[tuple[BufferKind, int], ...], Live]
"""Bytes allocated by kind, and what is live."""


def _memory(ranks: RankClass, entry: str) -> Memory:
    """What ranks of a role that hold so many samples allocate, and what is live."""
    allocated = Storage(ranks.role, ranks.samples).allocated()
    return tuple(sorted(allocated.items())), live(ranks.role, entry, ranks.samples)


def _streams(history: History, makespan: float) -> Iterator[Stream]:
    """The compute stream first, the others as they were first used."""
    for name, seconds in {COMPUTE: 0.0, **history.busy}.items():
        yield Stream(name, seconds, max(0.0, makespan - seconds))


def _priced(price: Price) -> ClassPrice:
    """The price of an instruction for a class of ranks, by its device and slowdown where it is not communication."""

    def seconds(instruction: Instruction, ranks: RankClass, samples: int) -> float:
        if isinstance(instruction, Collective | Send | Receive):
            return price(instruction, ranks.role, samples)
        on = price.on(ranks.device) if isinstance(price, Prices) else price
        return ranks.slowdown * on(instruction, ranks.role, samples)

    return seconds
