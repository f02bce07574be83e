"""The faults that are planted, one function a kind: it yields every Program that has this fault somewhere.

All of them are faults: what is planted changes what some rank computes, sends or waits for, or which memory it touches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

from dlc.ir.mesh import PARTIAL
from dlc.ir.program import Buffer, Collective, Compute, Copy, Instruction, Load, Program, Receive, Role, Row, Send, Wait
from dlc.ir.storage import begins, reads, title, writes
from tests.mutation.editing import (
    Edit,
    Site,
    rows_of,
    sites,
    spread,
    with_buffer,
    with_group,
    with_role,
    with_rows,
)

Fault = Callable[[Program], Iterator[Edit]]
KEPT = ("weight", "statistic", "state", "constant")


def _is(*kinds: str) -> Callable[[Site], bool]:
    return lambda site: isinstance(site.instruction, Collective) and site.instruction.kind in kinds


def _kernel(*names: str) -> Callable[[Site], bool]:
    """Whether an instruction calls a kernel of one of these ops or passes."""
    return lambda site: isinstance(site.instruction, Compute) and bool({*site.instruction.kernel[:2]} & {*names})


def _each(
    program: Program, kind: type, change: Callable[[Site], Program | None], where=lambda _: True
) -> Iterator[Edit]:
    for site in sites(program, kind, where):
        made = change(site)
        if made is not None and made != program:
            yield site.name, made


def _twins(role: Role, name: str, kinds: tuple[str, ...] = ()) -> list[Buffer]:
    """Other buffers that could be taken for one: of the same type and placement."""
    buffer = role.buffer(name)
    return [
        other
        for other in role.buffers
        if other.name != name
        and (other.type, other.placement, other.layout) == (buffer.type, buffer.placement, buffer.layout)
        and other.kind in (kinds or (buffer.kind,))
    ]


# --- collectives -------------------------------------------------------------------------------------------------


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

    yield from _each(program, Collective, twice, _is("allreduce", "reduce_scatter"))


def wrong_group(program: Program) -> Iterator[Edit]:
    """A collective goes over another group."""
    names = [group.name for group in program.groups if "pipeline" not in group.name]
    for other in names:
        yield from _each(program, Collective, lambda s, other=other: s.changed(group=other))


def wrong_kind(program: Program) -> Iterator[Edit]:
    """A collective of another kind."""
    others = {
        "allreduce": "allgather",
        "allgather": "reduce_scatter",
        "reduce_scatter": "allgather",
        "all_to_all": "allgather",
    }
    known = _is(*others)
    yield from _each(program, Collective, lambda s: s.changed(kind=others[s.instruction.kind]), known)


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

    yield from _each(program, Collective, late)


def missing_wait(program: Program) -> Iterator[Edit]:
    """A wait is left out."""
    yield from _each(program, Wait, lambda site: site.instead())


def early_wait(program: Program) -> Iterator[Edit]:
    """A wait stands before what it waits for."""

    def early(site: Site) -> Program | None:
        before = [i for i in site.instructions[: site.at] if begins(i)]
        return site.moved(0) if title(site.instruction) in map(title, before) else None

    yield from _each(program, Wait, early)


def never_waited(program: Program) -> Iterator[Edit]:
    """A collective only begins, and nothing waits for it."""
    blocks = lambda s: s.instruction.blocking and s.instruction.group != "pipeline"  # noqa: E731
    yield from _each(program, Collective, lambda site: site.changed(blocking=False), blocks)


def wrong_target(program: Program) -> Iterator[Edit]:
    """A collective fills another buffer."""

    def other(site: Site) -> Program | None:
        made = site.instruction
        assert isinstance(made, Collective)
        twins = _twins(site.owner, made.target) if made.target else []
        return site.changed(target=twins[0].name) if twins else None

    yield from _each(program, Collective, other)


def wrong_source(program: Program) -> Iterator[Edit]:
    """A collective takes another buffer of the same size."""

    def other(site: Site) -> Program | None:
        twins = _twins(site.owner, site.instruction.buffer)  # type: ignore[union-attr]
        return site.changed(buffer=twins[-1].name) if twins else None

    yield from _each(program, Collective, other)


def wrong_bytes(program: Program) -> Iterator[Edit]:
    """A collective of half the data."""
    where = _is("allreduce", "allgather", "reduce_scatter", "all_to_all")
    yield from _each(program, Collective, lambda s: s.changed(bytes=s.instruction.bytes // 2), where)


def wrong_algorithm(program: Program) -> Iterator[Edit]:
    """A sum by an algorithm that there is not."""
    yield from _each(program, Collective, lambda s: s.changed(algorithm="neighbours"), _is("allreduce"))


def largest_or_sum(program: Program) -> Iterator[Edit]:
    """The largest in place of a sum, or a sum in place of the largest."""

    def toggled(site: Site) -> Program:
        attrs = () if ("largest", True) in site.instruction.attrs else (("largest", True),)  # type: ignore[union-attr]
        return site.changed(attrs=attrs)

    yield from _each(program, Collective, toggled, _is("allreduce"))


# --- groups ------------------------------------------------------------------------------------------------------


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


# --- rows of other ranks -----------------------------------------------------------------------------------------


def halo_rows(program: Program) -> Iterator[Edit]:
    """A row too few, or one too many, before or behind; another stride, another count of results or of parts."""
    changes = (("before", -1), ("after", -1), ("before", 1), ("after", 1), ("stride", 1), ("results", -1), ("parts", 1))
    for fact, by in changes:
        for site in sites(program, Collective, _is("halo")):
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

    yield from _each(program, Collective, other, _is("halo"))


def halo_direction(program: Program) -> Iterator[Edit]:
    """Rows are fetched where they are to be given back, or the other way round."""

    def turned(site: Site) -> Program:
        facts = dict(site.instruction.attrs)  # type: ignore[union-attr]
        return site.changed(attrs=tuple((facts | {"add": not facts["add"]}).items()))

    yield from _each(program, Collective, turned, _is("halo"))


def narrow_window(program: Program) -> Iterator[Edit]:
    """A window reads what has no rows of other ranks."""
    for halo in sites(program, Collective, _is("halo")):
        made = halo.instruction
        assert isinstance(made, Collective)
        for site in sites(program, Compute, lambda s, made=made: made.target in s.instruction.inputs):
            if not dict(made.attrs)["add"]:
                inputs = tuple(made.buffer if n == made.target else n for n in site.instruction.inputs)  # type: ignore[union-attr]
                yield site.name, site.changed(inputs=inputs)


# --- kernels -----------------------------------------------------------------------------------------------------


def dropped_kernel(program: Program) -> Iterator[Edit]:
    """A kernel is not called, whose results are not there already: one that is not computed again."""
    yield from _each(program, Compute, lambda site: None if _again(site) else site.instead())


def _again(site: Site) -> bool:
    """Whether a kernel has run in an earlier segment of its role."""
    earlier = (i for segment in site.owner.segments[: site.segment] for i in segment.instructions)
    return title(site.instruction) in map(title, earlier)


def doubled_sum(program: Program) -> Iterator[Edit]:
    """A microbatch's part is added twice."""
    twice = lambda s: s.instruction.outputs[0] in s.instruction.inputs  # noqa: E731
    added = lambda s: _kernel("sum")(s) and twice(s)  # noqa: E731
    yield from _each(program, Compute, lambda s: s.instead(s.instruction, s.instruction), added)


