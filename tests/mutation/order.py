"""Faults in loads, messages and schedules: what comes from where, when and for which microbatch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

from dlc.ir.program import Copy, Instruction, Load, Program, Receive, Role, Row, Send
from dlc.ir.storage import reads, title, writes
from tests.mutation.editing import (
    Edit,
    Site,
    each,
    rows_of,
    sites,
    twins_of,
    with_rows,
)

# --- loads and copies ----------------------------------------------------------------------------------------------

ONCE = ("copies", "begin", "reduce", "unscale", "update")
"""Segments that run once in a step, for no microbatch."""


def missing_load(program: Program) -> Iterator[Edit]:
    """The data set is not asked for a field, or not at all."""
    yield from each(program, Load, lambda site: site.instead())
    for site in sites(program, Load):
        made = site.instruction
        assert isinstance(made, Load)
        for name in made.buffers if len(made.buffers) > 1 else ():
            yield f"{name} of {site.name}", site.changed(buffers=tuple(n for n in made.buffers if n != name))


def missing_copy(program: Program) -> Iterator[Edit]:
    """A rank's own part is not cut out."""
    yield from each(program, Copy, lambda site: site.instead())


def reversed_copy(program: Program) -> Iterator[Edit]:
    """A copy goes the other way."""

    def back(site: Site) -> Program:
        made = site.instruction
        assert isinstance(made, Copy)
        return site.changed(source=made.target, target=made.source)

    yield from each(program, Copy, back)


# --- messages ------------------------------------------------------------------------------------------------------


def swapped_messages(program: Program) -> Iterator[Edit]:
    """Two sends, or two receives, in the other order; a send and a receive change places."""
    for kind in (Send, Receive, (Send, Receive)):
        found = list(sites(program, kind))
        for one, two in pairwise(found):
            if (one.role, one.segment) == (two.role, two.segment) and title(one.instruction) != title(two.instruction):
                made = list(one.instructions)
                made[one.at], made[two.at] = made[two.at], made[one.at]
                yield f"{one.name} and {two.name}", one.rewritten(made)


def dropped_message(program: Program) -> Iterator[Edit]:
    """A send or a receive is left out."""
    for kind in (Send, Receive):
        yield from each(program, kind, lambda site: site.instead())


def doubled_message(program: Program) -> Iterator[Edit]:
    """A send or a receive is done twice."""
    for kind in (Send, Receive):
        yield from each(program, kind, lambda s: s.instead(s.instruction, s.instruction))


def wrong_peer(program: Program) -> Iterator[Edit]:
    """A message goes the other way."""
    for kind in (Send, Receive):
        yield from each(program, kind, lambda s: s.changed(peer=-s.instruction.peer))  # type: ignore[union-attr]


def wrong_message(program: Program) -> Iterator[Edit]:
    """Another buffer of the same type is sent, or filled."""
    for kind in (Send, Receive):
        for site in sites(program, kind):
            name = site.instruction.buffer  # type: ignore[union-attr]
            for twin in twins_of(site.owner, name, ("activation", "gradient", "weight"))[:2]:
                yield f"{twin.name} in {site.name}", site.changed(buffer=twin.name)


def late_message(program: Program) -> Iterator[Edit]:
    """What is sent is overwritten first, or received behind its reader."""
    yield from each(program, Send, lambda s: s.moved(0) if s.at else None)
    yield from each(program, Receive, lambda s: s.moved(len(s.instructions)))


def wrong_name(program: Program) -> Iterator[Edit]:
    """Two messages bear each other's names on one side."""
    for kind in (Send, Receive):
        yield from each(program, kind, lambda s: s.changed(name=f"{s.instruction.name}.other"))  # type: ignore[union-attr]


# --- schedules -----------------------------------------------------------------------------------------------------


def _schedules(program: Program, change: Callable[[list[Row], int], list[Row] | None]) -> Iterator[Edit]:
    for index, role in enumerate(program.roles):
        rows = rows_of(program, index)
        for at, row in enumerate(rows):
            made = change(list(rows), at)
            if made is not None and tuple(made) != rows:
                words = f"row {at} of {role.name}: {row.segment} of microbatch {row.microbatch}"
                yield words, with_rows(program, index, made)


def dropped_row(program: Program) -> Iterator[Edit]:
    """A segment does not run for a microbatch."""
    yield from _schedules(program, lambda rows, at: rows[:at] + rows[at + 1 :])


def doubled_row(program: Program) -> Iterator[Edit]:
    """A segment runs twice."""
    twice = lambda rows, at: rows[: at + 1] + rows[at:]  # noqa: E731
    yield from _schedules(program, lambda rows, at: None if rows[at].segment == "begin" else twice(rows, at))


def wrong_slot(program: Program) -> Iterator[Edit]:
    """A segment works on another microbatch's buffers."""

    def other(rows: list[Row], at: int) -> list[Row] | None:
        slots = {row.slot for row in rows}
        if len(slots) < 2 or rows[at].segment in ONCE:
            return None
        return [*rows[:at], replace(rows[at], slot=(rows[at].slot + 1) % len(slots)), *rows[at + 1 :]]

    yield from _schedules(program, other)


def wrong_microbatch(program: Program) -> Iterator[Edit]:
    """A segment runs for another microbatch."""

    def other(rows: list[Row], at: int) -> list[Row] | None:
        count = 1 + max(row.microbatch for row in rows)
        if count < 2 or rows[at].segment.endswith(".sent") or rows[at].segment in ONCE:
            return None
        return [*rows[:at], replace(rows[at], microbatch=(rows[at].microbatch + 1) % count), *rows[at + 1 :]]

    yield from _schedules(program, other)


def early_row(program: Program) -> Iterator[Edit]:
    """A segment runs before the one that it follows, and reads what that writes."""
    for index, role in enumerate(program.roles):
        rows = rows_of(program, index)
        for at in range(1, len(rows)):
            one, two = rows[at - 1], rows[at]
            alike = one.microbatch == two.microbatch or two.segment in ("reduce", "update")
            if alike and _parents(role, one.segment, writes) & _parents(role, two.segment, reads):
                made = [*rows[: at - 1], two, one, *rows[at + 1 :]]
                yield (
                    f"row {at} of {role.name}: {two.segment} of microbatch {two.microbatch}",
                    with_rows(program, index, made),
                )


def _parents(role: Role, segment: str, of: Callable[[Instruction], tuple[str, ...]]) -> set[str]:
    """What a segment touches, but for its arena: what each buffer is a view of."""
    found = set[str]()
    for name in (name for made in role.segment(segment).instructions for name in of(made)):
        buffer = role.buffer(name)
        while buffer.view_of is not None and role.buffer(buffer.view_of).kind != "workspace":
            buffer = role.buffer(buffer.view_of)
        found.add(buffer.name)
    return found


def one_slot(program: Program) -> Iterator[Edit]:
    """All microbatches in flight share one slot."""
    for index, role in enumerate(program.roles):
        rows = rows_of(program, index)
        if any(row.slot for row in rows):
            yield role.name, with_rows(program, index, [replace(row, slot=0) for row in rows])
