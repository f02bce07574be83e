"""Programs with one thing changed: an instruction, a row of a schedule, a buffer, a group."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from dlc.ir.program import (
    Buffer,
    Collective,
    CommunicationGroup,
    Compute,
    Entry,
    Instruction,
    Program,
    Role,
    Row,
    Segment,
)
from dlc.ir.storage import title

T = TypeVar("T")

Edit = tuple[str, Program]
"""What was changed, in words, and the Program with it."""


@dataclass(frozen=True, slots=True)
class Site:
    """An instruction of a program, by where it stands."""

    program: Program
    role: int
    segment: int
    at: int

    @property
    def owner(self) -> Role:
        """The role that it belongs to."""
        return self.program.roles[self.role]

    @property
    def instructions(self) -> tuple[Instruction, ...]:
        """Those of its segment."""
        return self.owner.segments[self.segment].instructions

    @property
    def instruction(self) -> Instruction:
        """The instruction itself."""
        return self.instructions[self.at]

    @property
    def name(self) -> str:
        """Which instruction it is, in words."""
        return f"`{title(self.instruction)}` of {self.owner.name}.{self.owner.segments[self.segment].name}"

    def instead(self, *made: Instruction) -> Program:
        """The program with these in its place."""
        return self.rewritten((*self.instructions[: self.at], *made, *self.instructions[self.at + 1 :]))

    def changed(self, **changes: object) -> Program:
        """The program with some fields of it changed."""
        return self.instead(replace(self.instruction, **changes))  # type: ignore[type-var]

    def moved(self, to: int) -> Program:
        """The program with the instruction at another position of its segment."""
        rest = [*self.instructions[: self.at], *self.instructions[self.at + 1 :]]
        return self.rewritten((*rest[:to], self.instruction, *rest[to:]))

    def rewritten(self, instructions: Iterable[Instruction]) -> Program:
        """The program with other instructions in the segment."""
        segments = list(self.owner.segments)
        segments[self.segment] = Segment(segments[self.segment].name, tuple(instructions))
        return with_role(self.program, self.role, segments=tuple(segments))


def sites(
    program: Program, kind: type | tuple[type, ...], where: Callable[[Site], bool] = lambda _: True
) -> Iterator[Site]:
    """The instructions of some kinds that a training step runs."""
    for index, role in enumerate(program.roles):
        run = {row.segment for entry in role.entries if entry.name == "train_step" for row in entry.schedule}
        for number, segment in enumerate(role.segments):
            for at, instruction in enumerate(segment.instructions if segment.name in run else ()):
                site = Site(program, index, number, at)
                if isinstance(instruction, kind) and where(site):
                    yield site


def with_role(program: Program, index: int, **changes: object) -> Program:
    """The program with a role changed."""
    roles = list(program.roles)
    roles[index] = replace(roles[index], **changes)  # type: ignore[arg-type]
    return replace(program, roles=tuple(roles))


def with_buffer(program: Program, index: int, buffer: Buffer, **changes: object) -> Program:
    """The program with a buffer of a role changed."""
    buffers = (replace(b, **changes) if b.name == buffer.name else b for b in program.roles[index].buffers)  # type: ignore[arg-type]
    return with_role(program, index, buffers=tuple(buffers))


def with_rows(program: Program, index: int, rows: Sequence[Row]) -> Program:
    """The program with another schedule of a training step."""
    entries = (
        Entry(entry.name, tuple(rows)) if entry.name == "train_step" else entry
        for entry in program.roles[index].entries
    )
    return with_role(program, index, entries=tuple(entries))


def with_group(program: Program, name: str, members: Iterable[tuple[int, ...]]) -> Program:
    """The program with other ranks in a group."""
    made = CommunicationGroup(name, tuple(members))
    return replace(program, groups=tuple(made if group.name == name else group for group in program.groups))


def rows_of(program: Program, index: int) -> tuple[Row, ...]:
    """The schedule of a training step of a role."""
    return next(entry.schedule for entry in program.roles[index].entries if entry.name == "train_step")


def spread(found: Iterable[T], count: int) -> list[T]:
    """So many of them, evenly from first to last."""
    every = list(found)
    if len(every) <= count:
        return every
    step = (len(every) - 1) / max(1, count - 1)
    return [every[round(at * step)] for at in range(count)]


# --- which places, and what could be taken for what --------------------------------------------------------------


def is_a(*kinds: str) -> Callable[[Site], bool]:
    """Whether an instruction is a collective of one of these kinds."""
    return lambda site: isinstance(site.instruction, Collective) and site.instruction.kind in kinds


def calls(*names: str) -> Callable[[Site], bool]:
    """Whether an instruction calls a kernel of one of these ops or passes."""
    return lambda site: isinstance(site.instruction, Compute) and bool({*site.instruction.kernel[:2]} & {*names})


def each(
    program: Program,
    kind: type,
    change: Callable[[Site], Program | None],
    where: Callable[[Site], bool] = lambda _: True,
) -> Iterator[Edit]:
    """The programs with an instruction of a kind changed, one for each of them that can be."""
    for site in sites(program, kind, where):
        made = change(site)
        if made is not None and made != program:
            yield site.name, made


def twins_of(role: Role, name: str, kinds: tuple[str, ...] = ()) -> list[Buffer]:
    """Other buffers that could be taken for one: of the same type and placement."""
    buffer = role.buffer(name)
    return [
        other
        for other in role.buffers
        if other.name != name
        and (other.type, other.placement, other.layout) == (buffer.type, buffer.placement, buffer.layout)
        and other.kind in (kinds or (buffer.kind,))
    ]
