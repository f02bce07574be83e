"""Which links messages between ranks cross, and how long a round of messages takes on them.

A message goes over the link of the innermost group that holds its two ranks as different members. Over an `all_to_all`,
`switch` or `fat_tree` link it occupies its member's port out of the link and the other member's port into it (one port
for both where the link is not duplex); over a `ring`, `torus` or list of `edges` the wires on its shortest way, one
dimension after another on a torus. Where the link is `shared` it occupies the bus of its group besides. Messages that
use a port, wire or bus at once share its bandwidth.

Oversubscription r of a link with ports is a property of its core: the core of a group of n members carries n·b/r bytes
a second in all, where b is a port's bandwidth. So r costs nothing while at most n/r ports are busy, and leaves each b/r
when all are. Wires have no core: r divides the bandwidth of each.

Different children of an uneven machine reach each other over the nearest link around them, as members of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from math import inf, prod
from typing import TYPE_CHECKING, Any

from dlc.cluster.loads import Messages, busiest_ports, wires
from dlc.cluster.topology import Cluster, Group, Link

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]
    Ints = NDArray[np.int64]

Piece = tuple[float, float]
"""(latency, seconds for each byte of a message): a message of b bytes takes the sum of the first and b of the second.
"""

FREE_LINK = Link("none", inf, 0.0)
"""Between members of a group that has no link: a group of one, or siblings at the top of a topology."""

ALONE = -1
"""In place of a joint: a rank that is nested less deep."""

MESSAGES_AT_ONCE = 1 << 19
"""Rounds are counted in lots of about so many messages: few numpy calls, and arrays of some megabytes."""


@dataclass(frozen=True, slots=True)
class Joint:
    """What joins `count` members: a link, wired in a grid of `extents` or by the link's edges, else by ports."""

    link: Link
    count: int
    extents: tuple[int, ...] = ()

    @property
    def wired(self) -> bool:
        """Whether messages go over wires from member to member, not through ports."""
        return bool(self.extents or self.link.edges)

    def capacity(self, members: int) -> float:
        """Bytes a second that so many of the members can send together."""
        link = self.link
        ways = 2 if link.duplex else 1
        if link.edges:
            total = ways * len(link.edges) * link.bandwidth / link.oversubscription
        elif self.extents:
            wires = sum(self.count / (1 if extent > 2 else 2) for extent in self.extents if extent > 1)
            total = ways * wires * link.bandwidth / link.oversubscription
        else:
            total = min(members * ways / 2, self.count / link.oversubscription) * link.bandwidth
        return min(total, link.bandwidth) if link.shared else total


@dataclass(frozen=True, slots=True)
class Level:
    """One depth of the nesting, as arrays over the ranks.

    `member` numbers the members of all groups at this depth, `position` is a member's place in its group, `group`
    numbers the groups and `around` what holds them with their siblings. `joint` and `across` index `Routes.joints`:
    what joins the members of the group, and members of sibling groups. A rank that is nested less deep stands alone.
    """

    member: Ints
    group: Ints
    around: Ints
    position: Ints
    joint: Ints
    across: Ints
    members: int
    uniform: bool  # all groups are alike and have no siblings


@dataclass(frozen=True, slots=True)
class Copies:
    """How many groups like each one that is counted use the same port, and the same bus or core, at each depth."""

    ports: tuple[int, ...]
    buses: tuple[int, ...]


