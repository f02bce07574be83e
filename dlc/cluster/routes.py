"""Which link a message crosses, and which of its ports or wires it shares with other messages."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import inf, prod

from dlc.cluster.topology import Cluster, Group, Link

Path = tuple[tuple[int, int], ...]
"""Where a rank sits, outermost first: (which child of the group, which member of it) at every level of the nesting."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """A message between two members of a group.

    `ports` are the ports, wires and buses that it occupies; messages that occupy the same one share its bandwidth.
    `latency` is that of all `hops` together. `innermost` says that the members are devices.
    """

    group: Hashable
    source: Hashable
    target: Hashable
    latency: float
    bandwidth: float
    hops: int
    ports: tuple[Hashable, ...]
    innermost: bool


FREE_LINK = Link("none", inf, 0.0)
"""Between members of a group that has no link: a group of one, or siblings at the top of a topology."""


@lru_cache(maxsize=65536)
def crossing(cluster: Cluster, source: int, target: int) -> Crossing:
    """The link of the innermost group that holds both ranks as different members, and what the message occupies there.

    A fat tree's oversubscription divides the bandwidth of every message: the worst case, all of them cross its root.
    """
    one, two = place(cluster, source), place(cluster, target)
    depth = next(level for level, (a, b) in enumerate(zip(one, two, strict=False)) if a != b)
    groups = _groups(cluster, one)
    group, prefix = groups[depth], one[:depth]
    link = cluster.link(group.link) if group.link else FREE_LINK
    members = (one[: depth + 1], two[: depth + 1])
    if one[depth][0] != two[depth][0]:  # different children of an uneven machine: over the link of what holds them
        link = _outer_link(cluster, groups, depth)
        wires: tuple[Hashable, ...] = _endpoint_ports(link, *members)
    else:
        wires = tuple(_wires(link, prefix, one[depth][1], two[depth][1], group.count, members))
    bandwidth = link.bandwidth / link.oversubscription
    hops = max(1, len(wires)) if link.shape in ("ring", "torus", "edges") else 1
    bus = (("bus", prefix),) if link.shared else ()
    last = not group.children
    return Crossing(prefix, *members, link.latency * hops, bandwidth, hops, (*wires, *bus), last)


@lru_cache(maxsize=65536)
def place(cluster: Cluster, rank: int) -> Path:
    """The path of a rank through the nested groups; IndexError where the cluster has no such rank."""
    path, groups, base = list[tuple[int, int]](), cluster.topology, 0
    while groups:
        child = 0
        while rank >= base + groups[child].ranks:
            base += groups[child].ranks
            child += 1
        group = groups[child]
        size = group.ranks // group.count
        member = (rank - base) // size
        path.append((child, member))
        base += member * size
        groups = group.children
    return tuple(path)


def _groups(cluster: Cluster, path: Path) -> tuple[Group, ...]:
    """The groups that a path goes through, outermost first."""
    found, groups = list[Group](), cluster.topology
    for child, _ in path:
        found.append(groups[child])
        groups = groups[child].children
    return tuple(found)


def _outer_link(cluster: Cluster, groups: tuple[Group, ...], depth: int) -> Link:
    """The nearest link around a member; siblings of an uneven machine are reached over the link that holds both."""
    for group in reversed(groups[:depth]):
        if group.link:
            return cluster.link(group.link)
    return FREE_LINK


def _endpoint_ports(link: Link, source: Hashable, target: Hashable) -> tuple[Hashable, ...]:
    """A member has one port into the link and one out of it, or one for both where the link is not duplex."""
    if link.duplex:
        return (("out", source), ("in", target))
    return (("port", source), ("port", target))


def _wires(
    link: Link, group: Path, source: int, target: int, count: int, members: tuple[Path, Path]
) -> Iterator[Hashable]:
    """What a message occupies: ports where any member reaches any other, else the wires on its way."""
    if link.shape not in ("ring", "torus", "edges"):
        yield from _endpoint_ports(link, *members)
        return
    way = _way(link, source, target, count)
    for first, second in pairwise(way):
        pair = (first, second) if link.duplex else (min(first, second), max(first, second))
        yield ("wire", group, pair)


def _way(link: Link, source: int, target: int, count: int) -> list[int]:
    """The members that a message passes, by the shortest way; dimension by dimension on a torus."""
    if link.shape == "edges":
        return _by_edges(link.edges, source, target)
    extents = link.dimensions if link.shape == "torus" and prod(link.dimensions) == count else (count,)
    way, stride = [source], count
    for extent in extents:
        stride //= extent
        here, there = way[-1] // stride % extent, target // stride % extent
        forward = (there - here) % extent
        step, length = (1, forward) if 2 * forward <= extent else (-1, extent - forward)
        for _ in range(length):
            here = way[-1] // stride % extent
            way.append(way[-1] + ((here + step) % extent - here) * stride)
    return way


def _by_edges(edges: tuple[tuple[int, int], ...], source: int, target: int) -> list[int]:
    """Breadth-first; the cluster's checks have made sure that the edges connect all members."""
    neighbours: dict[int, list[int]] = {}
    for a, b in edges:
        neighbours.setdefault(a, []).append(b)
        neighbours.setdefault(b, []).append(a)
    came, waiting = {source: source}, deque([source])
    while target not in came:
        here = waiting.popleft()
        for there in sorted(neighbours.get(here, ())):
            if there not in came:
                came[there] = here
                waiting.append(there)
    way = [target]
    while way[-1] != source:
        way.append(came[way[-1]])
    return way[::-1]
