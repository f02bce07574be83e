"""The model of `dlc.cluster.routes` once more, message by message in plain Python: what the arrays must agree with."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Iterator
from itertools import pairwise
from math import inf, prod

from dlc.cluster.topology import Cluster, Group, Link

Flow = tuple[int, int]
FREE_LINK = Link("none", inf, 0.0)
WIRED = ("ring", "torus", "edges")


def round_seconds(flows: list[Flow], size: float, cluster: Cluster, call: float = 0.0) -> float:
    """The slowest of messages of `size` bytes, all at once, between these ranks."""
    crossings = [_crossing(cluster, *flow) for flow in flows]
    load: Counter[Hashable] = Counter(port for _, _, ports in crossings for port, _ in ports)
    times = [
        latency + size * max([load[port] / rate for port, rate in ports], default=0.0)
        for latency, _, ports in crossings
    ]
    return call + max(times)


def _crossing(cluster: Cluster, source: int, target: int) -> tuple[float, int, list[tuple[Hashable, float]]]:
    """(latency, wires, what it occupies with the bytes per second of that)."""
    one, two = place(cluster, source), place(cluster, target)
    depth = next(level for level, (a, b) in enumerate(zip(one, two, strict=False)) if a != b)
    groups = _groups(cluster, one)
    members = (one[: depth + 1], two[: depth + 1])
    siblings = one[depth][0] != two[depth][0]
    if siblings:
        link, name = _outer_link(cluster, groups, depth), ("around", one[:depth])
        count = sum(group.count for group in (groups[depth - 1].children if depth else cluster.topology))
    else:
        name = ("inside", one[:depth], one[depth][0])
        link = cluster.link(groups[depth].link) if groups[depth].link else FREE_LINK
        count = groups[depth].count
    bus = [(("bus", name), link.bandwidth)] if link.shared else []
    if siblings or link.shape not in WIRED:
        ends = (("out", members[0]), ("in", members[1])) if link.duplex else (("at", members[0]), ("at", members[1]))
        ports = [((name, end), link.bandwidth) for end in ends]
        core = [((name, "core"), count * link.bandwidth / link.oversubscription)] if link.oversubscription > 1 else []
        return link.latency, 1, [*ports, *bus, *core]
    rate = link.bandwidth / link.oversubscription
    way = _way(link, one[depth][1], two[depth][1], count)
    wires = [(name, pair if link.duplex else tuple(sorted(pair))) for pair in pairwise(way)]
    return link.latency * len(wires), len(wires), [(wire, rate) for wire in wires] + [(b, rate) for b, _ in bus]


def place(cluster: Cluster, rank: int) -> tuple[tuple[int, int], ...]:
    """Where a rank sits, outermost first: (child, member) at every level of the nesting."""
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


def _groups(cluster: Cluster, path: tuple[tuple[int, int], ...]) -> list[Group]:
    found, groups = list[Group](), cluster.topology
    for child, _ in path:
        found.append(groups[child])
        groups = groups[child].children
    return found


def _outer_link(cluster: Cluster, groups: list[Group], depth: int) -> Link:
    return next((cluster.link(group.link) for group in reversed(groups[:depth]) if group.link), FREE_LINK)


def _way(link: Link, source: int, target: int, count: int) -> list[int]:
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


def _by_edges(edges: tuple[Flow, ...], source: int, target: int) -> list[int]:
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


# Rounds of P ranks: (flows, share of the operand), one by one.

Rounds = Iterator[tuple[list[Flow], float]]


def rounds(kind: str, P: int) -> Rounds:
    core = 1 << (P.bit_length() - 1)
    surplus = P - core
    kept = [*range(0, 2 * surplus, 2), *range(2 * surplus, P)]
    bits = range(P.bit_length() - 1)
    exchanges = [[(rank, kept[i ^ (1 << bit)]) for i, rank in enumerate(kept)] for bit in bits]
    fold = [[(2 * i + 1, 2 * i) for i in range(surplus)]] if surplus else []
    unfold = [[(2 * i, 2 * i + 1) for i in range(surplus)]] if surplus else []
    around = [(i, (i + 1) % P) for i in range(P)]
    steps = [1 << k for k in range((P - 1).bit_length())]
    levels = [[(child - step, child) for child in range(step, P, 2 * step)] for step in steps]
    match kind:
        case "tree":
            yield from (([(child, parent) for parent, child in level], 1.0) for level in levels)
            yield from ((level, 1.0) for level in reversed(levels))
        case "butterfly":
            yield from ((flows, 1.0) for flows in (*fold, *exchanges, *unfold))
        case "rabenseifner":
            halving = [(flows, 0.5 ** (i + 1)) for i, flows in enumerate(reversed(exchanges))]
            yield from ((flows, 1.0) for flows in fold)
            yield from (*halving, *reversed(halving))
            yield from ((flows, 1.0) for flows in unfold)
        case "ring":
            yield from [(around, 1 / P)] * (2 * P - 2)
        case "allgather" | "reduce_scatter":
            yield from [(around, 1 / P)] * (P - 1)
        case "all_to_all":
            yield from (([(i, (i + k) % P) for i in range(P)], 1 / P**2) for k in range(1, P))
        case "broadcast":
            yield from ((level, 1.0) for level in reversed(levels))
