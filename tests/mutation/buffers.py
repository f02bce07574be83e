"""Faults in buffers, meshes and results: where things lie and what they are said to be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product

from dlc.ir.in_place import in_place, kernel_of
from dlc.ir.mesh import PARTIAL
from dlc.ir.program import Buffer, Collective, Compute, Instruction, Program, Role
from dlc.ir.storage import reads, writes
from passes.lowering.memory import is_arena
from tests.mutation.editing import (
    Edit,
    sites,
    with_buffer,
    with_role,
)


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


def hasty_takeover(program: Program) -> Iterator[Edit]:
    """A result takes the place of an operand, as its kernel allows, while that is still to be read."""
    yield from _over(program, lambda made, pair, later: pair in _allowed(made) and pair[0] in later)


def unfit_takeover(program: Program) -> Iterator[Edit]:
    """A result lies where an operand does that nobody reads any more, but that its kernel reads as it writes."""
    yield from _over(program, lambda made, pair, later: pair not in _allowed(made) and pair[0] not in later)


def _allowed(made: Compute) -> set[tuple[str, str]]:
    return set(in_place(kernel_of(*made.kernel[:2]), (*made.inputs, *made.outputs)))


def _over(program: Program, chosen: Callable[[Compute, tuple[str, str], set[str]], bool]) -> Iterator[Edit]:
    """Results in the places of operands of their size in the memory that arrays share."""
    for site in sites(program, Compute):
        made = site.instruction
        assert isinstance(made, Compute)
        known = {buffer.name: buffer for buffer in site.owner.buffers}
        later = _read_later(site.instructions[site.at + 1 :])
        for name, other in product(made.outputs, made.inputs):
            one, two = known[name], known[other]
            alike = one.view_of == two.view_of and one.type.bytes == two.type.bytes and one.placement == two.placement
            if alike and one.view_of and is_arena(one.view_of) and chosen(made, (other, name), later):
                yield f"{name} on {other} of {site.owner.name}", with_buffer(program, site.role, one, offset=two.offset)


def _read_later(following: Sequence[Instruction]) -> set[str]:
    """The buffers that are read before they are written again."""
    found, written = set[str](), set[str]()
    for made in following:
        found.update(set(reads(made)) - written)
        written.update(writes(made))
    return found


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