def doubled_update(program: Program) -> Iterator[Edit]:
    """A weight is updated, or its gradient clipped, twice."""
    in_place = _kernel("update", "clip", "regularise")
    twice = lambda s: None if s.instruction.outputs else s.instead(s.instruction, s.instruction)  # noqa: E731
    yield from _each(program, Compute, twice, in_place)


def part_left_out(program: Program) -> Iterator[Edit]:
    """A sum of gradients has a part too few, or one twice."""

    def fewer(site: Site) -> Program:
        return site.changed(inputs=site.instruction.inputs[:-1])  # type: ignore[union-attr]

    def twice(site: Site) -> Program:
        inputs = site.instruction.inputs  # type: ignore[union-attr]
        return site.changed(inputs=(*inputs, inputs[-1]))

    yield from _each(program, Compute, fewer, _kernel("sum"))
    yield from _each(program, Compute, twice, _kernel("sum"))


def wrong_operand(program: Program) -> Iterator[Edit]:
    """A kernel reads another buffer of the same type: another weight, another value, another gradient."""
    for site in sites(program, Compute):
        made = site.instruction
        assert isinstance(made, Compute)
        for at, name in enumerate(made.inputs):
            for twin in _twins(site.owner, name, ("weight", "activation", "gradient", "state", "input", "saved"))[:2]:
                inputs = (*made.inputs[:at], twin.name, *made.inputs[at + 1 :])
                yield f"{name} as {twin.name} in {site.name}", site.changed(inputs=inputs)


