"""The sum over all ranks, in place, by the algorithms that a plan can name.

Each is a generator of steps: messages that a rank sends and receives at once. Who runs it delivers a step's messages
before it asks for the next, one step after the other or between other work. Any number of ranks and any length will do.
All ranks end with the same bits, and the order of the additions depends on the number of ranks and on the element's
place only, never on timing: where two ranks add the same two values they do it in either order, which IEEE addition
does not tell apart.

Costs: P ranks, m values of γ bytes, latency L, time per byte G, lg = log2 (T. Ben-Nun, T. Hoefler, ACM Computing
Surveys 2019, section 2.5; R. Thakur, R. Rabenseifner, W. Gropp, IJHPCA 2005).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any, NamedTuple, Protocol

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

SHARED_CHUNK = 16384
"""Values that a rank sums at a time in a shared window: 64 KiB of float32 stay in the second-level cache."""

_CACHE_LINE = 64  # bytes: slices of a shared window begin on one, so that no two ranks write into the same


class Step(NamedTuple):
    """What a rank sends and what it receives, at once; None where it does not. `request` is a library's own.

    `more` are further messages at the same time.
    """

    sent: Array | None = None
    to: int = -1
    received: Array | None = None
    source: int = -1
    request: Any = None
    more: tuple[Step, ...] = ()


Steps = Iterator[Step]


class Ranks(Protocol):
    """A rank among the others."""

    rank: int
    size: int

    def meeting(self) -> Steps:
        """Steps behind which all ranks have come here, and see what each has written to shared memory."""

    def library(self, values: Array) -> Steps:
        """The sum by the message library's own algorithm."""


def tree(ranks: Ranks, values: Array, scratch: Array) -> Steps:
    """Sums up a binomial tree to rank 0 and sends the result down again: 2⌈lg P⌉(L + γmG). Scratch: m values."""
    span = 1
    while span < ranks.size:
        if ranks.rank & span:
            yield Step(values, ranks.rank - span)
            break
        if ranks.rank + span < ranks.size:
            yield Step(received=scratch, source=ranks.rank + span)
            np.add(values, scratch, out=values)
        span *= 2
    yield from broadcast(ranks.rank, ranks.size, values, 0)


def broadcast(rank: int, size: int, values: Array, root: int) -> Steps:
    """The values of `root` on all ranks, down a binomial tree: ⌈lg P⌉(L + γmG)."""
    place = (rank - root) % size
    span = 1 << (size - 1).bit_length()
    while span := span // 2:
        if place % (2 * span) == span:
            yield Step(received=values, source=(place - span + root) % size)
        elif place % (2 * span) == 0 and place + span < size:
            yield Step(values, (place + span + root) % size)


def butterfly(ranks: Ranks, values: Array, scratch: Array) -> Steps:
    """Recursive doubling: in each round partners swap all values and add them: lg P·(L + γmG). Scratch: m values.

    Where P is no power of two, folding before and after adds 2(L + γmG).
    """
    core, place = _core(ranks.rank, ranks.size)
    yield from _fold(ranks.rank, ranks.size, values, scratch)
    if place is not None:
        span = 1
        while span < core:
            partner = _unfolded(ranks.size - core, place ^ span)
            yield Step(values, partner, scratch, partner)
            np.add(values, scratch, out=values)
            span *= 2
    yield from _unfold(ranks.rank, ranks.size, values)


def ring(ranks: Ranks, values: Array, scratch: Array) -> Steps:
    """P chunks go round a ring, once to be summed, once to be spread: 2(P−1)(L + γ(m/P)G). Scratch: ⌈m/P⌉ values."""
    chunks = _chunks(values, ranks.size)
    yield from _ring_down(ranks.rank, chunks, scratch)
    yield from _ring_up(ranks.rank, chunks)


def rabenseifner(ranks: Ranks, values: Array, scratch: Array) -> Steps:
    """Reduce-scatter by halving, allgather by doubling: 2L·lg P + 2γmG(P−1)/P. Scratch: m values (m/2 unfolded).

    Where P is no power of two, folding before and after adds 2(L + γmG).
    """
    yield from _rabenseifner(ranks.rank, ranks.size, values, scratch)


