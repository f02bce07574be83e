"""Abstract execution of an entry point: who meets whom, in what order, and when.

One engine serves the static check (no prices, all times zero) and the timeline simulator (real prices), so that a proof
and a cost cannot drift apart.

* The k-th collective that a rank enters on a group meets the k-th of every other rank of the group. Sends are
  rendezvous: the k-th send of one rank to another along a group meets the other's k-th receive from it. What meets
  bears one name.
* A meeting begins when its last rank has arrived, and on each rank when the one before it on that stream is over. Who
  blocks goes on when it is over; who does not goes on at once, and is held up by the Wait of its name.
* Where a rank computes while communication is under way, that advances at the rate `overlap` (a property of the
  device, 0 to 1); where the rank waits, at full speed. `dlc.cost.communication.exposed` is the closed form.
* Each group is a stream of its own, and so is each direction of messages. Copies that do not block have one, too.
* What a class of ranks does by itself is taken in one step (`dlc.ir.stretches`).

Groups that share a link are priced as if each had it for itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from dlc.ir.meetings import Actor, Arrival, Channel, Meeting, Meets, ticked
from dlc.ir.problem import Problem, ProblemKind
from dlc.ir.program import Collective, Copy, Instruction, Program, Receive, Role, Send, Wait
from dlc.ir.ranks import Neighbours, RankClass, microbatches, schedule
from dlc.ir.storage import title
from dlc.ir.stretches import History, Part, Run, Single, Stretch, parts, singles

COMPUTE, COPY = "compute", "copy"
"""The streams of kernels, loads and blocking copies, and of copies beside them; any other is of a group."""

Price = Callable[[Instruction, Role, int], float]
"""(instruction, role, samples) -> seconds; samples are those of the microbatch at hand on a rank."""

ClassPrice = Callable[[Instruction, RankClass, int], float]
"""The same for a class of ranks, which knows what kind of ranks they are."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an execution went, by class: what happened, when each row of the schedule began, when the class ended.

    `exposed` are the seconds in which a class waited for a transfer that was under way.
    """

    histories: tuple[History, ...]
    rows: tuple[tuple[float, ...], ...]
    ends: tuple[float, ...]
    exposed: tuple[float, ...]
    problems: tuple[Problem, ...]


@dataclass(slots=True)
class Execution:
    """An execution of one entry point by classes of ranks; `price` None looks at communication only, in no time.

    Without `collapsed` every instruction is a step of its own.
    """

    program: Program
    entry: str
    classes: tuple[RankClass, ...]
    price: ClassPrice | None = None
    overlap: float = 0.0
    collapsed: bool = True
    problems: list[Problem] = field(default_factory=list)
    _actors: list[Actor] = field(default_factory=list)
    _class_of: dict[int, int] = field(default_factory=dict)
    _channels: dict[tuple[int, str], Channel] = field(default_factory=dict)
    _cut: dict[tuple[str, str, float, tuple[str, ...]], dict[str, tuple[Part, ...]]] = field(default_factory=dict)
    _meetings: dict[tuple[Channel, int], Meeting] = field(default_factory=dict)
    _awake: deque[Actor] = field(default_factory=deque)
    _around: Neighbours = field(init=False)

    def __post_init__(self) -> None:
        self._around = Neighbours.of(self.program)

    def run(self) -> Outcome:
        """Execute to the end, or until nobody can go on."""
        for index, ranks in enumerate(self.classes):
            self._class_of.update(dict.fromkeys(ranks.ranks, index))
            self._actors.append(Actor(index, ranks))
        for actor in self._actors:
            actor.parts = self._parts(actor)
        self._awake.extend(self._actors)
        while self._awake:
            self._advance(self._awake.popleft())
        self._report_stuck()
        return Outcome(
            tuple(actor.history for actor in self._actors),
            tuple(tuple(actor.rows) for actor in self._actors),
            tuple(actor.time for actor in self._actors),
            tuple(actor.exposed for actor in self._actors),
            tuple(self.problems),
        )

    def _parts(self, actor: Actor) -> Iterator[Part]:
        """What a class does, row by row of its schedule, in stretches where it can."""
        ranks, role, rows = actor.ranks, actor.ranks.role, schedule(actor.ranks.role, self.entry)
        alone = tuple(group for group in self._around.groups if len(self._channel(actor, group).classes) == 1)
        cut: dict[str, tuple[Part, ...]] = self._cut.setdefault((role.name, ranks.device, ranks.slowdown, alone), {})
        held, count, first = ranks.samples, microbatches(rows), 0
        for row in rows:
            inside = role.segment(row.segment).instructions
            if row.segment not in cut:
                cut[row.segment] = parts(inside, partial(_own, alone)) if self.collapsed else singles(inside)
            actor.samples = held * (row.microbatch + 1) // count - held * row.microbatch // count
            actor.rows.append(actor.time)
            for part in cut[row.segment]:
                for piece in self._taken(actor, part):
                    actor.step = first + piece.at
                    yield piece
            first += len(inside)

    def _taken(self, actor: Actor, part: Part) -> tuple[Part, ...]:
        """A part, or its pieces where it is a stretch and something is under way on its streams."""
        if isinstance(part, Single) or not actor.flying:
            return (part,)
        busy = any(actor.pending.get(self._channel(actor, stream)) for stream in part.streams)
        return part.pieces if busy else (part,)

    def _advance(self, actor: Actor) -> None:
        """Run a class until it waits or ends."""
        for part in actor.parts:
            if isinstance(part, Stretch):
                self._run(actor, part)
            else:
                self._step(actor, part.instruction)
                if actor.waits is not None:
                    return
        actor.ended = True

    def _run(self, actor: Actor, stretch: Stretch) -> None:
        """Take a whole stretch: as it goes for a class that does nothing else, and starts now."""
        if self.price is None:
            return
        run = stretch.runs.get(actor.samples)
        if run is None:
            alone = Actor(actor.index, actor.ranks, actor.samples, flying=1)  # so that all its idleness is kept
            for step, instruction in enumerate(stretch.instructions):
                alone.step = step
                self._step(alone, instruction)
            run = Run(alone.time, tuple(alone.idle), alone.exposed, alone.history)
            stretch.runs[actor.samples] = run
        actor.history.add_run(run, actor.time, actor.step)
        if actor.flying:
            actor.idle += [(actor.time + begin, actor.time + end) for begin, end in run.idle]
        actor.time += run.seconds
        actor.exposed += run.exposed

    def _step(self, actor: Actor, instruction: Instruction) -> None:
        match instruction:
            case Collective():
                self._meet(actor, self._channel(actor, instruction.group), True, instruction)
            case Send() | Receive():
                self._transfer(actor, instruction)
            case Wait(name=name):
                waiting = actor.begun.get(name)
                self._wait_for(actor, waiting.popleft() if waiting else None, instruction)
            case Copy(blocking=False):
                self._meet(actor, self._channel(actor, COPY), True, instruction)
            case _ if self.price is not None:
                end = actor.time + self._seconds(instruction, actor.ranks, actor.samples)
                actor.history.add(COMPUTE, actor.time, end, actor.step)
                actor.time = end

    def _channel(self, actor: Actor, group: str) -> Channel:
        """Where a class enters the collectives of a group, or does its copies."""
        key = (actor.index, group)
        if key not in self._channels:
            around = actor.ranks.ranks if group == COPY else self._around.members(group, actor.ranks.ranks[0])
            self._channels[key] = Channel(group, tuple(sorted({self._class_of[rank] for rank in around})))
        return self._channels[key]

    def _transfer(self, actor: Actor, transfer: Send | Receive) -> None:
        other = self._around.peer(transfer.group, actor.ranks.ranks[0], transfer.peer)
        if other is None or transfer.peer == 0:
            where = "to itself" if transfer.peer == 0 else f"beyond the end of group `{transfer.group}`"
            sentence = f"`{transfer.name}` goes {transfer.peer:+d} from {actor.ranks}, {where}"
            self._problem("structure", actor, transfer, sentence)
            return
        ends, sends = (actor.index, self._class_of[other]), isinstance(transfer, Send)
        ends, offset = (ends, transfer.peer) if sends else (ends[::-1], -transfer.peer)
        self._meet(actor, Channel(transfer.group, ends, offset), sends, transfer)

    def _meet(self, actor: Actor, channel: Channel, side: bool, instruction: Meets) -> None:
        """Arrive at the next meeting of a channel, and wait for its end where the instruction blocks."""
        meeting = self._meeting(actor, channel, side)
        for other, theirs in meeting.arrivals.items():
            self._compare(actor, instruction, self._actors[other], theirs.instruction)
            break
        meeting.arrivals[actor.index] = Arrival(instruction, actor.time, actor.step, actor.samples)
        meeting.ready = max(meeting.ready, actor.time)
        actor.pending.setdefault(channel, deque()).append(meeting)
        actor.flying += 1
        if meeting.complete:
            self._begin(meeting)
        if instruction.blocking:
            self._wait_for(actor, meeting, instruction)
        else:
            actor.begun.setdefault(title(instruction), deque()).append(meeting)

    def _meeting(self, actor: Actor, channel: Channel, side: bool) -> Meeting:
        """The next meeting of a channel for a class; `side` tells who sends from who receives."""
        if len(channel.classes) == 1:
            return Meeting(channel, 1)
        number = actor.joined[channel, side]
        actor.joined[channel, side] += 1
        meeting = self._meetings.get((channel, number))
        if meeting is None:
            meeting = self._meetings[channel, number] = Meeting(channel, len(channel.classes))
        elif len(meeting.arrivals) == meeting.size - 1:  # its last class is here: nobody will ask for it again
            del self._meetings[channel, number]
        return meeting

    def _begin(self, meeting: Meeting) -> None:
        """Price a complete meeting and let those who wait for it go on."""
        arrived = [(self._actors[index], arrival) for index, arrival in meeting.arrivals.items()]
        if self.price is not None:
            meeting.seconds = max(self._seconds(a.instruction, c.ranks, a.samples) for c, a in arrived)
        for actor, _ in arrived:
            if actor.waits is not None and actor.waits[0] is meeting:
                actor.waits = None
                self._pass(actor, meeting)
                self._awake.append(actor)

    def _seconds(self, instruction: Instruction, ranks: RankClass, samples: int) -> float:
        return ticked(self.price(instruction, ranks, samples)) if self.price is not None else 0.0

    def _wait_for(self, actor: Actor, meeting: Meeting | None, instruction: Instruction) -> None:
        if meeting is None:
            sentence = f"{actor.ranks.does('wait')} for `{title(instruction)}`, which has not begun"
            self._problem("wait", actor, instruction, sentence)
        elif meeting.complete:
            self._pass(actor, meeting)
        else:
            actor.waits = (meeting, instruction)

    def _pass(self, actor: Actor, meeting: Meeting) -> None:
        """Go on behind a complete meeting, and so behind all that came before it on its stream."""
        channel, pending = meeting.channel, actor.pending[meeting.channel]
        while meeting in pending:
            at = pending.popleft()
            actor.flying -= 1
            start = max(at.ready, actor.over.get(channel, 0.0))
            end = actor.finish(start, at.seconds, self.overlap)
            actor.over[channel] = end
            actor.exposed += max(0.0, end - max(start, actor.time))
            if self.price is not None:
                stream = channel.stream(actor.index)
                actor.history.add(stream, start, end, at.arrivals[actor.index].step)
                if channel.offset:
                    actor.history.peers[stream] = channel.other(actor.index)
        actor.go_on(actor.over[channel])

    def _compare(self, actor: Actor, mine: Instruction, other: Actor, their: Instruction) -> None:
        """Report two instructions that meet and do not fit each other."""
        of_collectives = ("kind", "algorithm", "bytes", "blocking", "name", "attrs")
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
            for name, meeting in ((name, one) for name, several in actor.begun.items() for one in several):
                if actor.ended and not meeting.complete:
                    sentence = f"`{name}`, which {actor.ranks.does('begin')}, never takes place"
                    instruction = meeting.arrivals[actor.index].instruction
                    self._problem("deadlock", actor, instruction, f"{sentence}: {self._absent(meeting)}")

    def _absent(self, meeting: Meeting) -> str:
        """Who has not come to a meeting, and what each of them does instead."""
        expected = dict.fromkeys(meeting.channel.classes)
        absent = (self._actors[index] for index in expected if index not in meeting.arrivals)
        return ", and ".join(
            f"{other.ranks.does('wait')} at `{title(other.waits[1])}`" if other.waits else f"{other.ranks} ended"
            for other in absent
        )

    def _problem(self, kind: ProblemKind, actor: Actor, instruction: Instruction, sentence: str) -> None:
        self.problems.append(Problem(kind, sentence, actor.ranks.role.name, self.entry, title(instruction)))


def _own(alone: tuple[str, ...], instruction: Instruction) -> str | None:
    """The stream of an instruction that takes a class alone, "" where it computes; None where it meets others.

    `alone` are the groups in which it is by itself.
    """
    match instruction:
        case Collective(group=group):
            return group if group in alone else None
        case Send() | Receive() | Wait():
            return None
        case Copy(blocking=False):
            return COPY
    return ""