def swapped_operands(program: Program) -> Iterator[Edit]:
    """Two operands change places."""
    for site in sites(program, Compute, lambda s: not _kernel("sum", "clip")(s)):
        made = site.instruction
        assert isinstance(made, Compute)
        if len(made.inputs) > 1 and made.kernel[0] != "add":
            yield site.name, site.changed(inputs=(made.inputs[1], made.inputs[0], *made.inputs[2:]))


def wrong_result(program: Program) -> Iterator[Edit]:
    """A kernel fills another buffer of the same type."""
    for site in sites(program, Compute):
        made = site.instruction
        assert isinstance(made, Compute)
        for at, name in enumerate(made.outputs):
            for twin in _twins(site.owner, name)[:1]:
                outputs = (*made.outputs[:at], twin.name, *made.outputs[at + 1 :])
                yield f"{name} into {twin.name} by {site.name}", site.changed(outputs=outputs)


def wrong_pass(program: Program) -> Iterator[Edit]:
    """A kernel of another pass or op with as many operands."""
    others = {"relu": "tanh", "tanh": "relu", "maxpool": "avgpool", "linear": "embedding", "gelu": "relu"}

    def other(site: Site) -> Program:
        op, stage, algorithm = site.instruction.kernel  # type: ignore[union-attr]
        return site.changed(kernel=(others[op], stage, algorithm))

    yield from _each(program, Compute, other, _kernel(*others))


def wrong_attribute(program: Program) -> Iterator[Edit]:
    """An attribute is left out, or has another value: means of parts, a bias added on every rank, rates, windows."""
    for site in sites(program, Compute):
        made = site.instruction
        assert isinstance(made, Compute)
        for at, (name, value) in enumerate(made.attrs):
            if name in ("averaged", "once", "copies"):
                yield f"no {name} in {site.name}", site.changed(attrs=(*made.attrs[:at], *made.attrs[at + 1 :]))
            if isinstance(value, int | float) and not isinstance(value, bool) and name != "parts":
                attrs = (*made.attrs[:at], (name, value + 1), *made.attrs[at + 1 :])
                yield f"{name} + 1 in {site.name}", site.changed(attrs=attrs)


def added_everywhere(program: Program) -> Iterator[Edit]:
    """What is averaged, added once or counted once is so for one mesh axis too many or too few."""
    for site in sites(program, Compute):
        made = site.instruction
        assert isinstance(made, Compute)
        facts = dict(made.attrs)
        if (
            made.kernel[:2] == ("linear", "forward")
            and "once" not in facts
            and site.owner.mesh
            and site.owner.mesh.names
        ):
            attrs = (*made.attrs, ("once", site.owner.mesh.names[-1:]))
            yield f"once in {site.name}", site.changed(attrs=attrs)
        if isinstance(copies := facts.get("copies"), tuple):
            more = tuple((facts | {"copies": tuple(int(str(n)) * 2 for n in copies)}).items())
            yield f"copies in {site.name}", site.changed(attrs=more)


