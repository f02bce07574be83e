"""Faults in collectives, their groups, and the rows of other ranks that they fetch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dlc.ir.program import BORDER, INNER, OUTER, ROWS, Collective, Compute, Program, Wait
from dlc.ir.storage import begins, reads, title, writes
from tests.mutation.editing import (
    Edit,
    Site,
    each,
    is_a,
    sites,
    twins_of,
    with_group,
    with_role,
)

# --- collectives ---------------------------------------------------------------------------------------------------


def dropped_collective(program: Program) -> Iterator[Edit]:
    """A collective is left out, with its wait."""
    for site in sites(program, Collective):
        left = program
        for index, role in enumerate(program.roles):
            segments = tuple(
                replace(s, instructions=tuple(i for i in s.instructions if title(i) != title(site.instruction)))
                for s in role.segments
            )
            left = with_role(left, index, segments=segments)
        yield site.name, left


def doubled_collective(program: Program) -> Iterator[Edit]:
    """A sum over ranks is done twice, in place."""

    def twice(site: Site) -> Program | None:
        made = site.instruction
        assert isinstance(made, Collective)
        return None if made.target else site.instead(replace(made, blocking=True), made)

    yield from each(program, Collective, twice, is_a("allreduce", "reduce_scatter"))


def wrong_group(program: Program) -> Iterator[Edit]:
    """A collective goes over another group."""
    names = [group.name for group in program.groups if "pipeline" not in group.name]
    for other in names:
        yield from each(program, Collective, lambda s, other=other: s.changed(group=other))


def wrong_kind(program: Program) -> Iterator[Edit]:
    """A collective of another kind."""
    others = {
        "allreduce": "allgather",
        "allgather": "reduce_scatter",
        "reduce_scatter": "allgather",
        "all_to_all": "allgather",
    }
    known = is_a(*others)
    yield from each(program, Collective, lambda s: s.changed(kind=others[s.instruction.kind]), known)


def early_collective(program: Program) -> Iterator[Edit]:
    """A collective comes before what it takes part with is there."""
    for site in sites(program, Collective):
        made = site.instruction
        assert isinstance(made, Collective)
        members = {made.buffer, *(b.name for b in site.owner.buffers if b.view_of == made.buffer)}
        if members.intersection(name for i in site.instructions[: site.at] for name in writes(i)):
            yield site.name, site.moved(0)


def late_collective(program: Program) -> Iterator[Edit]:
    """A collective comes behind its readers."""

    def late(site: Site) -> Program | None:
        names = set(writes(site.instruction))
        behind = [i for i in site.instructions[site.at + 1 :] if names.intersection(reads(i))]
        return site.moved(len(site.instructions)) if behind and not begins(site.instruction) else None

    yield from each(program, Collective, late)


def missing_wait(program: Program) -> Iterator[Edit]:
    """A wait is left out."""
    yield from each(program, Wait, lambda site: site.instead())


def early_wait(program: Program) -> Iterator[Edit]:
    """A wait stands before what it waits for."""

    def early(site: Site) -> Program | None:
        before = [i for i in site.instructions[: site.at] if begins(i)]
        return site.moved(0) if title(site.instruction) in map(title, before) else None

    yield from each(program, Wait, early)


def never_waited(program: Program) -> Iterator[Edit]:
    """A collective only begins, and nothing waits for it."""
    blocks = lambda s: s.instruction.blocking and s.instruction.group != "pipeline"  # noqa: E731
    yield from each(program, Collective, lambda site: site.changed(blocking=False), blocks)


def wrong_target(program: Program) -> Iterator[Edit]:
    """A collective fills another buffer."""

    def other(site: Site) -> Program | None:
        made = site.instruction
        assert isinstance(made, Collective)
        twins = twins_of(site.owner, made.target) if made.target else []
        return site.changed(target=twins[0].name) if twins else None

    yield from each(program, Collective, other)


def wrong_source(program: Program) -> Iterator[Edit]:
    """A collective takes another buffer of the same size."""

    def other(site: Site) -> Program | None:
        twins = twins_of(site.owner, site.instruction.buffer)  # type: ignore[union-attr]
        return site.changed(buffer=twins[-1].name) if twins else None

    yield from each(program, Collective, other)


def wrong_bytes(program: Program) -> Iterator[Edit]:
    """A collective of half the data."""
    where = is_a("allreduce", "allgather", "reduce_scatter", "all_to_all")
    yield from each(program, Collective, lambda s: s.changed(bytes=s.instruction.bytes // 2), where)


def wrong_algorithm(program: Program) -> Iterator[Edit]:
    """A sum by an algorithm that there is not."""
    yield from each(program, Collective, lambda s: s.changed(algorithm="neighbours"), is_a("allreduce"))


def largest_or_sum(program: Program) -> Iterator[Edit]:
    """The largest in place of a sum, or a sum in place of the largest."""

    def toggled(site: Site) -> Program:
        attrs = () if ("largest", True) in site.instruction.attrs else (("largest", True),)  # type: ignore[union-attr]
        return site.changed(attrs=attrs)

    yield from each(program, Collective, toggled, is_a("allreduce"))


# --- groups --------------------------------------------------------------------------------------------------------


def exchanged_ranks(program: Program) -> Iterator[Edit]:
    """Two ranks stand in each other's place, in one group or in two."""
    for group in program.groups:
        if len(group.members) > 1:
            (a, *rest), (b, *others), *more = group.members
            yield f"group {group.name}", with_group(program, group.name, ((b, *rest), (a, *others), *more))
        first, *more = group.members
        if len(first) > 1 and "pipeline" in group.name:
            yield f"order of group {group.name}", with_group(program, group.name, (first[::-1], *more))


