"""Groups of ranks that communicate all at once, and how long a pattern of messages takes in all of them.

A mesh axis cuts the ranks into as many groups as there are other ranks; one program for all means that they communicate
at once and share ports, wires and buses. Where the mesh fits the nesting (its strides and the sizes of members divide
each other), all groups look alike, so one of them stands for those that use the same ports: what it loads is
multiplied. Groups that share wires with it are counted one by one, and so are all groups where nothing divides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import accumulate, pairwise
from math import prod
from operator import mul
from typing import TYPE_CHECKING

from dlc.cluster.rounds import Digit, Pattern, Shape, flows
from dlc.cluster.routes import ALONE, Copies, Joint, Level, Piece, Routes, routes
from dlc.cluster.topology import Cluster

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

Blocks = tuple[tuple[int, bool], ...]
"""(extent, whether a group runs along it), innermost first: how a mesh counts its ranks."""

MAX_CYCLE = 32
"""Members that are joined by edges up to which a cycle through all of them is looked for."""

SEARCHED = 20_000
"""Steps after which that search is given up: the ring then follows the numbers."""


@dataclass(frozen=True, slots=True)
class Span:
    """A level that groups span: they have ranks in at least `members` members, and at most `held` in one.

    The links of all groups there have that `capacity` together, in bytes a second, and at least that `latency`.
    """

    members: int
    held: int
    latency: float
    capacity: float


@dataclass(frozen=True, eq=False)
class Groups:
    """Groups that communicate at once: `ranks` [groups, members], each with as many like it as `copies` says.

    `everyone` lists the ranks of all groups.
    """

    routes: Routes
    ranks: Ints
    copies: Copies
    everyone: Ints
    _pieces: dict[Pattern, tuple[Piece, ...]] = field(default_factory=dict, repr=False)

    @cached_property
    def shape(self) -> Shape:
        """How each group lies in the cluster."""
        return _shape(self.routes, self.ranks)

    @property
    def count(self) -> int:
        """How many groups there are in all."""
        return int(len(self.everyone) // self.ranks.shape[1])

    @property
    def in_one_memory(self) -> bool:
        """Whether the ranks of each group are CPU devices in one innermost group: they can map the same memory."""
        return self.routes.in_one_memory(self.ranks)

    def spans(self) -> tuple[Span, ...]:
        """The levels at which a group's ranks are in several members, outermost first."""
        import numpy as np

        found = list[Span]()
        for depth, level in enumerate(self.routes.levels):
            numbers = np.sort(level.member[self.ranks], axis=1)
            members = 1 + (numbers[:, 1:] != numbers[:, :-1]).sum(axis=1)
            links = self.routes.links(depth, self.everyone) if members.max() > 1 else []
            if links:
                held = max(int(np.unique(row, return_counts=True)[1].max()) for row in numbers)
                capacity = sum(joint.capacity(count) for joint, count in links)
                found.append(Span(int(members.min()), held, min(joint.link.latency for joint, _ in links), capacity))
        return tuple(found)

    def pieces(self, patterns: Iterable[Pattern]) -> list[tuple[Piece, ...]]:
        """What each pattern takes when all groups send at once; a pattern is counted once."""
        import numpy as np

        patterns = list(patterns)
        new = [pattern for pattern in dict.fromkeys(patterns) if pattern not in self._pieces]
        if new:
            sent = [flows(pattern, self.shape) for pattern in new]
            sources, targets = (np.concatenate([self.ranks[:, way[end]].ravel() for way in sent]) for end in (0, 1))
            rounds = np.repeat(np.arange(len(new)), [len(way[0]) * len(self.ranks) for way in sent])
            found = self.routes.pieces(sources, targets, rounds, len(new), self.copies)
            self._pieces.update(zip(new, found, strict=True))
        return [self._pieces[pattern] for pattern in patterns]


@lru_cache(maxsize=1024)
def of_mesh(cluster: Cluster, first: int, blocks: Blocks) -> Groups:
    """The groups of a mesh over the ranks from `first` on."""
    import numpy as np

    known = routes(cluster)
    sizes = known.sizes
    digits = _digits(sizes, first, blocks) if sizes else None
    if digits is None or sizes is None:
        strides = accumulate((extent for extent, _ in blocks), mul, initial=1)
        digits = [_MeshDigit(stride, extent, along) for stride, (extent, along) in zip(strides, blocks, strict=False)]
        stand_in, sizes = [], ()
    else:
        shared = {digit.depth for digit in digits if digit.along and known.joint_at(digit.depth).wired}
        stand_in = [digit for digit in digits if not digit.along and digit.depth not in shared]
    along = [digit for digit in digits if digit.along]
    apart = [digit for digit in digits if not digit.along and digit not in stand_in]
    ranks = first + _offsets(apart)[:, np.newaxis] + _offsets(along)
    copies = _copies(sizes, stand_in) if stand_in else known.alone
    everyone = np.arange(first, first + prod(extent for extent, _ in blocks))
    return Groups(known, ranks, copies, everyone)