def shared(ranks: Ranks, rows: Array, scratch: Array) -> Steps:
    """Reduce-scatter in one memory: each rank sums its slice of all ranks' rows, in rank order, and writes it to each.

    `rows[r]` holds rank r's values, where its gradients were born. Two barriers and m/P values from and to each of P
    rows: 2L·lg P + 2γm/bandwidth, with all ranks at it together. Scratch: SHARED_CHUNK values.
    """
    elements = rows.shape[1]
    align = max(1, _CACHE_LINE // rows.itemsize)
    start, stop = (min(elements, -(-_bound(elements, ranks.size, ranks.rank + i) // align) * align) for i in (0, 1))
    yield from ranks.meeting()
    for low in range(start, stop, SHARED_CHUNK):
        columns = rows[:, low : min(low + SHARED_CHUNK, stop)]
        total = scratch[: columns.shape[1]]
        np.add(columns[0], columns[1], out=total)
        for row in columns[2:]:
            np.add(total, row, out=total)
        columns[...] = total
    yield from ranks.meeting()


def mpi(ranks: Ranks, values: Array, scratch: Array) -> Steps:
    """MPI's own Allreduce; the library chooses algorithm and order by length and rank count, the same on every run."""
    yield from ranks.library(values)


HIERARCHICAL = {
    "hierarchical": (False, False),
    "hierarchical_ring": (False, True),
    "hierarchical_halving": (True, True),
}
"""Algorithm -> whether members of a level halve and double where they are a power of two (else it is a ring), and
whether the outermost ones that do not go round a ring (else it is Rabenseifner's)."""


def hierarchical(
    rank: int, levels: Sequence[int], values: Array, scratch: Array, halving: bool, ring_across: bool
) -> Steps:
    """A reduce-scatter within each level, an allreduce of what is left across the outermost one, allgathers back.

    Ranks count through the `levels` like an odometer, outermost first: with (4, 8) every 8 share a node. Each level
    takes on a part of the values of the one within it, so that of m values m/8 cross nodes. Scratch: m values.
    """
    *outer, extent = levels
    halves = halving and not extent & (extent - 1)
    if not outer:
        if ring_across and not halves:
            chunks = _chunks(values, extent)
            yield from _ring_down(rank, chunks, scratch)
            yield from _ring_up(rank, chunks)
        else:
            yield from _rabenseifner(rank, extent, values, scratch)
        return
    place = rank % extent
    within, across = range(rank - place, rank - place + extent), range(place, prod(levels), extent)
    chunks = _chunks(values, extent)
    own = chunks[place if halves else (place + 1) % extent]
    down = _halving(place, extent, values, scratch) if halves else _ring_down(place, chunks, scratch)
    yield from _of(down, within)
    steps = hierarchical(rank // extent, outer, own, scratch[: len(own)], halving, ring_across)
    yield from _of(steps, across)
    yield from _of(_doubling(place, extent, values) if halves else _ring_up(place, chunks), within)


def _of(steps: Steps, ranks: Sequence[int]) -> Steps:
    """Steps among some ranks, which they number from 0."""
    for step in steps:
        yield Step(step.sent, ranks[step.to], step.received, ranks[step.source], step.request, step.more)


def _chunks(values: Array, parts: int) -> list[Array]:
    return [values[_bound(len(values), parts, i) : _bound(len(values), parts, i + 1)] for i in range(parts)]


def _ring_down(rank: int, chunks: list[Array], scratch: Array) -> Steps:
    """Each chunk goes once round and is summed; this rank ends with the chunk behind its own number."""
    size = len(chunks)
    right, left = (rank + 1) % size, (rank - 1) % size
    for round_ in range(size - 1):
        mine = chunks[(rank - round_ - 1) % size]
        yield Step(chunks[(rank - round_) % size], right, scratch[: len(mine)], left)
        np.add(mine, scratch[: len(mine)], out=mine)


def _ring_up(rank: int, chunks: list[Array]) -> Steps:
    """Each summed chunk goes once round."""
    size = len(chunks)
    right, left = (rank + 1) % size, (rank - 1) % size
    for round_ in range(size - 1):
        yield Step(chunks[(rank + 1 - round_) % size], right, chunks[(rank - round_) % size], left)


def _rabenseifner(rank: int, size: int, values: Array, scratch: Array) -> Steps:
    core, place = _core(rank, size)
    yield from _fold(rank, size, values, scratch)
    if place is not None:
        ranks = [_unfolded(size - core, at) for at in range(core)]
        yield from _of(_halving(place, core, values, scratch), ranks)
        yield from _of(_doubling(place, core, values), ranks)
    yield from _unfold(rank, size, values)


def _halving(place: int, size: int, values: Array, scratch: Array) -> Steps:
    """A reduce-scatter among a power of two of ranks, furthest first; this rank ends with the chunk of its number."""
    span = size // 2
    while span:
        kept, given = _halves(values, size, place, span)
        yield Step(given, place ^ span, scratch[: len(kept)], place ^ span)
        np.add(kept, scratch[: len(kept)], out=kept)
        span //= 2


def _doubling(place: int, size: int, values: Array) -> Steps:
    """The allgather that undoes it."""
    span = 1
    while span < size:
        kept, given = _halves(values, size, place, span)
        yield Step(kept, place ^ span, given, place ^ span)
        span *= 2


def scratch_elements(algorithm: str, ranks: int, elements: int) -> int:
    """How many values a bucket needs beside its own."""
    if ranks == 1:
        return 0
    sizes = {"ring": -(-elements // ranks), "shared": min(SHARED_CHUNK, elements), "mpi": 0}
    return sizes.get(algorithm, elements)


ALGORITHMS: dict[str, Callable[[Ranks, Array, Array], Steps]] = {
    "tree": tree,
    "butterfly": butterfly,
    "ring": ring,
    "rabenseifner": rabenseifner,
    "shared": shared,
    "mpi": mpi,
}


def _core(rank: int, size: int) -> tuple[int, int | None]:
    """(the largest power of two 2ᵏ ≤ P, this rank's place among these, None where it sits out).

    The first 2(P − 2ᵏ) ranks pair up: the odd one hands its values to the even one.
    """
    core = 1 << (size.bit_length() - 1)
    extra = size - core
    if rank >= 2 * extra:
        return core, rank - extra
    return core, None if rank % 2 else rank // 2


def _fold(rank: int, size: int, values: Array, scratch: Array) -> Steps:
    """Those that sit out hand over their values."""
    if rank >= 2 * (size - (1 << (size.bit_length() - 1))):
        return
    if rank % 2:
        yield Step(values, rank - 1)
    else:
        yield Step(received=scratch, source=rank + 1)
        np.add(values, scratch, out=values)


def _unfold(rank: int, size: int, values: Array) -> Steps:
    """Those that sat out get the result."""
    if rank >= 2 * (size - (1 << (size.bit_length() - 1))):
        return
    if rank % 2:
        yield Step(received=values, source=rank - 1)
    else:
        yield Step(values, rank + 1)


def _unfolded(extra: int, place: int) -> int:
    """The rank at a place among the power of two that goes on."""
    return 2 * place if place < extra else place + extra


def _halves(values: Array, core: int, place: int, span: int) -> tuple[Array, Array]:
    """(own half, the partner's half) of the 2·span chunks that the pair at distance `span` shares."""
    first = place // (2 * span) * (2 * span)
    low, middle, high = (_bound(len(values), core, first + i * span) for i in (0, 1, 2))
    lower, upper = values[low:middle], values[middle:high]
    return (upper, lower) if place & span else (lower, upper)


def _bound(elements: int, parts: int, index: int) -> int:
    """Where part `index` of `parts` begins; parts differ by at most one element, and may be empty."""
    return elements * index // parts
