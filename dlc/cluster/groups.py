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

from dlc.cluster.rounds import ALL, Digit, Pattern, Shape, flows
from dlc.cluster.routes import ALONE, Copies, Joint, Level, Piece, Routes, routes
from dlc.cluster.topology import Cluster

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

Blocks = tuple[tuple[int, bool], ...]
"""(extent, whether a group runs along it), innermost first: how a mesh counts its ranks."""

Wires = tuple[int, int] | None
"""(depth of the nesting, dimension) of wires, None where there are ports."""

_Cut = tuple[int, Wires]
"""(ranks, the wires that count from there on)."""

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
    fits: bool = False  # the mesh fits the nesting
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
                capacity = sum(joint.capacity(count) * times for joint, count, times in links)
                found.append(Span(int(members.min()), held, min(joint.link.latency for joint, *_ in links), capacity))
        return tuple(found)

    def pieces(self, patterns: Iterable[Pattern]) -> list[tuple[Piece, ...]]:
        """What each pattern takes when all groups send at once; a pattern is counted once."""
        import numpy as np

        patterns = list(patterns)
        new = [
            pattern for pattern in dict.fromkeys(patterns) if pattern not in self._pieces and not self._by_part(pattern)
        ]
        if new:
            sent = [flows(pattern, self.shape) for pattern in new]
            sources, targets = (np.concatenate([self.ranks[:, way[end]].ravel() for way in sent]) for end in (0, 1))
            rounds = np.repeat(np.arange(len(new)), [len(way[0]) * len(self.ranks) for way in sent])
            found = self.routes.pieces(sources, targets, rounds, len(new), self.copies)
            self._pieces.update(zip(new, found, strict=True))
        return [self._pieces[pattern] for pattern in patterns]

    def _by_part(self, pattern: Pattern) -> bool:
        """Whether the pattern runs along a part of the group's digits only, as along a mesh axis of its own: then what
        it takes has been found there, on fewer messages."""
        P, digits = self.shape.ranks, self.shape.digits if pattern.fine else self.shape.levels
        extent = P if pattern.digit == ALL else digits[pattern.digit].extent
        inner = 1 if pattern.digit == ALL else prod(digit.extent for digit in digits[pattern.digit + 1 :])
        part = None
        if pattern.kind == "exchange" and extent & (extent - 1) == 0:
            part, there = self._part(inner << pattern.number, 2), Pattern("exchange")
        elif pattern.kind == "shift" and extent < P:
            part, there = self._part(inner, extent), Pattern("shift", pattern.number, 0, pattern.fine)
        if part is None:
            return False
        self._pieces[pattern] = part.pieces([there])[0]
        return True

    def _part(self, step: int, extent: int) -> Groups | None:
        """The groups of `extent` ranks that are `step` positions apart, if they are those of a mesh that fits."""
        first, total = int(self.everyone[0]), len(self.everyone)
        places = self.ranks[0, : step * extent : step] - self.ranks[0, 0]
        stride = int(places[1])
        even = all(int(place) == i * stride for i, place in enumerate(places))
        if not self.fits or extent == self.shape.ranks or not even or total % (stride * extent):
            return None
        blocks = ((stride, False), (extent, True), (total // (stride * extent), False))
        part = of_mesh(self.routes.cluster, first, tuple(block for block in blocks if block[0] > 1))
        return part if part.fits and len(part.shape.levels) == 1 and len(part.shape.digits) == 1 else None


@lru_cache(maxsize=1024)
def of_mesh(cluster: Cluster, first: int, blocks: Blocks) -> Groups:
    """The groups of a mesh over the ranks from `first` on."""
    import numpy as np

    known = routes(cluster)
    digits = _digits(known, first, blocks)
    fits = digits is not None
    if digits is None:
        strides = accumulate((extent for extent, _ in blocks), mul, initial=1)
        digits = [_MeshDigit(stride, extent, along) for stride, (extent, along) in zip(strides, blocks, strict=False)]
    shared = {digit.wires for digit in digits if digit.along}
    along = [digit for digit in digits if digit.along]
    apart = [digit for digit in digits if not digit.along and (not fits or digit.wires in shared - {None})]
    others = [digit for digit in digits if digit not in along and digit not in apart]
    ranks = first + _offsets(apart)[:, np.newaxis] + _offsets(along)
    everyone = np.arange(first, first + prod(extent for extent, _ in blocks))
    copies = _copies(known.sizes or (), others) if others else known.alone
    return Groups(known, ranks, copies, everyone, fits)


@lru_cache(maxsize=256)
def of_ranks(cluster: Cluster, groups: tuple[tuple[int, ...], ...]) -> Groups:
    """Groups of equal size, rank by rank; consecutive ranks in one group are those of a mesh of one axis."""
    import numpy as np

    known = routes(cluster)
    ranks = np.array(groups)
    if ranks.size > 1 and len(groups) == 1 and (np.diff(ranks[0]) == 1).all():
        return of_mesh(cluster, groups[0][0], ((len(groups[0]), True),))
    return Groups(known, ranks, known.alone, ranks.ravel())


@dataclass(frozen=True, slots=True)
class _MeshDigit:
    """`extent` ranks that are `stride` apart, which a group runs `along` or not.

    `wires` tells which ones lie between them, None where ports do.
    """

    stride: int
    extent: int
    along: bool
    wires: Wires = None


def _digits(known: Routes, first: int, blocks: Blocks) -> list[_MeshDigit] | None:
    """A mesh's axes cut at the sizes of members, and of rows and planes on a torus where that goes, innermost first;
    None where they do not divide each other."""
    sizes, ends = known.sizes, list(accumulate((extent for extent, _ in blocks), mul))
    if sizes is None:
        return None
    ranks = ends[-1]
    for fine in (True, False):
        cuts = [cut for depth, size in enumerate(sizes) for cut in _cuts(known.joint_at(depth), depth, size, fine)]
        bounds = sorted({1, *ends, *(size for size, _ in cuts if size < ranks)})
        begins = all(
            first % size == 0 if size < ranks else first // size == (first + ranks - 1) // size for size, _ in cuts
        )
        if begins and not any(high % low for low, high in pairwise(bounds)):
            return [_mesh_digit(low, high, cuts, blocks) for low, high in pairwise(bounds)]
    return None


def _cuts(joint: Joint, depth: int, size: int, fine: bool) -> list[_Cut]:
    """Where the members of a group are cut: between members, and between rows and planes of a torus if it is `fine`."""
    if not joint.wired:
        return [(size, None)]
    if not fine or not joint.extents:
        return [(size, (depth, 0))]
    inner = [prod(joint.extents[dimension + 1 :]) for dimension in range(len(joint.extents))]
    return [(size * members, (depth, dimension)) for dimension, members in enumerate(inner)]


def _mesh_digit(low: int, high: int, cuts: Sequence[_Cut], blocks: Blocks) -> _MeshDigit:
    ends = accumulate((extent for extent, _ in blocks), mul)
    along = next(along for end, (_, along) in zip(ends, blocks, strict=True) if low < end)
    _, wires = max((cut for cut in cuts if cut[0] <= low), key=lambda cut: cut[0])
    return _MeshDigit(low, high // low, along, wires)


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
                    alike = len(joints) == 1 and level.uniform and not wired
                    found[fine].append(Digit(run[fine] // length, wired, alike, order))
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
