"""All roles of a program on their way through an entry point, side by side: who sends what to whom, and what it is."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from dlc.ir.problem import Problem
from dlc.ir.program import Collective, Compute, Copy, Instruction, Load, Receive, Send, Wait
from dlc.ir.storage import begins, title, touched
from dlc.proof import by_rows, casts, exchanges, fusions, kernels, updates
from dlc.proof.memory import Content
from dlc.proof.neighbours import Around
from dlc.proof.state import At, State
from dlc.proof.terms import added

Message = tuple[str, Content | None]
"""The sender's buffer, and what it held."""


@dataclass(slots=True)
class _Channel:
    """Messages of one role to another along a group, in order."""

    sent: list[Message] = field(default_factory=list)
    received: int = 0


@dataclass(slots=True)
class _Meeting:
    """A sum over several roles: what each of them brings."""

    brought: dict[int, tuple[str, Content | None]] = field(default_factory=dict)


@dataclass(slots=True)
class Walk:
    """The states of all roles, and what is between them."""

    states: Sequence[State]
    rows: Sequence[Sequence[At]]
    around: Around
    outputs: Sequence[str] = ()
    channels: dict[tuple[str, int, int], _Channel] = field(default_factory=dict)
    meetings: dict[tuple[str, int], _Meeting] = field(default_factory=dict)

    def run(self) -> tuple[Problem, ...]:
        """Every role to the end, or as far as it comes; what cannot go on is no fault of contents."""
        waiting = deque((index, self._steps(index)) for index in range(len(self.states)))
        idle = 0
        while waiting and idle < len(waiting):
            index, steps = waiting.popleft()
            moved = next(steps, None)
            if moved is None:
                idle = 0
                continue
            idle = 0 if moved else idle + 1
            waiting.append((index, steps))
        return tuple(problem for state in self.states for problem in state.found.values())

    def _steps(self, index: int) -> Iterator[bool]:
        """Run a role; yields where it has to wait, whether it has moved since it waited last."""
        state, begun = self.states[index], dict[str, deque[tuple[Instruction, At, object]]]()
        joined: dict[str, int] = {}
        moved = True
        for at in self.rows[index]:
            for made in state.role.segment(at.row.segment).instructions:
                if isinstance(made, Compute):  # most are
                    _compute(state, at, made)
                    continue
                if isinstance(made, Wait):
                    ending = begun.get(made.name)
                    if not ending:
                        continue
                    wait = made
                    made, then, ticket = _oldest(ending, at)
                    self._check_slot(state, wait, made, then, at)
                else:
                    then, ticket = at, self._begin(index, at, made, joined)
                    if begins(made):
                        if isinstance(made, Collective) and isinstance(ticket, dict):
                            by_rows.begin(state, at, made, ticket)
                        begun.setdefault(title(made), deque()).append((made, at, ticket))
                        continue
                while not self._ready(index, made, ticket):
                    yield moved
                    moved = False
                moved = True
                self._end(index, then, made, ticket)
            self._note_outputs(state, at)

    def _check_slot(self, state: State, wait: Wait, made: Instruction, then: At, at: At) -> None:
        """What has a copy for each slot is waited for in its own."""
        if then.row.slot != at.row.slot and any(state.layout.span(name)[3] for name in touched(made)):
            sentence = f"`{wait.name}`, which began in slot {then.row.slot}, is waited for in slot {at.row.slot}"
            state.problem("wait", wait, sentence)

    # --- one instruction ---------------------------------------------------------------------------------------

    def _begin(self, index: int, at: At, made: Instruction, joined: dict[str, int]) -> object:
        """What an instruction does where it begins; what its end needs to know."""
        state = self.states[index]
        match made:
            case Load():
                exchanges.load(state, at, made)
            case Copy(blocking=True):
                exchanges.copy(state, at, made)
            case Collective(group=group) if self.around.crosses(index, group):
                casts.check_sum(state, made)
                number = joined[group] = joined.get(group, -1) + 1
                meeting = self.meetings.setdefault((group, number), _Meeting())
                meeting.brought[index] = (made.buffer, state.read(at, made, made.buffer))
                return meeting
            case Collective():
                return exchanges.begin(state, at, made)
            case Send():
                channel = self._channel(made.group, index, self.around.peer(index, made.group, made.peer))
                if channel is not None:
                    channel.sent.append((made.buffer, state.read(at, made, made.buffer)))
            case Receive():
                peer = self.around.peer(index, made.group, made.peer)
                channel = None if peer is None else self._channel(made.group, peer, index)
                if channel is not None:
                    channel.received += 1
                    return channel, channel.received - 1
        return None

    def _ready(self, index: int, made: Instruction, ticket: object) -> bool:
        """Whether what an instruction waits for is there."""
        match made, ticket:
            case Collective(group=group), _Meeting(brought=brought):
                return len(brought) == self.around.roles(index, group)
            case Receive(), (_Channel(sent=sent), int(number)):
                return number < len(sent)
        return True

    def _end(self, index: int, at: At, made: Instruction, ticket: object) -> None:
        """What an instruction leaves behind."""
        state = self.states[index]
        match made, ticket:
            case Copy(blocking=False), _:
                exchanges.copy(state, at, made)
            case Collective(), _Meeting(brought=brought):
                self._add(state, at, made, brought)
            case Collective(), dict():
                by_rows.end(state, at, made)
                for name, content in ticket.items():
                    state.write(at, made, name, content, in_place=not made.target and made.kind == "allreduce")
            case Receive(buffer=buffer), (_Channel(sent=sent), int(number)):
                name, content = sent[number]
                peer = self.around.peer(index, made.group, made.peer)
                assert peer is not None
                self._take(
                    state, at, made, self.states[peer].role.buffer(name).type == state.role.buffer(buffer).type, content
                )

    def _take(self, state: State, at: At, made: Receive, alike: bool, content: Content | None) -> None:
        """A message arrives: the same part on the same rank of the other stage."""
        if not alike:
            state.problem("mismatch", made, f"`{made.name}` arrives in `{made.buffer}`, which has another type")
            content = None
        state.write(at, made, made.buffer, content)

    def _add(self, state: State, at: At, made: Collective, brought: dict[int, tuple[str, Content | None]]) -> None:
        """A sum over roles, of what is held alike on each of them."""
        contents = [content for _, content in brought.values() if content is not None]
        types = {self.states[index].role.buffer(name).type for index, (name, _) in brought.items()}
        if made.kind != "allreduce" or len(types) > 1 or len({content.form for content in contents}) > 1:
            state.problem("parts", made, f"`{made.name}` does not sum what several roles hold alike")
            contents = []
        whole = len(contents) == len(brought)
        content = Content(added(c.terms for c in contents), contents[0].form) if whole else None
        state.memory.write(made.buffer, at.row.slot, content)

    def _channel(self, group: str, source: int, target: int | None) -> _Channel | None:
        return None if target is None else self.channels.setdefault((group, source, target), _Channel())

    def _note_outputs(self, state: State, at: At) -> None:
        """Remember what the buffers of outputs held behind each row that may have filled them."""
        for name in self.outputs:
            if at.row.segment in state.fills(name):
                content = state.read(at, Load((name,), name), name)
                if content is not None:
                    state.results.setdefault(name, {})[content.terms] = content.form


def _compute(state: State, at: At, made: Compute) -> None:
    """A kernel: one that works in place, one that gives squares for norms, or any other; a fused one by its members."""
    if made.members:
        fusions.compute(state, at, made, _compute)
        return
    if state.changes.casts:
        casts.check_kernel(state, at, made)
    node = state.changes.nodes.get(made.address)
    if node is not None and node.stage in updates.STAGES:
        updates.update(state, at, made, node)
    elif made.kernel[0] == "sums" and made.kernel[1] in state.changes.operators:
        updates.squares(state, at, made)
    else:
        kernels.compute(state, at, made)


def _oldest(begun: deque[tuple[Instruction, At, object]], at: At) -> tuple[Instruction, At, object]:
    """What began in the slot at hand, else the oldest."""
    for each in begun:
        if each[1].row.slot == at.row.slot:
            begun.remove(each)
            return each
    return begun.popleft()
