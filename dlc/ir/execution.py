"""Abstract execution of an entry point: who meets whom, in what order, and when.

One engine serves the static check (no prices, all times zero) and the timeline simulator (real prices), so that a proof
and a cost cannot drift apart.

* The k-th collective that a rank enters on a group meets the k-th of every other rank of the group. Sends are
  rendezvous: the k-th send of one rank to another along a group meets the other's k-th receive from it, and both go on
  when the message is over. What meets bears one name.
* A meeting begins when its last rank has arrived, and on each rank when the one before it on that group is over.
* Where a rank computes while a collective is under way, the collective advances at the rate `overlap` (a property of
  the device, 0 to 1); where the rank waits, at full speed. `dlc.cost.communication.exposed` is the closed form.

Groups that share a link are priced as if each had it for itself.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from dlc.ir.problem import Problem, ProblemKind
from dlc.ir.program import Collective, Instruction, Program, Receive, Role, Row, Send, Wait
from dlc.ir.ranks import RankClass, instructions, members_around, peer
from dlc.ir.storage import title

COMPUTE = "compute"
"""The stream of kernels, copies and loads; every other stream is a group's, or its messages'."""

Price = Callable[[Instruction, Role, int], float]
"""(instruction, role, samples) -> seconds; samples are those of the microbatch at hand on a rank."""

Key = tuple[str, tuple[int, ...]]
"""A stream and the classes that meet on it; for point-to-point (sender, receiver, offset)."""


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
class Outcome:
    """How an execution went: events by class and time, when each class ended, and what went wrong."""

    events: tuple[Event, ...]
    ends: tuple[float, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class _Arrival:
    """A class that has come to a meeting, with the instruction that brought it."""

    instruction: Instruction
    time: float
    step: int
    row: Row


@dataclass(slots=True, eq=False)
class _Meeting:
    """A collective or the transfer of one message: complete when all its classes have arrived."""

    key: Key
    size: int
    arrivals: dict[int, _Arrival] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def complete(self) -> bool:
        return len(self.arrivals) == self.size

    @property
    def ready(self) -> float:
        return max(arrival.time for arrival in self.arrivals.values())


@dataclass(slots=True, eq=False)
class _Actor:
    """A class of ranks on its way through the schedule."""

    index: int
    ranks: RankClass
    steps: Iterator[tuple[Row, Instruction]]
    microbatches: int
    time: float = 0.0
    step: int = -1
    joined: Counter[tuple[Key, bool]] = field(default_factory=Counter)
    begun: dict[str, _Meeting] = field(default_factory=dict)  # non-blocking, without their Wait so far
    pending: dict[str, deque[_Meeting]] = field(default_factory=dict)  # stream -> joined and not over, in order
    over: dict[str, float] = field(default_factory=dict)  # stream -> when its last meeting was over
    idle: list[tuple[float, float]] = field(default_factory=list)  # when it waited, ascending
    waits: tuple[_Meeting, Instruction] | None = None
    ended: bool = False

    def samples(self, row: Row) -> int:
        """This rank's samples of one microbatch."""
        held, parts, at = self.ranks.samples, self.microbatches, row.microbatch
        return held * (at + 1) // parts - held * at // parts

    def finish(self, start: float, seconds: float, overlap: float) -> float:
        """When communication that begins at `start` is over, for a rank that waits from now on."""
        left = seconds
        for begin, end in self._idle_after(start):
            hidden = overlap * max(0.0, begin - start)
            if hidden >= left:
                return start + (left / overlap if left else 0.0)
            left -= hidden
            start = max(start, begin)
            if end - start >= left:
                return start + left
            left -= end - start
            start = end
        return start + left

    def _idle_after(self, start: float) -> Iterator[tuple[float, float]]:
        first = len(self.idle)
        while first and self.idle[first - 1][1] > start:
            first -= 1
        yield from self.idle[first:]
        yield self.time, float("inf")