@lru_cache(maxsize=256)
def of_ranks(cluster: Cluster, groups: tuple[tuple[int, ...], ...]) -> Groups:
    """Groups of equal size, rank by rank."""
    import numpy as np

    known = routes(cluster)
    ranks = np.array(groups)
    return Groups(known, ranks, known.alone, ranks.ravel())


@dataclass(frozen=True, slots=True)
class _MeshDigit:
    """`extent` ranks that are `stride` apart, which a group runs `along` or not, at one depth of the nesting."""

    stride: int
    extent: int
    along: bool
    depth: int = 0


def _digits(sizes: Sequence[int], first: int, blocks: Blocks) -> list[_MeshDigit] | None:
    """A mesh's axes cut at the sizes of members, innermost first; None where they do not divide each other."""
    ends = list(accumulate((extent for extent, _ in blocks), mul))
    ranks = ends[-1]
    for size in sizes:
        if first % size if size < ranks else first // size != (first + ranks - 1) // size:
            return None
    bounds = sorted({1, *ends, *(size for size in sizes if size < ranks)})
    if any(high % low for low, high in pairwise(bounds)):
        return None
    found = list[_MeshDigit]()
    for low, high in pairwise(bounds):
        along = next(along for end, (_, along) in zip(ends, blocks, strict=True) if low < end)
        depth = next(depth for depth, size in enumerate(sizes) if size <= low)
        found.append(_MeshDigit(low, high // low, along, depth))
    return found


def _offsets(digits: Sequence[_MeshDigit]) -> Ints:
    """The ranks that digits count, from 0, in order."""
    import numpy as np

    found = np.zeros(1, dtype=np.int64)
    for digit in digits:
        found = (np.arange(digit.extent)[:, np.newaxis] * digit.stride + found).ravel()
    return found


def _copies(sizes: Sequence[int], digits: Sequence[_MeshDigit]) -> Copies:
    """Groups in one member use its ports, groups in one group of members its bus."""
    inside = [prod(digit.extent for digit in digits if digit.stride < size) for size in sizes]
    everywhere = prod(digit.extent for digit in digits)
    return Copies(tuple(inside), (everywhere, *inside[:-1]))


# How groups lie in the cluster.


def _shape(known: Routes, ranks: Ints) -> Shape:
    """Where all groups count through the nesting alike and evenly, the digits of their positions."""
    import numpy as np

    members = ranks.shape[1]
    found: dict[bool, list[Digit]] = {False: [], True: []}
    run = {False: members, True: members}
    ascending = bool((np.diff(ranks, axis=1) > 0).all())
    for level in known.levels if ascending else ():
        joints = [known.joints[index] for index in np.unique(level.joint[ranks]) if index != ALONE]
        for numbers, is_level in _numbered(level, joints, ranks):
            length = _run_length(numbers)
            if not length:
                return Shape(members)
            for fine in (True, False) if is_level else (True,):
                if run[fine] // length > 1:
                    places = level.position[ranks[0, : run[fine] : length]]
                    order = _cycle(joints[0], tuple(places.tolist())) if is_level else ()
                    wired = any(joint.wired for joint in joints)
                    found[fine].append(Digit(run[fine] // length, wired, order))
                run[fine] = length
    return Shape(members, tuple(found[False]), tuple(found[True]))


def _numbered(level: Level, joints: Sequence[Joint], ranks: Ints) -> Iterable[tuple[Ints, bool]]:
    """Numbers of the members that ranks are in, and before that of the rows and planes of a torus: (numbers, whether
    they are those of members)."""
    joint = joints[0]
    if len(joints) == 1 and len(joint.extents) > 1:
        row = joint.count
        for extent in joint.extents[:-1]:
            row //= extent
            yield level.group[ranks] * joint.count + level.position[ranks] // row, False
    yield level.member[ranks], True


def _run_length(numbers: Ints) -> int:
    """The length of the runs of equal numbers, if it is one length in all rows, at the same places; else 0."""
    import numpy as np

    changes = numbers[:, 1:] != numbers[:, :-1]
    if not (changes == changes[0]).all():
        return 0
    bounds = np.concatenate([[0], np.flatnonzero(changes[0]) + 1, [numbers.shape[1]]])
    lengths = np.diff(bounds)
    return int(lengths[0]) if (lengths == lengths[0]).all() else 0


@lru_cache(maxsize=256)
def _cycle(joint: Joint, places: tuple[int, ...]) -> tuple[int, ...]:
    """Members at these places in the order of a cycle along edges; () where the joint has no edges or no cycle is
    found."""
    if not joint.link.edges or not 2 < len(places) <= MAX_CYCLE:
        return ()
    at = {place: i for i, place in enumerate(places)}
    near: list[list[int]] = [[] for _ in places]
    for a, b in joint.link.edges:
        if a in at and b in at:
            near[at[a]].append(at[b])
            near[at[b]].append(at[a])
    way, steps = [0], 0
    tried = [iter(sorted(near[0]))]
    while tried and steps < SEARCHED:
        steps += 1
        if len(way) == len(places) and 0 in near[way[-1]]:
            return tuple(way)
        following = next((there for there in tried[-1] if there not in way), None)
        if following is None:
            way.pop()
            tried.pop()
        else:
            way.append(following)
            tried.append(iter(sorted(near[following])))
    return ()
