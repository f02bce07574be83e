"""Abstract execution of an entry point: who meets whom, in what order, and when.

One engine serves the static check (no prices, all times zero) and the timeline simulator (real prices), so that a proof
and a cost cannot drift apart. Sends are rendezvous: a send ends when its receive has taken it. The k-th collective that
a rank begins on a group meets the k-th of every other rank of the group; sends and receives meet in order, by group
and pair of ranks, and bear the same name.

Time is discrete-event: ranks run ahead until they wait, then the meeting that is ready first takes place. It begins
when the last rank has arrived and the link is free on all of them.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from dlc.ir.problem import Problem, ProblemKind
from dlc.ir.program import Collective, Instruction, Program, Receive, Role, Row, Send, Wait
from dlc.ir.ranks import RankClass, instructions, members_around, peer
from dlc.ir.storage import title

COMPUTE = "compute"
"""The stream of kernels, copies and loads, and of what communication takes of the cores."""

Price = Callable[[Instruction, Role, int], float]
"""(instruction, role, samples) -> seconds; samples are those of the microbatch at hand on a rank."""

Key = tuple[str, tuple[int, ...]]
"""A group and the classes that meet in it; for point-to-point (sender, receiver, offset)."""


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


@dataclass(slots=True)
class _Meeting:
    """A collective or a transfer of one message: complete when all its classes have arrived."""

    key: Key
    number: int
    size: int
    arrivals: dict[int, tuple[Instruction, float, int, Row]] = field(default_factory=dict)
    hidden_until: float | None = None  # set when it has taken place
    exposed: float = 0.0  # seconds that it takes of the cores at its Wait

    @property
    def complete(self) -> bool:
        return len(self.arrivals) == self.size

    @property
    def ready(self) -> float:
        return max(time for _, time, _, _ in self.arrivals.values())


@dataclass(slots=True)
class _Actor:
    """A class of ranks on its way through the schedule."""

    index: int
    ranks: RankClass
    steps: Iterator[tuple[Row, Instruction]]
    microbatches: int
    time: float = 0.0
    step: int = -1
    free: dict[str, float] = field(default_factory=dict)  # link -> when its last transfer ends
    joined: Counter[tuple[Key, bool]] = field(default_factory=Counter)
    begun: dict[str, _Meeting] = field(default_factory=dict)  # non-blocking, without their Wait so far
    waits: tuple[_Meeting, Instruction] | None = None
    ended: bool = False

    def samples(self, row: Row) -> int:
        """This rank's samples of one microbatch."""
        held, parts, at = self.ranks.samples, self.microbatches, row.microbatch
        return held * (at + 1) // parts - held * at // parts


