"""What collectives cost on a cluster: cost-models.md §4, round by round.

A message of b bytes costs L + b·G, where L is the latency of the link that it crosses and G = 1/bandwidth; messages
that use one port, wire or bus at once share its bandwidth (`dlc.cluster.routes`). A round takes as long as its slowest
message. On a flat group the sums over the rounds (`dlc.cluster.rounds`) are the closed forms of the table in §4; on a
nested one each round pays for the slowest link that it crosses.

As a function of the size the time of an algorithm is convex and made of straight lines: the largest of a few
`Line`s. They are worked out once for all sizes.

Sizes are bytes, times seconds; the operand of an allgather or an all-to-all is all of its data together, that of the
others the vector that each rank has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import ceil, inf, log

from dlc.cluster.groups import Groups, of_ranks
from dlc.cluster.rounds import ALGORITHMS, Pattern, Round, rounds
from dlc.cluster.routes import largest
from dlc.cluster.topology import Cluster

MPI_SHORT = 2048
"""Bytes up to which MPICH's allreduce is recursive doubling; beyond, it is Rabenseifner's (MPICH's allreduce.c)."""

Line = tuple[float, float]
"""(seconds, seconds for each byte of the operand)."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What an algorithm of allreduce took among so many ranks of one machine: (bytes, seconds), by rising size."""

    algorithm: str
    ranks: int
    seconds: tuple[tuple[float, float], ...]
    spread: float = 0.0

    def prices(self) -> Iterator[Price]:
        """A line between each two sizes; below the first it takes as long as there, above the last it goes on."""
        (size, taken), *others = self.seconds
        yield Price(self.algorithm, ((taken, 0.0),), -1.0, size, self.spread)
        slope = taken / size
        for number, (larger, longer) in enumerate(others):
            longer = max(taken, longer)  # more takes no less: what seems so is noise
            slope = (longer - taken) / (larger - size)
            high = larger if number < len(others) - 1 else inf
            yield Price(self.algorithm, ((taken - slope * size, slope),), size, high, self.spread)
            size, taken = larger, longer
        if not others:
            yield Price(self.algorithm, ((0.0, slope),), size, inf, self.spread)


@dataclass(frozen=True, slots=True)
class Processing:
    """What a message costs its sender and receiver besides the link.

    `call` is the seconds that a program spends to start and end one exchange; `reduce` the seconds to add one received
    byte to an own one; `copy` the seconds to read and write one byte of memory. All are zero in §4. `measured` are
    allreduces among ranks that share a memory, which count in place of the formulas.
    """

    call: float = 0.0
    reduce: float = 0.0
    copy: float = 0.0
    measured: tuple[Measured, ...] = ()


FREE = Processing()


@dataclass(frozen=True, slots=True)
class Price:
    """An algorithm's time: the largest of its lines, for operands above `low` and up to `high` bytes.

    `spread` is that of what was measured, None of a formula.
    """

    algorithm: str
    lines: tuple[Line, ...]
    low: float = -1.0
    high: float = inf
    spread: float | None = None

    def seconds(self, size: float) -> float:
        """The time for one size; inf outside its range."""
        return max(a + b * size for a, b in self.lines) if self.low < size <= self.high else inf


def seconds(kind: str, size: float, ranks: tuple[int, ...], cluster: Cluster, processing: Processing = FREE) -> float:
    """The time of a collective of one group over an operand of `size` bytes.

    `kind` is an algorithm of allreduce (`tree`, `butterfly`, `ring`, `rabenseifner`, `hierarchical`, `shared`, `mpi`
    and more), or `allgather`, `reduce_scatter`, `all_to_all`, `broadcast` for the cheapest algorithm of each.
    ValueError for another kind.
    """
    return seconds_together(kind, "", size, (ranks,), cluster, processing)


def seconds_together(
    kind: str,
    algorithm: str,
    size: float,
    groups: tuple[tuple[int, ...], ...],
    cluster: Cluster,
    processing: Processing = FREE,
) -> float:
    """The time of a collective in several groups of equal size at once, by one algorithm or, for "", the cheapest.

    `kind` may be an algorithm of allreduce itself. ValueError for an unknown collective, or an algorithm that is not
    for these groups.
    """
    if kind not in ALGORITHMS:
        kind, algorithm = "allreduce", kind
    if len(groups[0]) == 1:
        return 0.0
    return min(price.seconds(size) for price in _known_prices(kind, algorithm, groups, cluster, processing))


@lru_cache(maxsize=256)
def _known_prices(
    kind: str, algorithm: str, groups: tuple[tuple[int, ...], ...], cluster: Cluster, processing: Processing
) -> tuple[Price, ...]:
    return prices(kind, of_ranks(cluster, groups), processing, algorithm)


def prices(kind: str, groups: Groups, processing: Processing = FREE, algorithm: str = "") -> tuple[Price, ...]:
    """The prices of all algorithms of a collective that these groups have, in the order that breaks ties.

    With `algorithm`, of that one only: ValueError where they do not have it, or there is no such collective.
    """
    if kind not in ALGORITHMS:
        raise ValueError(f"there is no collective {kind!r}")
    names = [algorithm] if algorithm else [*ALGORITHMS[kind], *(("shared", "mpi") if kind == "allreduce" else ())]
    plans = {name: rounds(kind, name, groups.shape) for name in names if name not in ("shared", "mpi")}
    groups.pieces(r.pattern for plan in plans.values() for r in plan or ())
    found = list[Price]()
    for name in names:
        if name == "mpi":
            found += _mpi(groups, processing)
        elif name == "shared":
            found += [_shared(groups, processing)] if algorithm or groups.in_one_memory else []
        else:
            plan = plans[name]
            found += [] if plan is None else [Price(name, _lines(plan, groups, processing))]
    for each in _measured(kind, groups, processing):
        known = [at for at, price in enumerate(found) if price.algorithm == each.algorithm]
        if known:
            found[known[0] : known[-1] + 1] = each.prices()
    if not found and algorithm == "hierarchical" and kind == "allreduce":  # one level: what it does across nodes
        return prices(kind, groups, processing, "rabenseifner")
    if not found:
        raise ValueError(f"the algorithm {algorithm!r} of {kind} is not for such groups")
    return tuple(found)


def _measured(kind: str, groups: Groups, processing: Processing) -> list[Measured]:
    """What was measured of a group's allreduce, where it is alone in its memory."""
    if kind != "allreduce" or not processing.measured or groups.count > 1 or not groups.in_one_memory:
        return []
    return [each for each in processing.measured if each.ranks == groups.ranks.shape[1]]


def exchange(pattern: Pattern, groups: Groups, processing: Processing, calls: int = 1) -> tuple[Line, ...]:
    """The time of one message of `size` bytes along each flow of a pattern."""
    pieces = groups.pieces([pattern])[0]
    return tuple((latency + calls * processing.call, per_byte) for latency, per_byte in pieces) or ((0.0, 0.0),)


def _mpi(groups: Groups, processing: Processing) -> list[Price]:
    """MPI's own allreduce, by MPICH's switch: a call of the program to start it, and half of one to test each round.

    It goes on only while the program tests it, which is why a rank that waits need not burn its core.
    """
    inner = Processing(processing.call / 2, processing.reduce, processing.copy)
    found = list[Price]()
    for name, low, high in (("butterfly", -1.0, MPI_SHORT), ("rabenseifner", MPI_SHORT, inf)):
        lines = _lines(rounds("allreduce", name, groups.shape) or (), groups, inner)
        found.append(Price("mpi", tuple((a + processing.call, b) for a, b in lines), low, high))
    return found


def _shared(groups: Groups, processing: Processing) -> Price:
    """Reduce-scatter in one memory: a barrier, each rank adds up its slice of all vectors and writes the sum to each,
    a second barrier. A rank reads and writes size/P bytes of each of P vectors: 2·⌈lg P⌉·L + 2·size/bandwidth.
    """
    barrier = _lines(rounds("broadcast", "tree", groups.shape) or (), groups, FREE)  # inside one call of MPI's
    return Price("shared", ((2 * (processing.call + max(a for a, _ in barrier)), processing.copy),))


def _lines(plan: Iterable[Round], groups: Groups, processing: Processing) -> tuple[Line, ...]:
    """The sum over the rounds of calls, copies, additions and the slowest message."""
    plan = tuple(plan)
    terms = list[tuple[Line, ...]]()
    for r, pieces in zip(plan, groups.pieces(r.pattern for r in plan), strict=True):
        local = r.share * processing.reduce if r.reduces else 0.0
        local += r.copied * processing.copy
        terms.append(
            tuple((r.times * (processing.call + a), r.times * (r.share * b + local)) for a, b in largest(pieces))
        )
    return _sum(terms)


def _sum(terms: Sequence[tuple[Line, ...]]) -> tuple[Line, ...]:
    """The sum of functions that are the largest of lines, as the largest of lines: one for each stretch between bends.

    The lines of a term ascend in slope.
    """
    a = sum(term[0][0] for term in terms if len(term) == 1)
    b = sum(term[0][1] for term in terms if len(term) == 1)
    bent = [upper(term) for term in terms if len(term) > 1]
    bends = sorted({(p[0] - q[0]) / (q[1] - p[1]) for term in bent for p, q in pairwise(term)})
    found = list[Line]()
    for low, high in zip([0.0, *bends], [*bends, 2 * (bends[-1] if bends else 0.0) + 1.0], strict=True):
        middle = (low + high) / 2
        lines = [max(term, key=lambda line: line[0] + line[1] * middle) for term in bent]
        found.append((a + sum(line[0] for line in lines), b + sum(line[1] for line in lines)))
    return upper(found)


def upper(lines: Sequence[Line]) -> tuple[Line, ...]:
    """Those lines that are the largest somewhere above 0, by rising slope."""
    kept = list[Line]()
    for a, b in sorted(lines, key=lambda line: (line[1], -line[0])):
        if kept and kept[-1][1] == b:
            continue
        while kept and a >= kept[-1][0]:
            kept.pop()
        while len(kept) > 1 and _meet(kept[-2], (a, b)) <= _meet(kept[-2], kept[-1]):
            kept.pop()
        kept.append((a, b))
    return tuple(kept)


def _meet(flat: Line, steep: Line) -> float:
    """The size from which on the steeper line is the larger one."""
    return (flat[0] - steep[0]) / (steep[1] - flat[1])


# Bounds.


def lower_bound(size: float, ranks: tuple[int, ...], cluster: Cluster) -> float:
    """No allreduce over these links is faster, redundant computation apart: `bound` for one group."""
    return max((a + b * size for a, b in bound(of_ranks(cluster, (ranks,)))), default=0.0)


def bound(groups: Groups) -> tuple[Line, ...]:
    """Lines below every allreduce of all groups at once that computes nothing redundantly.

    Of the n members of a level that hold ranks of a group, all together send at least 2·size·(n-1) bytes, over links of
    their level or of those around them: no faster than all their links together. Where a rank receives one message a
    round, ⌈lg P⌉ rounds are needed; ⌈log(k+1, n)⌉ of them cross the outermost level, where n members hold k ranks each:
    a member knows at most k + 1 times as many members' values after a round as before. On a flat group this is the
    bound of §4, L·⌈lg P⌉ + 2·size·G·(P-1)/P.
    """
    P = groups.ranks.shape[1]
    steps, spans = (P - 1).bit_length(), groups.spans()
    if not spans:
        return ((0.0, 0.0),)
    least = min(span.latency for span in spans)
    outer = ceil(log(spans[0].members, spans[0].held + 1) - 1e-9)
    found, capacity = list[Line](), 0.0
    for i, span in enumerate(spans):
        capacity += span.capacity
        waits = outer * span.latency + (steps - outer) * least if i == 0 else steps * least
        found.append((waits, 2.0 * groups.count * (span.members - 1) / capacity))
    return upper(found)


def shares_memory(ranks: tuple[int, ...], cluster: Cluster) -> bool:
    """Whether all ranks are CPU devices in one innermost group: then they can map the same memory."""
    return of_ranks(cluster, (ranks,)).in_one_memory
