"""Ranks that behave alike, folded: what is checked and simulated once stands for all of them.

Two ranks are alike if they have the same role, hold as many samples, and communicate with ranks that are alike: the
coarsest such partition, found by refinement. Where no receive is a wildcard an execution has one outcome, so alike
ranks are in the same state at the same time, and one of them may stand for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import TYPE_CHECKING

from dlc.ir.program import Collective, CommunicationGroup, Instruction, Program, Receive, Role, Row, Send

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Colours = NDArray[np.int64]
    """A small number for each rank; the same number for those that are alike so far."""


@dataclass(frozen=True, slots=True)
class RankClass:
    """Ranks that are alike, ascending, and the samples of the batch that each of them holds.

    `device` is the name of their device, "" where it does not matter; `slowdown` says how many times as long they take
    for what they do by themselves.
    """

    role: Role
    ranks: tuple[int, ...]
    samples: int
    device: str = ""
    slowdown: float = 1.0

    def does(self, verb: str) -> str:
        """`rank 0 waits`, `ranks 0-2 wait`."""
        return f"{self} {verb}{'s' if len(self.ranks) == 1 else ''}"

    def __str__(self) -> str:
        return f"rank {self.ranks[0]}" if len(self.ranks) == 1 else f"ranks {_runs(self.ranks)}"


Kind = tuple[str, float]
"""The device and slowdown of a rank."""

ALIKE: Kind = ("", 1.0)


@dataclass(slots=True)
class Neighbours:
    """Who stands where in each group of a program; a group is looked through once, when it is first asked about."""

    groups: Mapping[str, CommunicationGroup]
    _places: dict[str, dict[int, tuple[tuple[int, ...], int]]] = field(default_factory=dict)

    @classmethod
    def of(cls, program: Program) -> Neighbours:
        """Those of a program."""
        return cls({group.name: group for group in program.groups})

    def members(self, group: str, rank: int) -> tuple[int, ...]:
        """The ranks that a rank communicates with in a group, itself among them; none where it is in no member."""
        return self._group(group).get(rank, ((), 0))[0]

    def peer(self, group: str, rank: int, offset: int) -> int | None:
        """The rank that stands `offset` further in the order of the rank's own group; None beyond its ends."""
        members, at = self._group(group).get(rank, ((), 0))
        return members[at + offset] if 0 <= at + offset < len(members) else None

    def _group(self, name: str) -> dict[int, tuple[tuple[int, ...], int]]:
        if name not in self._places:
            every = self.groups[name].members
            self._places[name] = {rank: (members, at) for members in every for at, rank in enumerate(members)}
        return self._places[name]


def fold(program: Program, by_samples: bool = True, kinds: Mapping[int, Kind] | None = None) -> tuple[RankClass, ...]:
    """The classes of alike ranks, by their first rank; without `by_samples`, uneven shards are alike too.

    Ranks of different `kinds` (rank -> kind) are never alike. Time grows with ranks · groups · rounds of refinement; a
    program whose roles are symmetric takes one round, which proves that they are.
    """
    if program.ranks < 2:
        return unfolded(program, kinds)
    colours = _first_colours(program, by_samples, kinds or {})
    views = tuple(_views(program))
    while True:
        refined = _numbered(colours, (view(colours) for view in views))
        if refined.max() == colours.max():
            return _classes(program, colours, kinds or {})
        colours = refined


def unfolded(program: Program, kinds: Mapping[int, Kind] | None = None) -> tuple[RankClass, ...]:
    """Each rank on its own."""
    singles = (
        RankClass(role, (rank,), stop - start, *(kinds or {}).get(rank, ALIKE))
        for role in program.roles
        for rank, (start, stop) in zip(role.ranks, role.shards, strict=True)
    )
    return tuple(sorted(singles, key=lambda single: single.ranks))


def instructions(role: Role, entry: str) -> Iterator[tuple[Row, Instruction]]:
    """What a rank of the role does in an entry point, in order, made as it is asked for; nothing where it has none."""
    for row in schedule(role, entry):
        for instruction in role.segment(row.segment).instructions:
            yield row, instruction


