"""Whom the ranks of a role communicate with: all of a role must meet the ranks that its mesh says.

Along an axis of the mesh those are the ranks that differ by that axis alone; along another group the ranks of other
roles at the same place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from dlc.ir.mesh import Mesh, Placement
from dlc.ir.problem import Problem
from dlc.ir.program import Collective, Load, Program, Receive, Role, Send
from dlc.ir.ranks import Neighbours
from dlc.ir.tensor import BATCH


@dataclass(slots=True)
class Around:
    """The roles of a program, each of which has a mesh, by index."""

    program: Program
    neighbours: Neighbours = field(init=False)
    places: dict[int, tuple[int, int]] = field(init=False)
    _peers: dict[tuple[int, str, int], int | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.neighbours = Neighbours.of(self.program)
        self.places = {
            rank: (index, at) for index, role in enumerate(self.program.roles) for at, rank in enumerate(role.ranks)
        }

    def crosses(self, index: int, group: str) -> bool:
        """Whether a group is none of the axes of a role's mesh."""
        names = self.mesh(index).names
        return not all(axis in names for axis in group.split("+")) and self.roles(index, group) > 1

    def mesh(self, index: int) -> Mesh:
        """The mesh of a role."""
        mesh = self.program.roles[index].mesh
        assert mesh is not None
        return mesh

    def roles(self, index: int, group: str) -> int:
        """How many roles meet in a group."""
        members = self.neighbours.members(group, self.program.roles[index].ranks[0])
        return len({self.places[rank][0] for rank in members})

    def peer(self, index: int, group: str, offset: int) -> int | None:
        """The role that stands so far from a role along a group; None where there is none."""
        key = (index, group, offset)
        if key not in self._peers:
            rank = self.neighbours.peer(group, self.program.roles[index].ranks[0], offset)
            self._peers[key] = None if rank is None else self.places[rank][0]
        return self._peers[key]

    def problems(self) -> Iterator[Problem]:
        """Groups that do not hold the ranks that their names say, and messages between different places."""
        for index, role in enumerate(self.program.roles):
            collectives, messages = dict[str, str](), dict[tuple[str, int], str]()
            for segment in role.segments:
                for made in segment.instructions:
                    if isinstance(made, Collective):
                        collectives.setdefault(made.group, made.name)
                    elif isinstance(made, Send | Receive):
                        messages.setdefault((made.group, made.peer), made.name)
            for group, name in collectives.items():
                yield from self._group(index, role, group, name)
            for (group, offset), name in messages.items():
                yield from self._messages(index, role, group, offset, name)
            yield from check_shards(self.program, role, self.mesh(index), tuple(_loaded(role)))

    def _group(self, index: int, role: Role, group: str, name: str) -> Iterator[Problem]:
        mesh = self.mesh(index)
        axes = tuple(axis for axis in group.split("+") if axis in mesh.names)
        mine = set(role.ranks)
        found = [members for members in self.program_group(group) if mine.intersection(members)]
        if axes or not self.crosses(index, group):
            if sorted(found) != sorted(mesh.groups(axes)) and len(role.ranks) > 1:
                sentence = f"`{name}` goes over `{group}`, whose ranks are not those along the mesh's axes of that name"
                yield Problem("structure", sentence, role.name, instruction=name)
            return
        for members in found:
            at = {self.places[rank][1] for rank in members}
            roles = [self.places[rank][0] for rank in members]
            if len(at) > 1 or len(set(roles)) < len(roles):
                sentence = f"`{name}` goes over `{group}`, which joins ranks at different places of their stages"
                yield Problem("structure", sentence, role.name, instruction=name)
                return

    def program_group(self, name: str) -> tuple[tuple[int, ...], ...]:
        """The members of a group."""
        return next(group.members for group in self.program.groups if group.name == name)

    def _messages(self, index: int, role: Role, group: str, offset: int, name: str) -> Iterator[Problem]:
        for at, rank in enumerate(role.ranks):
            other = self.neighbours.peer(group, rank, offset)
            if other is None:
                return  # the execution reports it
            if self.places[other] != (self.peer(index, group, offset), at):
                sentence = f"`{name}` joins rank {rank} and rank {other}, at different places of their stages"
                yield Problem("structure", sentence, role.name, instruction=name)
                return


def _loaded(role: Role) -> Iterator[Placement]:
    """How what a role loads is placed: the inputs first, in f32 where half precision is computed with."""
    names = {n: None for s in role.segments for made in s.instructions if isinstance(made, Load) for n in made.buffers}
    for labels in (False, True):
        yield from (role.buffer(name).placement for name in names if (role.buffer(name).kind == "field") == labels)


def check_shards(program: Program, role: Role, mesh: Mesh, placements: Sequence[Placement]) -> Iterator[Problem]:
    """Ranks hold the samples that their places on the mesh say: along the axes by which what is loaded is split."""
    axes = next((tuple(k for k, at in enumerate(p) if at == BATCH) for p in placements), None)
    if axes is None:
        return
    held: dict[tuple[int, ...], tuple[int, int]] = {}
    for rank, shard in zip(role.ranks, role.shards, strict=True):
        at = tuple(mesh.coordinate(rank, mesh.names[k]) for k in axes)
        if held.setdefault(at, shard) != shard:
            sentence = f"rank {rank} holds the samples {shard}, and ranks at its place of the batch {held[at]}"
            yield Problem("structure", sentence, role.name)
            return
    ends = 0
    for _, (start, stop) in sorted(held.items()):
        if start != ends:
            yield Problem("structure", f"the ranks' shards are not one behind the other at sample {ends}", role.name)
            return
        ends = stop
    if ends != program.batch:
        yield Problem("structure", f"the ranks' shards end at sample {ends} of {program.batch}", role.name)