@dataclass(slots=True)
class Execution:
    """An execution of one entry point by classes of ranks; `price` None looks at communication only, in no time."""

    program: Program
    entry: str
    classes: tuple[RankClass, ...]
    price: Price | None = None
    overlap: float = 0.0
    events: list[Event] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    _actors: list[_Actor] = field(default_factory=list)
    _class_of: dict[int, int] = field(default_factory=dict)
    _meetings: dict[tuple[Key, int], _Meeting] = field(default_factory=dict)
    _awake: deque[_Actor] = field(default_factory=deque)

    def run(self) -> Outcome:
        """Execute to the end, or until nobody can go on."""
        for index, ranks in enumerate(self.classes):
            rows = (row for entry in ranks.role.entries if entry.name == self.entry for row in entry.schedule)
            parts = 1 + max((row.microbatch for row in rows), default=0)
            self._actors.append(_Actor(index, ranks, instructions(ranks.role, self.entry), parts))
            self._class_of.update(dict.fromkeys(ranks.ranks, index))
        self._awake.extend(self._actors)
        while self._awake:
            self._advance(self._awake.popleft())
        self._report_stuck()
        events = sorted(self.events, key=lambda event: (event.ranks, event.start, event.step))
        return Outcome(tuple(events), tuple(actor.time for actor in self._actors), tuple(self.problems))

    def _advance(self, actor: _Actor) -> None:
        """Run a class until it waits or ends."""
        while actor.waits is None:
            row, instruction = next(actor.steps, (None, None))
            if row is None or instruction is None:
                actor.ended = True
                return
            actor.step += 1
            match instruction:
                case Collective():
                    self._enter(actor, row, instruction)
                case Send() | Receive():
                    self._transfer(actor, row, instruction)
                case Wait(name=name):
                    self._wait_for(actor, actor.begun.pop(name, None), instruction)
                case _ if self.price is not None:
                    end = actor.time + self.price(instruction, actor.ranks.role, actor.samples(row))
                    self._record(actor, COMPUTE, actor.time, end, _Arrival(instruction, 0.0, actor.step, row))
                    actor.time = end

    def _enter(self, actor: _Actor, row: Row, collective: Collective) -> None:
        group = next(group for group in self.program.groups if group.name == collective.group)
        around = members_around(group, actor.ranks.ranks[0])
        key = (collective.group, tuple(sorted({self._class_of[rank] for rank in around})))
        meeting = self._join(actor, key, True, len(key[1]), _Arrival(collective, actor.time, actor.step, row))
        if collective.blocking:
            self._wait_for(actor, meeting, collective)
        else:
            actor.begun[collective.name] = meeting

    def _transfer(self, actor: _Actor, row: Row, transfer: Send | Receive) -> None:
        group = next(group for group in self.program.groups if group.name == transfer.group)
        other = peer(group, actor.ranks.ranks[0], transfer.peer)
        if other is None or transfer.peer == 0:
            where = "to itself" if transfer.peer == 0 else f"beyond the end of group `{group.name}`"
            sentence = f"`{transfer.name}` goes {transfer.peer:+d} from {actor.ranks}, {where}"
            self._problem("structure", actor, transfer, sentence)
            return
        ends, sends = (actor.index, self._class_of[other]), isinstance(transfer, Send)
        ends, offset = (ends, transfer.peer) if sends else (ends[::-1], -transfer.peer)
        key = (f"{transfer.group} messages", (*ends, offset))
        meeting = self._join(actor, key, sends, 2, _Arrival(transfer, actor.time, actor.step, row))
        self._wait_for(actor, meeting, transfer)

    def _join(self, actor: _Actor, key: Key, side: bool, size: int, arrival: _Arrival) -> _Meeting:
        """Arrive at the next meeting of that key; the last to arrive wakes those who wait."""
        number = actor.joined[key, side]
        actor.joined[key, side] += 1
        meeting = self._meetings.setdefault((key, number), _Meeting(key, size))
        other = next(iter(meeting.arrivals), None)
        if other is not None:
            self._compare(actor, arrival.instruction, self._actors[other], meeting.arrivals[other].instruction)
        meeting.arrivals[actor.index] = arrival
        actor.pending.setdefault(key[0], deque()).append(meeting)
        if meeting.complete:
            self._begin(meeting)
        return meeting

    def _begin(self, meeting: _Meeting) -> None:
        """Price a complete meeting and let those who wait for it go on."""
        arrived = [(self._actors[index], arrival) for index, arrival in meeting.arrivals.items()]
        if self.price is not None:
            meeting.seconds = max(self.price(a.instruction, c.ranks.role, c.samples(a.row)) for c, a in arrived)
        for actor, _ in arrived:
            if actor.waits is not None and actor.waits[0] is meeting:
                actor.waits = None
                self._pass(actor, meeting)
                self._awake.append(actor)

    def _wait_for(self, actor: _Actor, meeting: _Meeting | None, instruction: Instruction) -> None:
        if meeting is None:
            sentence = f"{actor.ranks.does('wait')} for `{title(instruction)}`, which has not begun"
            self._problem("wait", actor, instruction, sentence)
        elif meeting.complete:
            self._pass(actor, meeting)
        else:
            actor.waits = (meeting, instruction)

    def _pass(self, actor: _Actor, meeting: _Meeting) -> None:
        """Go on behind a complete meeting, and so behind all that came before it on its stream."""
        stream = meeting.key[0]
        pending = actor.pending[stream]
        while meeting in pending:
            at = pending.popleft()
            start = max(at.ready, actor.over.get(stream, 0.0))
            end = actor.finish(start, at.seconds, self.overlap)
            actor.over[stream] = end
            self._record(actor, stream, start, end, at.arrivals[actor.index])
        end = max(actor.time, actor.over[stream])
        if end > actor.time:
            actor.idle.append((actor.time, end))
            actor.time = end

    def _record(self, actor: _Actor, stream: str, start: float, end: float, arrival: _Arrival) -> None:
        instruction, microbatch = arrival.instruction, arrival.row.microbatch
        self.events.append(
            Event(actor.index, stream, title(instruction), start, end, arrival.step, instruction, microbatch)
        )

    def _compare(self, actor: _Actor, mine: Instruction, other: _Actor, their: Instruction) -> None:
        """Report two instructions that meet and do not fit each other."""
        of_collectives = ("kind", "algorithm", "bytes", "blocking", "name")
        for fact in of_collectives if isinstance(mine, Collective) else ("bytes", "name"):
            one, two = getattr(mine, fact), getattr(their, fact)
            if one != two:
                sentence = f"{actor.ranks.does('enter')} `{title(mine)}` where {other.ranks.does('enter')}"
                self._problem("mismatch", actor, mine, f"{sentence} `{title(their)}`: {fact} {one} against {two}")
                return

    def _report_stuck(self) -> None:
        for actor in self._actors:
            if actor.waits is not None:
                meeting, instruction = actor.waits
                sentence = f"{actor.ranks.does('wait')} at `{title(instruction)}` for ever: {self._absent(meeting)}"
                self._problem("deadlock", actor, instruction, sentence)
            for name, meeting in actor.begun.items():
                if actor.ended and not meeting.complete:
                    sentence = f"`{name}`, which {actor.ranks.does('begin')}, never takes place"
                    instruction = meeting.arrivals[actor.index].instruction
                    self._problem("deadlock", actor, instruction, f"{sentence}: {self._absent(meeting)}")

    def _absent(self, meeting: _Meeting) -> str:
        """Who has not come to a meeting, and what each of them does instead."""
        instruction = next(iter(meeting.arrivals.values())).instruction
        expected = meeting.key[1] if isinstance(instruction, Collective) else meeting.key[1][:2]
        absent = (self._actors[index] for index in dict.fromkeys(expected) if index not in meeting.arrivals)
        return ", and ".join(
            f"{other.ranks.does('wait')} at `{title(other.waits[1])}`" if other.waits else f"{other.ranks} ended"
            for other in absent
        )

    def _problem(self, kind: ProblemKind, actor: _Actor, instruction: Instruction, sentence: str) -> None:
        self.problems.append(Problem(kind, sentence, actor.ranks.role.name, self.entry, title(instruction)))