def merged_groups(program: Program) -> Iterator[Edit]:
    """One group of all ranks in place of several; messages still find their peers."""
    entered = {site.instruction.group for site in sites(program, Collective)}  # type: ignore[union-attr]
    for group in program.groups:
        if len(group.members) > 1 and group.name in entered:
            everyone = tuple(rank for members in group.members for rank in members)
            yield f"group {group.name}", with_group(program, group.name, (everyone,))


def split_group(program: Program) -> Iterator[Edit]:
    """Each rank by itself in place of a group."""
    for group in program.groups:
        ranks = [rank for members in group.members for rank in members]
        yield f"group {group.name}", with_group(program, group.name, ((rank,) for rank in sorted(ranks)))


# --- rows of other ranks -------------------------------------------------------------------------------------------


def halo_rows(program: Program) -> Iterator[Edit]:
    """A row too few, or one too many, before or behind; another stride, another count of results or of parts."""
    changes = (("before", -1), ("after", -1), ("before", 1), ("after", 1), ("stride", 1), ("results", -1), ("parts", 1))
    for fact, by in changes:
        for site in sites(program, Collective, is_a("halo")):
            facts = dict(site.instruction.attrs)  # type: ignore[union-attr]
            if isinstance(value := facts[fact], int):
                attrs = tuple((facts | {fact: value + by}).items())
                yield f"{fact} {by:+d} of {site.name}", site.changed(attrs=attrs)


def halo_axis(program: Program) -> Iterator[Edit]:
    """Rows along another axis."""

    def other(site: Site) -> Program:
        facts = dict(site.instruction.attrs)  # type: ignore[union-attr]
        turned = {"axis": "width" if facts["axis"] == "height" else "height"}
        return site.changed(attrs=tuple((facts | turned).items()))

    yield from each(program, Collective, other, is_a("halo"))


def halo_direction(program: Program) -> Iterator[Edit]:
    """Rows are fetched where they are to be given back, or the other way round."""

    def turned(site: Site) -> Program:
        facts = dict(site.instruction.attrs)  # type: ignore[union-attr]
        return site.changed(attrs=tuple((facts | {"add": not facts["add"]}).items()))

    yield from each(program, Collective, turned, is_a("halo"))


def hasty_window(program: Program) -> Iterator[Edit]:
    """A window's outer rows, or all of them, are computed while those of other ranks are on their way."""
    for site in sites(program, Compute, lambda s: s.instruction.rows == OUTER):  # type: ignore[union-attr]
        yield f"outer rows of {site.name}", site.moved(site.at - 1)
    for site in sites(program, Compute, lambda s: s.instruction.rows == INNER):  # type: ignore[union-attr]
        made = site.instruction
        assert isinstance(made, Compute)
        attrs = tuple((name, value) for name, value in made.attrs if name not in (ROWS, BORDER))
        yield f"all rows of {site.name}", site.changed(attrs=attrs)


def wrong_rows(program: Program) -> Iterator[Edit]:
    """Inner rows in place of outer ones, or the other way round; a border of other rows, or along another axis."""
    turned = {INNER: OUTER, OUTER: INNER}
    for site in sites(program, Compute, lambda s: bool(s.instruction.rows)):  # type: ignore[union-attr]
        facts = dict(site.instruction.attrs)  # type: ignore[union-attr]
        (which, axis), (before, behind) = facts[ROWS], facts[BORDER]  # type: ignore[misc]
        changes = ({ROWS: (turned[str(which)], axis)}, {ROWS: (which, "width")}, {BORDER: (before, behind + 1)})
        for change in changes:
            yield f"{next(iter(change))} of {site.name}", site.changed(attrs=tuple((facts | change).items()))


def narrow_window(program: Program) -> Iterator[Edit]:
    """A window reads what has no rows of other ranks."""
    for halo in sites(program, Collective, is_a("halo")):
        made = halo.instruction
        assert isinstance(made, Collective)
        for site in sites(program, Compute, lambda s, made=made: made.target in s.instruction.inputs):
            if not dict(made.attrs)["add"]:
                inputs = tuple(made.buffer if n == made.target else n for n in site.instruction.inputs)  # type: ignore[union-attr]
                yield site.name, site.changed(inputs=inputs)