def not_told(program: Program) -> Iterator[Edit]:
    """A kernel is not told where its part begins, which pads it has, how many samples there are."""
    for site in sites(program, Compute):
        made = site.instruction
        assert isinstance(made, Compute)
        for name in made.runtime:
            yield f"no {name} in {site.name}", site.changed(runtime=tuple(n for n in made.runtime if n != name))


def early_kernel(program: Program) -> Iterator[Edit]:
    """A kernel comes before what it reads is there."""
    for site in sites(program, Compute, lambda s: s.at > 0 and not _again(s)):
        made = site.instruction
        assert isinstance(made, Compute)
        before = [name for i in site.instructions[: site.at] for name in writes(i)]
        if set(before).intersection(made.inputs):
            yield site.name, site.moved(0)


def wrong_layout(program: Program) -> Iterator[Edit]:
    """A kernel works in another layout than its operands have."""
    yield from _each(
        program,
        Compute,
        lambda s: s.changed(layout="NHWC"),
        lambda s: bool(s.instruction.layout),  # type: ignore[union-attr]
    )


def scaled_twice(program: Program) -> Iterator[Edit]:
    """A gradient of one weight is used for another one of the same type as well."""
    updates = list(sites(program, Compute, _kernel("update")))
    for site in updates:
        made = site.instruction
        assert isinstance(made, Compute)
        twins = _twins(site.owner, made.inputs[1], ("gradient",))
        if twins:
            yield site.name, site.changed(inputs=(made.inputs[0], twins[0].name, *made.inputs[2:]))


def wrong_state(program: Program) -> Iterator[Edit]:
    """An update works on another weight's state."""
    for site in sites(program, Compute, _kernel("update")):
        made = site.instruction
        assert isinstance(made, Compute)
        for at, name in enumerate(made.inputs[2:], 2):
            for twin in _twins(site.owner, name, ("state",))[:1]:
                yield site.name, site.changed(inputs=(*made.inputs[:at], twin.name, *made.inputs[at + 1 :]))


# --- loads and copies --------------------------------------------------------------------------------------------


def missing_load(program: Program) -> Iterator[Edit]:
    """The data set is not asked for a field, or not at all."""
    yield from _each(program, Load, lambda site: site.instead())
    for site in sites(program, Load):
        made = site.instruction
        assert isinstance(made, Load)
        for name in made.buffers if len(made.buffers) > 1 else ():
            yield f"{name} of {site.name}", site.changed(buffers=tuple(n for n in made.buffers if n != name))


def missing_copy(program: Program) -> Iterator[Edit]:
    """A rank's own part is not cut out."""
    yield from _each(program, Copy, lambda site: site.instead())


def reversed_copy(program: Program) -> Iterator[Edit]:
    """A copy goes the other way."""

    def back(site: Site) -> Program:
        made = site.instruction
        assert isinstance(made, Copy)
        return site.changed(source=made.target, target=made.source)

    yield from _each(program, Copy, back)


# --- messages ----------------------------------------------------------------------------------------------------


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
        yield from _each(program, kind, lambda site: site.instead())


def doubled_message(program: Program) -> Iterator[Edit]:
    """A send or a receive is done twice."""
    for kind in (Send, Receive):
        yield from _each(program, kind, lambda s: s.instead(s.instruction, s.instruction))


def wrong_peer(program: Program) -> Iterator[Edit]:
    """A message goes the other way."""
    for kind in (Send, Receive):
        yield from _each(program, kind, lambda s: s.changed(peer=-s.instruction.peer))  # type: ignore[union-attr]


