"""Ranks that behave alike, folded: what is checked and simulated once stands for all of them.

Two ranks are alike if they have the same role, hold as many samples, and communicate with ranks that are alike: the
coarsest such partition, found by refinement. Where no receive is a wildcard an execution has one outcome, so alike
ranks are in the same state at the same time, and one of them may stand for all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import dataclass

from dlc.ir.program import Collective, CommunicationGroup, Instruction, Program, Receive, Role, Row, Send


@dataclass(frozen=True, slots=True)
class RankClass:
    """Ranks that are alike, ascending, and the samples of the batch that each of them holds."""

    role: Role
    ranks: tuple[int, ...]
    samples: int

    def does(self, verb: str) -> str:
        """`rank 0 waits`, `ranks 0-2 wait`."""
        return f"{self} {verb}{'s' if len(self.ranks) == 1 else ''}"

    def __str__(self) -> str:
        return f"rank {self.ranks[0]}" if len(self.ranks) == 1 else f"ranks {_runs(self.ranks)}"


def fold(program: Program, by_samples: bool = True) -> tuple[RankClass, ...]:
    """The classes of alike ranks, by their first rank; without `by_samples`, uneven shards are alike too."""
    colours = _first_colours(program, by_samples)
    while True:
        refined = _numbered(_signatures(program, colours))
        if len(set(refined.values())) == len(set(colours.values())):
            return _classes(program, colours)
        colours = refined


def unfolded(program: Program) -> tuple[RankClass, ...]:
    """Each rank on its own."""
    singles = (
        RankClass(role, (rank,), stop - start)
        for role in program.roles
        for rank, (start, stop) in zip(role.ranks, role.shards, strict=True)
    )
    return tuple(sorted(singles, key=lambda single: single.ranks))


def instructions(role: Role, entry: str) -> Iterator[tuple[Row, Instruction]]:
    """What a rank of the role does in an entry point, in order, made as it is asked for; nothing where it has none."""
    for found in role.entries:
        if found.name == entry:
            for row in found.schedule:
                for instruction in role.segment(row.segment).instructions:
                    yield row, instruction


def peer(group: CommunicationGroup, rank: int, offset: int) -> int | None:
    """The rank that stands `offset` further in the order of the rank's own group; None beyond its ends."""
    members = members_around(group, rank)
    at = members.index(rank) + offset if rank in members else -1
    return members[at] if 0 <= at < len(members) else None


def members_around(group: CommunicationGroup, rank: int) -> tuple[int, ...]:
    """The ranks that a rank communicates with in a group, itself among them; none where it is in no member."""
    return next((members for members in group.members if rank in members), ())


def _first_colours(program: Program, by_samples: bool) -> dict[int, int]:
    return _numbered(
        {
            rank: (index, stop - start if by_samples else 0)
            for index, role in enumerate(program.roles)
            for rank, (start, stop) in zip(role.ranks, role.shards, strict=True)
        }
    )


def _signatures(program: Program, colours: dict[int, int]) -> dict[int, Hashable]:
    """What each rank sees: its own colour, those of the groups it enters, and those of its peers."""
    groups = {group.name: group for group in program.groups}
    seen: dict[int, list[Hashable]] = {rank: [colour] for rank, colour in colours.items()}
    for role in program.roles:
        entered, offsets = _contacts(role)
        for name in entered:
            for members in groups[name].members:
                around = tuple(sorted(Counter(colours[member] for member in members).items()))
                for rank in set(members).intersection(role.ranks):
                    seen[rank].append(around)
        for name, offset in offsets:
            for rank in role.ranks:
                other = peer(groups[name], rank, offset)
                seen[rank].append(None if other is None else colours[other])
    return {rank: tuple(parts) for rank, parts in seen.items()}


def _contacts(role: Role) -> tuple[list[str], list[tuple[str, int]]]:
    """The groups that a role enters collectives in, and the (group, offset) pairs that it sends to or receives from."""
    entered, offsets = dict[str, None](), dict[tuple[str, int], None]()
    for segment in role.segments:
        for instruction in segment.instructions:
            if isinstance(instruction, Collective):
                entered[instruction.group] = None
            elif isinstance(instruction, Send | Receive):
                offsets[instruction.group, instruction.peer] = None
    return list(entered), list(offsets)


def _numbered(signatures: dict[int, Hashable]) -> dict[int, int]:
    """Small numbers for signatures, given out in the order of ranks."""
    numbers: dict[Hashable, int] = {}
    return {rank: numbers.setdefault(signatures[rank], len(numbers)) for rank in sorted(signatures)}


def _classes(program: Program, colours: dict[int, int]) -> tuple[RankClass, ...]:
    roles = {rank: role for role in program.roles for rank in role.ranks}
    shards = {rank: shard for role in program.roles for rank, shard in zip(role.ranks, role.shards, strict=True)}
    ranks: dict[int, list[int]] = {}
    for rank in sorted(colours):
        ranks.setdefault(colours[rank], []).append(rank)
    return tuple(
        RankClass(roles[alike[0]], tuple(alike), max(shards[rank][1] - shards[rank][0] for rank in alike))
        for alike in ranks.values()
    )


def _runs(ranks: tuple[int, ...]) -> str:
    """`0-3, 6`: ascending numbers with their runs drawn together."""
    runs: list[list[int]] = []
    for rank in ranks:
        if runs and runs[-1][1] == rank - 1:
            runs[-1][1] = rank
        else:
            runs.append([rank, rank])
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)