class Routes:
    """The ways of messages between the ranks of a cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.joints: list[Joint] = []
        nested = self._nested(cluster.topology, FREE_LINK)
        self.levels = tuple(_level(rows) for rows in nested)
        self._memory = _memories(nested)

    @property
    def alone(self) -> Copies:
        """The copies of groups that stand for themselves only."""
        return Copies((1,) * len(self.levels), (1,) * len(self.levels))

    @property
    def sizes(self) -> tuple[int, ...] | None:
        """Ranks of a member at each depth, outermost first; None where the nesting is uneven."""
        groups = self.cluster.levels
        even = bool(groups) and not groups[-1].children
        return tuple(group.ranks // group.count for group in groups) if even else None

    @property
    def extents(self) -> tuple[tuple[int, ...], ...]:
        """The extents of what is wired in a grid at each depth, outermost first, where the nesting is even."""
        return tuple(self.joint_at(depth).extents for depth in range(len(self.levels)))

    def joint_at(self, depth: int) -> Joint:
        """What joins the members of a group at that depth, where the nesting is even."""
        return self.joints[int(self.levels[depth].joint[0])]

    def links(self, depth: int, ranks: Ints) -> list[tuple[Joint, int, int]]:
        """(what joins members that hold these ranks at that depth, how many it joins, how often there is the like)."""
        level = self.levels[depth]
        found = [(level.joint, level.group)]
        if not level.uniform:
            found.append((level.across, level.around))
            ranks = ranks[level.joint[ranks] != ALONE]
        return [
            (self.joints[joint], members, times)
            for joints, parts in found
            for joint, members, times in _alike(joints[ranks], parts[ranks], level.member[ranks])
        ]

    def in_one_memory(self, ranks: Ints) -> bool:
        """Whether the ranks of each row [groups, ranks] are CPU devices in one innermost group."""
        memories = self._memory[ranks]
        return bool((memories >= 0).all() and (memories == memories[:, :1]).all())

    def pieces(self, sources: Ints, targets: Ints, rounds: Ints, count: int, copies: Copies) -> list[tuple[Piece, ...]]:
        """What each of `count` rounds takes: the largest of its pieces, of which none exceeds another in both figures.

        Message i goes from rank `sources[i]` to another rank, `targets[i]`, in round `rounds[i]`; rounds ascend.
        """
        import numpy as np

        found: list[list[Piece]] = [[] for _ in range(count)]
        starts = np.searchsorted(rounds, np.arange(count + 1))
        at = 0
        while at < count:
            stop = max(at + 1, int(np.searchsorted(starts, starts[at] + MESSAGES_AT_ONCE, side="right")) - 1)
            lot = slice(starts[at], starts[stop])
            messages = Messages(sources[lot], targets[lot], rounds[lot] - at, stop - at)
            for round_, piece in self._crossings(messages, copies):
                found[at + round_].append(piece)
            at = stop
        return [largest(pieces) for pieces in found]

    def _crossings(self, messages: Messages, copies: Copies) -> Iterable[tuple[int, Piece]]:
        """(round, piece) for each level, outermost first, and each kind of link that messages cross there."""
        for depth, level in enumerate(self.levels):
            crosses = level.member[messages.sources] != level.member[messages.targets]
            here, messages = messages.split(crosses)
            if len(here):
                buses, ports = copies.buses[depth], copies.ports[depth]
                for joint, inside, some in self._by_joint(level, here):
                    yield from _crossing(joint, inside, level, some, ports, buses)

    def _by_joint(self, level: Level, messages: Messages) -> Iterable[tuple[Joint, bool, Messages]]:
        import numpy as np

        if level.uniform:
            yield self.joints[int(level.joint[0])], True, messages
            return
        inside = level.group[messages.sources] == level.group[messages.targets]
        joint = np.where(inside, level.joint[messages.sources], level.across[messages.sources])
        for index in np.unique(2 * joint + inside):
            yield self.joints[index // 2], bool(index % 2), messages.split(2 * joint + inside == index)[0]

    def _nested(self, groups: tuple[Group, ...], around: Link) -> list[Ints]:
        """For each depth, rows [7, ranks]: first rank of the member, of the group and of what holds it; the position
        in the group; the joint of the group, and of it and its siblings; whether the members are CPU devices."""
        import numpy as np

        across = self._joint(Joint(around, sum(group.count for group in groups)))
        parts: list[list[Ints]] = []
        for group in groups:
            link = self.cluster.link(group.link) if group.link else FREE_LINK
            inner = self._nested(group.children, link if group.link else around) if group.children else []
            size = group.ranks // group.count
            member = np.repeat(np.arange(group.count), size)
            zeros = np.zeros_like(member)
            joint = self._joint(Joint(link, group.count, _extents(link, group.count)))
            cpu = not inner and self.cluster.device(group.device or group.name).kind == "cpu"
            own = np.stack([member * size, zeros, zeros, member, zeros + joint, zeros + across, zeros + cpu])
            parts.append([own, *(_shifted(np.tile(rows, group.count), member * size) for rows in inner)])
        return _side_by_side(parts)

    def _joint(self, joint: Joint) -> int:
        if joint not in self.joints:
            self.joints.append(joint)
        return self.joints.index(joint)


@lru_cache(maxsize=64)
def routes(cluster: Cluster) -> Routes:
    """The routes of a cluster, made once."""
    return Routes(cluster)


def largest(pieces: Iterable[Piece]) -> tuple[Piece, ...]:
    """The pieces that no other one exceeds in both figures, by falling latency."""
    kept = list[Piece]()
    for latency, per_byte in sorted(pieces, reverse=True):
        if not kept or per_byte > kept[-1][1]:
            kept.append((latency, per_byte))
    return tuple(kept)


def _alike(joints: Ints, parts: Ints, members: Ints) -> Iterable[tuple[int, int, int]]:
    """(joint, how many members a part has, how many parts are like that)."""
    import numpy as np

    _, one_each = np.unique(members, return_index=True)
    _, first, counts = np.unique(parts[one_each], return_index=True, return_counts=True)
    kinds, times = np.unique(np.stack([joints[one_each][first], counts]), axis=1, return_counts=True)
    return zip(*kinds.tolist(), times.tolist(), strict=True)


def _crossing(
    joint: Joint, inside: bool, level: Level, messages: Messages, ports: int, buses: int
) -> Iterable[tuple[int, Piece]]:
    """What messages over one kind of link take in each round, for each length of way."""
    import numpy as np

    link, part = joint.link, level.group if inside else level.around
    if joint.wired and inside:
        hops, loads = wires(link, joint.count, joint.extents, messages, level.position, level.group)
        loads = loads * ports
        if link.shared:
            loads = np.maximum(loads, messages.together(part) * buses)
        for length in range(1, int(hops.max()) + 1):
            some = hops == length
            longest = messages.split(some)[0].most(loads[some])
            yield from _by_round(link.latency * length, longest, link.oversubscription / link.bandwidth)
        return
    worst: Floats = busiest_ports(messages, level.member, link.duplex) * float(ports)
    core = max(float(link.shared), link.oversubscription / joint.count if link.oversubscription > 1 else 0.0)
    if core:
        shared = messages.most(messages.together(part)) * (core * buses)
        worst = np.maximum(worst, shared)
    yield from _by_round(link.latency, worst, 1 / link.bandwidth)


def _by_round(latency: float, loads: Floats | Ints, each: float) -> Iterable[tuple[int, Piece]]:
    """The piece of each round that has messages, where one message alone takes `each` seconds for a byte."""
    for round_ in loads.nonzero()[0].tolist():
        yield round_, (latency, float(loads[round_]) * each)


def _extents(link: Link, count: int) -> tuple[int, ...]:
    """The grid that a ring or torus wires its members in."""
    if link.shape == "torus" and prod(link.dimensions) == count:
        return link.dimensions
    return (count,) if link.shape in ("ring", "torus") else ()


def _shifted(rows: Ints, offset: Ints) -> Ints:
    rows[:3] += offset
    return rows


def _side_by_side(parts: list[list[Ints]]) -> list[Ints]:
    """The levels of sibling groups, one after another; where one is nested less deep, its ranks stand alone."""
    import numpy as np

    offsets = np.cumsum([0, *(part[0].shape[1] for part in parts)])
    found: list[Ints] = []
    for depth in range(max(len(part) for part in parts)):
        across: list[Ints] = []
        for part, offset in zip(parts, offsets, strict=False):
            count = part[0].shape[1]
            ranks, zeros = np.arange(count), np.zeros(count, dtype=np.int64)
            alone = np.stack([ranks, ranks, ranks, zeros, zeros + ALONE, zeros + ALONE, zeros])
            rows = part[depth].copy() if depth < len(part) else alone
            if depth:
                rows[:3] += offset
            else:
                rows[:2] += offset
            across.append(rows)
        found.append(np.concatenate(across, axis=1))
    return found


def _memories(nested: list[Ints]) -> Ints:
    """For each rank a number for the innermost group of CPU devices that it is in, -1 for other devices."""
    import numpy as np

    found = np.full(nested[0].shape[1], -1)
    for rows in nested:
        found = np.where(rows[6] == 1, rows[1], found)
    return found


def _level(rows: Ints) -> Level:
    """Members, groups and what holds them, numbered instead of named by their first ranks."""
    import numpy as np

    ranks = np.arange(rows.shape[1])
    member, group, around = (np.cumsum(starts == ranks) - 1 for starts in rows[:3])
    position, joint, across = rows[3:6]
    uniform = bool((joint == joint[0]).all()) and len(set(np.bincount(group))) == 1 and bool((group == around).all())
    return Level(member, group, around, position, joint, across, int(member[-1]) + 1, uniform)
