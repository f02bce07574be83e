"""Faults of fused calls: other members than those that are needed, and what is not stored read elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dlc.ir.program import Compute, Program
from dlc.ops.fusion import UPDATES, fused, keeps
from tests.mutation.editing import Edit, Site, sites, twins_of


def _calls(program: Program) -> Iterator[tuple[Site, Compute]]:
    for site in sites(program, Compute):
        made = site.instruction
        assert isinstance(made, Compute)
        if made.members:
            yield site, made


def wrong_member(program: Program) -> Iterator[Edit]:
    """A member reads another buffer, or is another op's; the call is what these members are together."""
    for site, made in _calls(program):
        for number, member in enumerate(made.members):
            for at, name in enumerate(member.inputs):
                for twin in twins_of(site.owner, name)[:1] if name not in made.inner else ():
                    inputs = (*member.inputs[:at], twin.name, *member.inputs[at + 1 :])
                    yield from _with(site, made, number, replace(member, inputs=inputs))
            addresses = {other.address for _, other in _calls(program) for other in other.members}
            for address in sorted(addresses - {member.address})[:1]:
                yield from _with(site, made, number, replace(member, address=address))


def _with(site: Site, made: Compute, number: int, member: Compute) -> Iterator[Edit]:
    members = (*made.members[:number], member, *made.members[number + 1 :])
    call = fused(members, site.owner.buffer, keeps(made))
    if call is not None:
        yield f"{member.address} in {site.name}", site.instead(call)


def updated_twice(program: Program) -> Iterator[Edit]:
    """Of the updates that are one call, one is done twice, or is left out."""
    for site, made in _calls(program):
        for members in ((*made.members, made.members[0]), made.members[1:]) if made.kernel[1] == UPDATES else ():
            call = fused(members, site.owner.buffer)
            if call is not None:
                yield f"{len(members)} of {len(made.members)} in {site.name}", site.instead(call)


def left_apart(program: Program) -> Iterator[Edit]:
    """A call does not do what its members do: one of them is missing, or none is named."""
    for site, made in _calls(program):
        yield f"first of {site.name}", site.instead(made.members[0])
        yield f"last of {site.name}", site.instead(made.members[-1])
        yield f"without the last in {site.name}", site.changed(members=made.members[:-1])
        yield f"without members, {site.name}", site.changed(members=())


def read_between(program: Program) -> Iterator[Edit]:
    """What one member hands to another is read behind the call."""
    for site, made in _calls(program):
        for inner in made.inner:
            for later in sites(program, Compute, lambda s, site=site: s.at > site.at and s.segment == site.segment):
                reader = later.instruction
                assert isinstance(reader, Compute)
                names = [name for name in reader.inputs if inner in {each.name for each in twins_of(site.owner, name)}]
                if names and later.role == site.role:
                    inputs = tuple(inner if name == names[0] else name for name in reader.inputs)
                    yield f"{inner} in {later.name}", later.changed(inputs=inputs)
                    break
