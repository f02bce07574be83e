"""Programs with something changed: an instruction, a buffer, a schedule, a group."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from dlc.ir.program import CommunicationGroup, Entry, Instruction, Program, Row
from dlc.ir.storage import title
from tests.ir.sample_programs import data_parallel, pipeline, split_in_two, with_role, with_segment

Edit = Callable[[list[Instruction]], Iterable[Instruction]]


def edited(program: Program, segment: str, edit: Edit, role: int = 0) -> Program:
    """The program with a segment of one role rewritten."""
    return with_segment(program, segment, edit(list(program.roles[role].segment(segment).instructions)), role)


def drop(name: str) -> Edit:
    """Leave out the instructions of that name."""
    return lambda found: [i for i in found if title(i) != name]


def double(name: str) -> Edit:
    """Do the instruction of that name twice."""
    return lambda found: [i for i in found for _ in range(2 if title(i) == name else 1)]


def swap(one: str, other: str) -> Edit:
    """Exchange two instructions."""

    def edit(found: list[Instruction]) -> list[Instruction]:
        at = {title(i): index for index, i in enumerate(found)}
        found[at[one]], found[at[other]] = found[at[other]], found[at[one]]
        return found

    return edit


def first(name: str) -> Edit:
    """Move an instruction to the front."""
    return lambda found: sorted(found, key=lambda i: title(i) != name)


def last(name: str) -> Edit:
    """Move an instruction to the end."""
    return lambda found: sorted(found, key=lambda i: title(i) == name)


def change(name: str, /, **changes: object) -> Edit:
    """Change fields of an instruction."""
    return lambda found: [replace(i, **changes) if title(i) == name else i for i in found]  # type: ignore[arg-type]


def insert(name: str, *made: Instruction) -> Edit:
    """Put instructions in front of one."""
    return lambda found: [i for at in found for i in ((*made, at) if title(at) == name else (at,))]


def buffer(program: Program, name: str, /, **changes: object) -> Program:
    """The program with a buffer of its first role changed."""
    role = program.roles[0]
    buffers = (replace(b, **changes) if b.name == name else b for b in role.buffers)  # type: ignore[arg-type]
    return with_role(program, replace(role, buffers=tuple(buffers)))


def schedule(program: Program, entry: str, *rows: Row, role: int = 0) -> Program:
    """The program with another schedule for one entry of one role."""
    found = program.roles[role]
    entries = tuple(Entry(e.name, rows) if e.name == entry else e for e in found.entries)
    return with_role(program, replace(found, entries=entries), role)


def shard(*shards: tuple[int, int]) -> Program:
    """Four data-parallel ranks with these shards."""
    program = data_parallel()
    return with_role(program, replace(program.roles[0], shards=shards))


def group(*members: tuple[int, ...]) -> Program:
    """Four data-parallel ranks whose group `data` has these members."""
    program = data_parallel()
    return replace(program, groups=(CommunicationGroup("data", members), program.groups[1]))


def train(edit: Edit, segment: str = "backward", role: int = 0, **made: object) -> Program:
    """Two roles of the same code of which one is changed: what they do differs."""
    return edited(split_in_two(data_parallel(**made)), segment, edit, role)  # type: ignore[arg-type]


def alone(edit: Edit, segment: str = "backward", **made: object) -> Program:
    """All ranks changed alike."""
    return edited(data_parallel(**made), segment, edit)  # type: ignore[arg-type]


def piped(edit: Edit, segment: str, role: int, **made: object) -> Program:
    """One stage of a pipeline changed."""
    return edited(pipeline(**made), segment, edit, role)  # type: ignore[arg-type]


def rows(text: str) -> tuple[Row, ...]:
    """`F0 B0`: rows of forward and backward in one slot a microbatch, framed by reset and update."""
    names = {"F": "forward", "B": "backward"}
    table = (Row(names[word[0]], int(word[1:]), int(word[1:])) for word in text.split())
    return (Row("reset"), *table, Row("update"))