def wrong_message(program: Program) -> Iterator[Edit]:
    """Another buffer of the same type is sent, or filled."""
    for kind in (Send, Receive):
        for site in sites(program, kind):
            name = site.instruction.buffer  # type: ignore[union-attr]
            for twin in _twins(site.owner, name, ("activation", "gradient", "weight"))[:2]:
                yield f"{twin.name} in {site.name}", site.changed(buffer=twin.name)


def late_message(program: Program) -> Iterator[Edit]:
    """What is sent is overwritten first, or received behind its reader."""
    yield from _each(program, Send, lambda s: s.moved(0) if s.at else None)
    yield from _each(program, Receive, lambda s: s.moved(len(s.instructions)))


def wrong_name(program: Program) -> Iterator[Edit]:
    """Two messages bear each other's names on one side."""
    for kind in (Send, Receive):
        yield from _each(program, kind, lambda s: s.changed(name=f"{s.instruction.name}.other"))  # type: ignore[union-attr]


# --- schedules ---------------------------------------------------------------------------------------------------


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
        if len(slots) < 2 or rows[at].segment in ("begin", "reduce", "update"):
            return None
        return [*rows[:at], replace(rows[at], slot=(rows[at].slot + 1) % len(slots)), *rows[at + 1 :]]

    yield from _schedules(program, other)


def wrong_microbatch(program: Program) -> Iterator[Edit]:
    """A segment runs for another microbatch."""

    def other(rows: list[Row], at: int) -> list[Row] | None:
        count = 1 + max(row.microbatch for row in rows)
        if count < 2 or rows[at].segment.endswith(".sent") or rows[at].segment in ("begin", "reduce", "update"):
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


# --- buffers -----------------------------------------------------------------------------------------------------


def _buffers(program: Program, change: Callable[[Role, Buffer], dict[str, object] | None]) -> Iterator[Edit]:
    for index, role in enumerate(program.roles):
        touched = {n for site in sites(program, object) if site.role == index for n in _named(site.instruction)}
        for buffer in role.buffers:
            changes = change(role, buffer) if buffer.name in touched else None
            if changes:
                yield f"{buffer.name} of {role.name}", with_buffer(program, index, buffer, **changes)


def _named(made: Instruction) -> tuple[str, ...]:
    return (*reads(made), *writes(made))


def outside_its_bucket(program: Program) -> Iterator[Edit]:
    """A member of a bucket lies elsewhere: it is not summed with the others."""
    for index, role in enumerate(program.roles):
        summed = {s.instruction.buffer for s in sites(program, Collective) if s.role == index}  # type: ignore[union-attr]
        for buffer in role.buffers:
            if buffer.view_of in summed:
                yield f"{buffer.name} of {role.name}", with_buffer(program, index, buffer, view_of=None, offset=0)


def shared_bytes(program: Program) -> Iterator[Edit]:
    """A buffer lies on the bytes of another one that is written while it is still to be read."""
    for site in sites(program, Compute):
        made = site.instruction
        assert isinstance(made, Compute)
        known = {buffer.name: buffer for buffer in site.owner.buffers}
        later = {name for i in site.instructions[site.at + 1 :] for name in reads(i)}
        for name in made.outputs:
            other = next(
                (known[n] for n in made.inputs if known[n].view_of == known[name].view_of and n in later), None
            )
            if other is not None and known[name].view_of and other.name != name:
                made_ = with_buffer(program, site.role, known[name], offset=other.offset)
                yield f"{name} on {other.name} of {site.owner.name}", made_


def wrong_shard(program: Program) -> Iterator[Edit]:
    """A buffer is said to be another rank's shard: split along another axis of the tensor, or of the mesh."""

    def turned(_role: Role, buffer: Buffer) -> dict[str, object] | None:
        split = [at for at in buffer.placement if at not in ("", PARTIAL)]
        free = [name for name in buffer.type.names if name not in split and buffer.type.extent(name) > 1]
        if not split or not free:
            return None
        return {"placement": tuple(free[0] if at == split[0] else at for at in buffer.placement)}

    def exchanged(_role: Role, buffer: Buffer) -> dict[str, object] | None:
        turned_ = buffer.placement[::-1]
        return {"placement": turned_} if len(turned_) > 1 and turned_ != buffer.placement else None

    yield from _buffers(program, turned)
    yield from _buffers(program, exchanged)