@dataclass(slots=True)
class Execution:
    """An execution of one entry point by classes of ranks.

    `price` None leaves all times at zero and looks at communication only. `overlap` is the share of a non-blocking
    collective that computing hides; the rest takes the compute stream at its Wait. `links` names the link of a group;
    groups on one link take turns.
    """

    program: Program
    entry: str
    classes: tuple[RankClass, ...]
    price: Price | None = None
    overlap: float = 0.0
    links: Mapping[str, str] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    _actors: list[_Actor] = field(default_factory=list)
    _class_of: dict[int, int] = field(default_factory=dict)
    _meetings: dict[tuple[Key, int], _Meeting] = field(default_factory=dict)
    _ready: list[tuple[float, str, int, tuple[int, ...], _Meeting]] = field(default_factory=list)

    def run(self) -> Outcome:
        """Execute to the end, or until nobody can go on."""
        for index, ranks in enumerate(self.classes):
            parts = 1 + max(
                (row.microbatch for e in ranks.role.entries if e.name == self.entry for row in e.schedule), default=0
            )
            self._actors.append(_Actor(index, ranks, instructions(ranks.role, self.entry), parts))
            self._class_of.update(dict.fromkeys(ranks.ranks, index))
        for actor in self._actors:
            self._advance(actor)
        while self._ready:
            self._take_place(heapq.heappop(self._ready)[-1])
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
                    self._wait(actor, row, instruction, actor.begun.pop(name, None))
                case _ if self.price is not None:
                    self._compute(
                        actor, row, instruction, self.price(instruction, actor.ranks.role, actor.samples(row))
                    )

    def _compute(self, actor: _Actor, row: Row, instruction: Instruction, seconds: float) -> None:
        end = actor.time + seconds
        name = title(instruction)
        self.events.append(Event(actor.index, COMPUTE, name, actor.time, end, actor.step, instruction, row.microbatch))
        actor.time = end

    def _enter(self, actor: _Actor, row: Row, collective: Collective) -> None:
        group = next(group for group in self.program.groups if group.name == collective.group)
        around = members_around(group, actor.ranks.ranks[0])
        key = (collective.group, tuple(sorted({self._class_of[rank] for rank in around})))
        meeting = self._join(actor, row, key, True, collective, len(key[1]))
        if collective.blocking:
            actor.waits = (meeting, collective)
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
        pair = ends if sends else ends[::-1]
        key = (transfer.group, (*pair, transfer.peer if sends else -transfer.peer))
        actor.waits = (self._join(actor, row, key, sends, transfer, 2), transfer)

    def _join(self, actor: _Actor, row: Row, key: Key, side: bool, instruction: Instruction, size: int) -> _Meeting:
        """Arrive at the next meeting of that key; when the last has arrived it is ready to take place."""
        number = actor.joined[key, side]
        actor.joined[key, side] += 1
        meeting = self._meetings.setdefault((key, number), _Meeting(key, number, size))
        for other, (their, _, _, _) in meeting.arrivals.items():
            self._compare(actor, instruction, self._actors[other], their)
            break
        meeting.arrivals[actor.index] = (instruction, actor.time, actor.step, row)
        if meeting.complete:
            heapq.heappush(self._ready, (meeting.ready, key[0], number, key[1], meeting))
        return meeting

    def _wait(self, actor: _Actor, row: Row, wait: Wait, meeting: _Meeting | None) -> None:
        if meeting is None:
            self._problem("wait", actor, wait, f"{actor.ranks.does('wait')} for `{wait.name}`, which has not begun")
        elif meeting.hidden_until is None:
            actor.waits = (meeting, wait)
        else:
            self._finish(actor, meeting)

    def _take_place(self, meeting: _Meeting) -> None:
        """Give a complete meeting its time and let those who wait for it go on."""
        link = self.links.get(meeting.key[0], meeting.key[0])
        members = [(self._actors[index], *arrival) for index, arrival in meeting.arrivals.items()]
        start = max(meeting.ready, *(actor.free.get(link, 0.0) for actor, *_ in members))
        seconds = 0.0
        if self.price is not None:
            seconds = max(self.price(i, actor.ranks.role, actor.samples(row)) for actor, i, _, _, row in members)
        hides = any(isinstance(i, Collective) and not i.blocking for _, i, *_ in members)
        hidden = self.overlap * seconds if hides else seconds
        meeting.hidden_until, meeting.exposed = start + hidden, seconds - hidden
        for actor, instruction, _, step, row in members:
            actor.free[link] = start + hidden
            self.events.append(
                Event(actor.index, link, title(instruction), start, start + hidden, step, instruction, row.microbatch)
            )
        for actor, *_ in members:
            if actor.waits is not None and actor.waits[0] is meeting:
                actor.waits = None
                self._finish(actor, meeting)
                self._advance(actor)

    def _finish(self, actor: _Actor, meeting: _Meeting) -> None:
        """Go on after a meeting: what of it could not be hidden takes the cores now."""
        actor.time = max(actor.time, meeting.hidden_until or 0.0)
        if meeting.exposed:
            instruction, _, _, row = meeting.arrivals[actor.index]
            self._compute(actor, row, instruction, meeting.exposed)

    def _compare(self, actor: _Actor, mine: Instruction, other: _Actor, their: Instruction) -> None:
        """Report two instructions that meet and do not fit each other."""
        of_collectives = ("kind", "algorithm", "bytes", "blocking", "name")
        facts = of_collectives if isinstance(mine, Collective) else ("bytes", "name")
        for fact in facts:
            one, two = getattr(mine, fact), getattr(their, fact)
            if one != two:
                self._problem(
                    "mismatch",
                    actor,
                    mine,
                    f"{actor.ranks.does('enter')} `{title(mine)}` where {other.ranks.does('enter')} `{title(their)}`: "
                    f"{fact} {one} against {two}",
                )
                return

    def _report_stuck(self) -> None:
        for actor in self._actors:
            if actor.waits is not None:
                meeting, instruction = actor.waits
                sentence = f"{actor.ranks.does('wait')} at `{title(instruction)}` for ever: {self._absent(meeting)}"
                self._problem("deadlock", actor, instruction, sentence)
            for name, meeting in actor.begun.items():
                if actor.ended and not meeting.complete:
                    sentence = (
                        f"`{name}`, which {actor.ranks.does('begin')}, never takes place: {self._absent(meeting)}"
                    )
                    self._problem("deadlock", actor, meeting.arrivals[actor.index][0], sentence)

    def _absent(self, meeting: _Meeting) -> str:
        """Who has not come to a meeting, and what each of them does instead."""
        instruction, *_ = next(iter(meeting.arrivals.values()))
        expected = meeting.key[1] if isinstance(instruction, Collective) else meeting.key[1][:2]
        absent = [self._actors[index] for index in dict.fromkeys(expected) if index not in meeting.arrivals]
        return ", and ".join(
            f"{other.ranks.does('wait')} at `{title(other.waits[1])}`" if other.waits else f"{other.ranks} ended"
            for other in absent
        )

    def _problem(self, kind: ProblemKind, actor: _Actor, instruction: Instruction, sentence: str) -> None:
        self.problems.append(Problem(kind, sentence, actor.ranks.role.name, self.entry, title(instruction)))