def schedule(role: Role, entry: str) -> tuple[Row, ...]:
    """The rows of an entry point of a role; none where it has no such entry."""
    return tuple(chain.from_iterable(found.schedule for found in role.entries if found.name == entry))


def microbatches(rows: Iterable[Row]) -> int:
    """Into how many parts a schedule cuts the batch."""
    return 1 + max((row.microbatch for row in rows), default=0)


def _first_colours(program: Program, by_samples: bool, kinds: Mapping[int, Kind]) -> Colours:
    import numpy as np

    first, numbers = np.zeros(program.ranks, np.int64), dict[tuple[int, int, Kind], int]()
    for index, role in enumerate(program.roles):
        for rank, (start, stop) in zip(role.ranks, role.shards, strict=True):
            seen = (index, stop - start if by_samples else 0, kinds.get(rank, ALIKE))
            first[rank] = numbers.setdefault(seen, len(numbers))
    return first


def _views(program: Program) -> Iterator[Callable[[Colours], Colours]]:
    """What ranks see of the others: the colours in each group that a role enters, and those of the peers of messages.

    A view gives each rank a number, the same for ranks that see the same.
    """
    groups = {group.name: group for group in program.groups}
    entered, offsets = dict[str, list[int]](), dict[tuple[str, int], list[int]]()
    for role in program.roles:
        collectives, messages = _contacts(role)
        for name in collectives:
            entered.setdefault(name, []).extend(role.ranks)
        for message in messages:
            offsets.setdefault(message, []).extend(role.ranks)
    yield from (_around(groups[name], ranks, program.ranks) for name, ranks in entered.items())
    yield from (_beside(groups[name], offset, ranks, program.ranks) for (name, offset), ranks in offsets.items())


def _around(group: CommunicationGroup, ranks: list[int], total: int) -> Callable[[Colours], Colours]:
    """How often each colour stands in the members of a group, for the ranks that enter its collectives."""
    import numpy as np

    flat = np.fromiter(chain.from_iterable(group.members), np.int64)
    member = np.repeat(np.arange(len(group.members)), [len(members) for members in group.members])
    inside = np.full(total, -1)
    inside[flat] = member

    def view(colours: Colours) -> Colours:
        pairs, counts = np.unique(np.stack([member, colours[flat]]), axis=1, return_counts=True)
        seen = np.stack([pairs[1], counts], axis=1)
        starts = np.searchsorted(pairs[0], np.arange(len(group.members) + 1))
        numbers = dict[bytes, int]()
        of_member = [numbers.setdefault(seen[start:stop].tobytes(), len(numbers)) for start, stop in pairwise(starts)]
        found = np.full(total, -1)
        found[ranks] = np.array([*of_member, -1])[inside[ranks]]
        return found

    return view


def _beside(group: CommunicationGroup, offset: int, ranks: list[int], total: int) -> Callable[[Colours], Colours]:
    """The colour of the peer of messages, for the ranks that send or receive them."""
    import numpy as np

    found = Neighbours({group.name: group})
    others = np.array([-1 if (at := found.peer(group.name, rank, offset)) is None else at for rank in ranks])

    def view(colours: Colours) -> Colours:
        seen = np.full(total, -1)
        seen[ranks] = np.where(others < 0, -1, colours[others])
        return seen

    return view


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


def _numbered(colours: Colours, views: Iterable[Colours]) -> Colours:
    """Ranks are alike still if they were and see the same in every view."""
    import numpy as np

    for view in views:
        _, colours = np.unique(colours * (view.max() + 2) + view + 1, return_inverse=True)
    return colours


def _classes(program: Program, colours: Colours, kinds: Mapping[int, Kind]) -> tuple[RankClass, ...]:
    shards = {rank: shard for role in program.roles for rank, shard in zip(role.ranks, role.shards, strict=True)}
    roles = {rank: role for role in program.roles for rank in role.ranks}
    ranks: dict[int, list[int]] = {}
    for rank, colour in enumerate(colours.tolist()):
        ranks.setdefault(colour, []).append(rank)
    return tuple(
        RankClass(
            roles[alike[0]],
            tuple(alike),
            max(shards[rank][1] - shards[rank][0] for rank in alike),
            *kinds.get(alike[0], ALIKE),
        )
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