def wrong_type(program: Program) -> Iterator[Edit]:
    """A buffer has an element more along an axis, or other elements."""

    def longer(_role: Role, buffer: Buffer) -> dict[str, object] | None:
        if not buffer.type.axes or buffer.kind in ("workspace", "bucket"):
            return None
        name = buffer.type.names[-1]
        return {"type": buffer.type.with_extent(name, buffer.type.extent(name) + 1)}

    def narrower(_role: Role, buffer: Buffer) -> dict[str, object] | None:
        return {"type": buffer.type.with_dtype("f32")} if buffer.kind in ("activation", "gradient") else None

    yield from _buffers(program, longer)
    yield from _buffers(program, narrower)


def turned_mesh(program: Program) -> Iterator[Edit]:
    """The axes of a role's mesh are taken in the other order."""
    for index, role in enumerate(program.roles):
        if role.mesh is not None and len(role.mesh.axes) > 1:
            yield role.name, with_role(program, index, mesh=replace(role.mesh, axes=role.mesh.axes[::-1]))


def wrong_outputs(program: Program) -> Iterator[Edit]:
    """The loss is looked for elsewhere."""
    for role in program.roles:
        for buffer in role.buffers:
            if buffer.kind == "gradient" and not buffer.type.axes:
                yield f"loss {buffer.name}", replace(program, loss=buffer.name)


def same_samples(program: Program) -> Iterator[Edit]:
    """Two ranks hold the same shard of the batch."""
    for index, role in enumerate(program.roles):
        if len(set(role.shards)) > 1:
            shards = (role.shards[-1], *role.shards[1:])
            yield role.name, with_role(program, index, shards=shards)


COLLECTIVES: tuple[Fault, ...] = (
    dropped_collective, doubled_collective, wrong_group, wrong_kind, early_collective, late_collective, missing_wait,
    early_wait, never_waited, wrong_target, wrong_source, wrong_bytes, wrong_algorithm, largest_or_sum,
)  # fmt: skip
GROUPS: tuple[Fault, ...] = (exchanged_ranks, merged_groups, split_group, turned_mesh, same_samples)
HALOS: tuple[Fault, ...] = (halo_rows, halo_axis, halo_direction, narrow_window)
KERNELS: tuple[Fault, ...] = (
    dropped_kernel, doubled_sum, doubled_update, part_left_out, wrong_operand, swapped_operands, wrong_result,
    wrong_pass, wrong_attribute, added_everywhere, not_told, early_kernel, wrong_layout, scaled_twice, wrong_state,
)  # fmt: skip
MESSAGES: tuple[Fault, ...] = (
    swapped_messages, dropped_message, doubled_message, wrong_peer, wrong_message, late_message, wrong_name,
)  # fmt: skip
SCHEDULES: tuple[Fault, ...] = (
    dropped_row, doubled_row, wrong_slot, wrong_microbatch, early_row, one_slot, missing_load, missing_copy,
    reversed_copy,
)  # fmt: skip
BUFFERS: tuple[Fault, ...] = (outside_its_bucket, shared_bytes, wrong_shard, wrong_type, wrong_outputs)

FAULTS: tuple[Fault, ...] = (*COLLECTIVES, *GROUPS, *HALOS, *KERNELS, *MESSAGES, *SCHEDULES, *BUFFERS)
"""Every kind of fault."""


def planted(program: Program, count: int) -> Iterator[tuple[str, str, Program]]:
    """(kind, where, Program) of so many faults of each kind, spread over the places where it can be planted."""
    for fault in FAULTS:
        found = (edit for edit in fault(program) if edit[1] != program)
        for where, made in spread(found, count):
            yield fault.__name__, where, made
