"""What collectives cost on a cluster: cost-models.md §4, round by round.

A collective is a list of rounds; in a round some ranks send a share of the operand to others, all at once. A message of
b bytes costs L + b·G, where L is the latency of the link that it crosses and G = 1/bandwidth; messages that use one
port of a member (or one segment of a ring, one wire, one bus) at once share its bandwidth. On a flat group the sums
over the rounds are the closed forms of the table in §4; on a nested one each round pays for the slowest link that it
crosses. Where the number of ranks is no power of two, `butterfly` and `rabenseifner` first fold the surplus ranks onto
their neighbours and hand them the result at the end: one full message each (MPICH's rule).

All functions take the ranks of the group in its order; sizes are bytes, times seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from dlc.cluster.routes import Crossing, crossing, place
from dlc.cluster.topology import Cluster

MPI_SHORT = 2048
"""Bytes up to which MPICH's allreduce is recursive doubling; beyond, it is Rabenseifner's (MPICH's allreduce.c)."""

Flow = tuple[int, int]
"""(source, target): positions in the group."""


@dataclass(frozen=True, slots=True)
class Processing:
    """What a message costs its sender and receiver besides the link.

    `call` is the seconds that a program spends to start and end one exchange; `reduce` the seconds to add one received
    byte to an own one; `copy` the seconds to read and write one byte of memory. All are zero in §4.
    """

    call: float = 0.0
    reduce: float = 0.0
    copy: float = 0.0


FREE = Processing()


@dataclass(frozen=True, slots=True)
class Round:
    """`times` exchanges of `share` of the operand along the same flows; `reduces` where what arrives is added up."""

    flows: tuple[Flow, ...]
    share: float
    reduces: bool = False
    times: int = 1


def seconds(kind: str, size: float, ranks: tuple[int, ...], cluster: Cluster, processing: Processing = FREE) -> float:
    """The time of a collective over an operand of `size` bytes.

    `kind` is an allreduce (`tree`, `butterfly`, `ring`, `rabenseifner`, `hierarchical`, `shared`, `mpi`), or
    `allgather`, `reduce_scatter`, `all_to_all`, `broadcast`. The operand of an allgather or an all-to-all is all of
    its data together, that of the others the vector that each rank has. ValueError for another kind.
    """
    if len(ranks) == 1:
        return 0.0
    if kind == "mpi":
        return _mpi(size, ranks, cluster, processing)
    if kind == "shared":
        return _shared(size, ranks, cluster, processing)
    return sum(_round(price, size, processing) for price in _prices(kind, ranks, cluster))


def lower_bound(size: float, ranks: tuple[int, ...], cluster: Cluster) -> float:
    """No allreduce over these links is faster, redundant computation apart: max of L·lg n + 2·size·G·(n-1)/n.

    n counts the members of a group that the link connects: however the work inside a member is arranged, its share
    crosses that link.
    """
    return max((_link_bound(c, size) for c in _crossings(ranks, cluster)), default=0.0)


def shares_memory(ranks: tuple[int, ...], cluster: Cluster) -> bool:
    """Whether all ranks are CPU devices in one innermost group: then they can map the same memory."""
    members = {crossing(cluster, ranks[0], rank).group for rank in ranks[1:]}
    innermost = all(crossing(cluster, ranks[0], rank).innermost for rank in ranks[1:])
    return len(members) <= 1 and innermost and all(cluster.device_of(rank).kind == "cpu" for rank in ranks)


def _mpi(size: float, ranks: tuple[int, ...], cluster: Cluster, processing: Processing) -> float:
    """MPI's own allreduce, by MPICH's switch: a call of the program to start it, and half of one to test each round.

    It goes on only while the program tests it, which is why a rank that waits need not burn its core.
    """
    kind = "butterfly" if size <= MPI_SHORT else "rabenseifner"
    inner = Processing(processing.call / 2, processing.reduce, processing.copy)
    return processing.call + seconds(kind, size, ranks, cluster, inner)


def _shared(size: float, ranks: tuple[int, ...], cluster: Cluster, processing: Processing) -> float:
    """Reduce-scatter in one memory: a barrier, each rank adds up its slice of all vectors and writes the sum to each,
    a second barrier. A rank reads and writes size/P bytes of each of P vectors: 2·⌈lg P⌉·L + 2·size/bandwidth.
    """
    barrier = processing.call + seconds("broadcast", 0.0, ranks, cluster)  # ⌈lg P⌉ rounds inside one call of MPI's
    return 2 * barrier + size * processing.copy


# Prices: rounds on the links of a cluster.


@dataclass(frozen=True, slots=True)
class _Price:
    """A round priced: the slowest of (latency, seconds per byte of the operand); what is added up, how often."""

    links: tuple[tuple[float, float], ...]
    reduced: float
    times: int


def _round(price: _Price, size: float, processing: Processing) -> float:
    wire = max(latency + size * per_byte for latency, per_byte in price.links)
    return price.times * (processing.call + wire + size * price.reduced * processing.reduce)


@lru_cache(maxsize=256)
def _prices(kind: str, ranks: tuple[int, ...], cluster: Cluster) -> tuple[_Price, ...]:
    rounds = _hierarchical(ranks, cluster) if kind == "hierarchical" else _rounds(kind, len(ranks))
    return tuple(_priced(round_, ranks, cluster) for round_ in rounds)


def _priced(round_: Round, ranks: tuple[int, ...], cluster: Cluster) -> _Price:
    """Count the flows on every port and wire; each flow goes as fast as the busiest one that it uses."""
    crossings = [crossing(cluster, ranks[source], ranks[target]) for source, target in round_.flows]
    load = Counter[Hashable](port for found in crossings for port in found.ports)
    slowest = {
        (found.latency, round_.share * max(load[port] for port in found.ports) / found.bandwidth) for found in crossings
    }
    return _Price(tuple(sorted(slowest)), round_.share if round_.reduces else 0.0, round_.times)


def _crossings(ranks: tuple[int, ...], cluster: Cluster) -> Iterator[tuple[Crossing, int]]:
    """One crossing for each group whose members hold several of these ranks, with the number of those members."""
    by_group: dict[Hashable, tuple[Crossing, set[Hashable]]] = {}
    for first, second in pairwise(ranks):
        found = crossing(cluster, first, second)
        by_group.setdefault(found.group, (found, set()))[1].update((found.source, found.target))
    for found, members in by_group.values():
        yield found, len(members)


def _link_bound(found: tuple[Crossing, int], size: float) -> float:
    link, members = found
    return link.latency / link.hops * (members - 1).bit_length() + 2 * size * (members - 1) / members / link.bandwidth


# Rounds: who sends what to whom, for P ranks.


def _rounds(kind: str, P: int) -> Iterator[Round]:
    match kind:
        case "tree":
            levels = tuple(_tree_levels(P))
            yield from (Round(tuple((child, parent) for parent, child in level), 1.0, True) for level in levels)
            yield from (Round(level, 1.0) for level in reversed(levels))
        case "butterfly":
            yield from _folded(P, (Round(_exchange(P, bit), 1.0, True) for bit in range(P.bit_length() - 1)))
        case "rabenseifner":
            last = P.bit_length() - 2  # the first exchange spans half of the ranks
            halving = [Round(_exchange(P, last - i), 0.5 ** (i + 1), True) for i in range(last + 1)]
            yield from _folded(P, (*halving, *(Round(r.flows, r.share) for r in reversed(halving))))
        case "ring":
            yield Round(_neighbours(P), 1 / P, True, P - 1)
            yield Round(_neighbours(P), 1 / P, False, P - 1)
        case "allgather" | "reduce_scatter":
            yield Round(_neighbours(P), 1 / P, kind == "reduce_scatter", P - 1)
        case "all_to_all":
            for k in range(1, P):
                yield Round(tuple((i, (i + k) % P) for i in range(P)), 1 / P**2)
        case "broadcast":
            yield from (Round(level, 1.0) for level in reversed(tuple(_tree_levels(P))))
        case _:
            raise ValueError(f"there is no collective {kind!r}")


def _neighbours(P: int) -> tuple[Flow, ...]:
    return tuple((i, (i + 1) % P) for i in range(P))


def _tree_levels(P: int) -> Iterator[tuple[Flow, ...]]:
    """The (parent, child) pairs of a binomial tree, leaves first: ⌈lg P⌉ levels."""
    step = 1
    while step < P:
        yield tuple((child - step, child) for child in range(step, P, 2 * step))
        step *= 2


def _exchange(P: int, bit: int) -> tuple[Flow, ...]:
    """Pairs of ranks that differ in one bit, in both directions, among the power of two that is left after folding."""
    kept = _kept(P)
    return tuple((rank, kept[position ^ (1 << bit)]) for position, rank in enumerate(kept))


def _kept(P: int) -> tuple[int, ...]:
    """The ranks that take part after folding: the even ones of the first 2·(P - 2ᵏ), and all others."""
    surplus = P - (1 << (P.bit_length() - 1))
    return (*range(0, 2 * surplus, 2), *range(2 * surplus, P))


def _folded(P: int, rounds: Iterator[Round] | tuple[Round, ...]) -> Iterator[Round]:
    """Rounds of a power of two between the two that fold the surplus ranks in and hand them the result."""
    surplus = P - (1 << (P.bit_length() - 1))
    if surplus:
        yield Round(tuple((2 * i + 1, 2 * i) for i in range(surplus)), 1.0, True)
    yield from rounds
    if surplus:
        yield Round(tuple((2 * i, 2 * i + 1) for i in range(surplus)), 1.0)


def _hierarchical(ranks: tuple[int, ...], cluster: Cluster) -> Iterator[Round]:
    """Reduce-scatter within the node, allreduce across nodes on 1/local of the data, allgather within the node.

    Nodes are the innermost groups; where they hold unequal numbers of these ranks, or one each, it is Rabenseifner's.
    """
    nodes: dict[Hashable, list[int]] = {}
    for position, rank in enumerate(ranks):
        nodes.setdefault(_node(cluster, rank), []).append(position)
    local = {len(members) for members in nodes.values()}
    if len(nodes) == 1 or len(local) > 1 or local == {1}:
        yield from _rounds("rabenseifner", len(ranks))
        return
    inner = tuple(zip(*nodes.values(), strict=True))  # inner[i]: the i-th rank of every node
    size = len(inner)
    around = tuple((inner[i][n], inner[(i + 1) % size][n]) for n in range(len(nodes)) for i in range(size))
    yield Round(around, 1 / size, True, size - 1)
    for round_ in _rounds("rabenseifner", len(nodes)):
        across = tuple((places[source], places[target]) for places in inner for source, target in round_.flows)
        yield Round(across, round_.share / size, round_.reduces, round_.times)
    yield Round(around, 1 / size, False, size - 1)


def _node(cluster: Cluster, rank: int) -> Hashable:
    """The innermost group that holds a rank, by its path through the nesting."""
    return place(cluster, rank)[:-1]
