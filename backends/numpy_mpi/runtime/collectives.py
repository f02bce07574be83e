"""The sum over all ranks, in place, by the algorithms that a plan can name.

Written over point-to-point messages, for any number of ranks and any length. All ranks end with the same bits, and the
order of the additions depends on the number of ranks and on the element's place only, never on timing: where two ranks
add the same two values they do it in either order, which IEEE addition does not tell apart.

Costs: P ranks, m values of γ bytes, latency L, time per byte G, lg = log2 (T. Ben-Nun, T. Hoefler, ACM Computing
Surveys 2019, section 2.5; R. Thakur, R. Rabenseifner, W. Gropp, IJHPCA 2005).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .world import World

Array = np.ndarray[Any, np.dtype[Any]]

SHARED_CHUNK = 16384
"""Values that a rank sums at a time in a shared window: 64 KiB of float32 stay in the second-level cache."""

_CACHE_LINE = 64  # bytes: slices of a shared window begin on one, so that no two ranks write into the same


def tree(world: World, values: Array, scratch: Array, name: str) -> None:
    """Sums up a binomial tree to rank 0 and sends the result down again: 2⌈lg P⌉(L + γmG). Scratch: m values."""
    span = 1
    while span < world.size:
        if world.rank & span:
            world.send(values, world.rank - span, name)
            break
        if world.rank + span < world.size:
            world.receive(scratch, world.rank + span, name)
            np.add(values, scratch, out=values)
        span *= 2
    broadcast(world, values, 0, name)


def broadcast(world: World, values: Array, root: int, name: str) -> None:
    """The values of `root` on all ranks, down a binomial tree: ⌈lg P⌉(L + γmG)."""
    place = (world.rank - root) % world.size
    span = 1 << (world.size - 1).bit_length()
    while span := span // 2:
        if place % (2 * span) == span:
            world.receive(values, (place - span + root) % world.size, name)
        elif place % (2 * span) == 0 and place + span < world.size:
            world.send(values, (place + span + root) % world.size, name)


def butterfly(world: World, values: Array, scratch: Array, name: str) -> None:
    """Recursive doubling: in each round partners swap all values and add them: lg P·(L + γmG). Scratch: m values.

    Where P is no power of two, folding before and after adds 2(L + γmG).
    """
    core, place = _fold(world, values, scratch, name)
    if place is not None:
        span = 1
        while span < core:
            partner = _unfolded(world.size - core, place ^ span)
            world.exchange(values, partner, scratch, partner, name)
            np.add(values, scratch, out=values)
            span *= 2
    _unfold(world, values, name)


def ring(world: World, values: Array, scratch: Array, name: str) -> None:
    """P chunks go round a ring, once to be summed, once to be spread: 2(P−1)(L + γ(m/P)G). Scratch: ⌈m/P⌉ values."""
    size, rank = world.size, world.rank
    chunks = [values[_bound(len(values), size, i) : _bound(len(values), size, i + 1)] for i in range(size)]
    right, left = (rank + 1) % size, (rank - 1) % size
    for round_ in range(size - 1):
        mine = chunks[(rank - round_ - 1) % size]
        world.exchange(chunks[(rank - round_) % size], right, scratch[: len(mine)], left, name)
        np.add(mine, scratch[: len(mine)], out=mine)
    for round_ in range(size - 1):
        world.exchange(chunks[(rank + 1 - round_) % size], right, chunks[(rank - round_) % size], left, name)


def rabenseifner(world: World, values: Array, scratch: Array, name: str) -> None:
    """Reduce-scatter by halving, allgather by doubling: 2L·lg P + 2γmG(P−1)/P. Scratch: m values (m/2 unfolded).

    Where P is no power of two, folding before and after adds 2(L + γmG).
    """
    core, place = _fold(world, values, scratch, name)
    if place is not None:
        extra = world.size - core
        span = core // 2
        while span:
            kept, given = _halves(values, core, place, span)
            partner = _unfolded(extra, place ^ span)
            world.exchange(given, partner, scratch[: len(kept)], partner, name)
            np.add(kept, scratch[: len(kept)], out=kept)
            span //= 2
        span = 1
        while span < core:
            kept, given = _halves(values, core, place, span)
            partner = _unfolded(extra, place ^ span)
            world.exchange(kept, partner, given, partner, name)
            span *= 2
    _unfold(world, values, name)


def shared(world: World, rows: Array, scratch: Array, name: str) -> None:
    """Reduce-scatter in one memory: each rank sums its slice of all ranks' rows, in rank order, and writes it to each.

    `rows[r]` holds rank r's values, where its gradients were born. Two barriers and m/P values from and to each of P
    rows: 2L·lg P + 2γm/bandwidth, with all ranks at it together. Scratch: SHARED_CHUNK values.
    """
    elements = rows.shape[1]
    align = max(1, _CACHE_LINE // rows.itemsize)
    start, stop = (min(elements, -(-_bound(elements, world.size, world.rank + i) // align) * align) for i in (0, 1))
    world.barrier(name)
    for low in range(start, stop, SHARED_CHUNK):
        columns = rows[:, low : min(low + SHARED_CHUNK, stop)]
        total = scratch[: columns.shape[1]]
        np.add(columns[0], columns[1], out=total)
        for row in columns[2:]:
            np.add(total, row, out=total)
        columns[...] = total
    world.barrier(name)


def mpi(world: World, values: Array, scratch: Array, name: str) -> None:
    """MPI's own Allreduce; the library chooses algorithm and order by length and rank count, the same on every run."""
    world.mpi_allreduce(values, name)


def scratch_elements(algorithm: str, ranks: int, elements: int) -> int:
    """How many values a bucket needs beside its own."""
    if ranks == 1:
        return 0
    sizes = {"ring": -(-elements // ranks), "shared": min(SHARED_CHUNK, elements), "mpi": 0}
    return sizes.get(algorithm, elements)


ALGORITHMS: dict[str, Callable[[World, Array, Array, str], None]] = {
    "tree": tree,
    "butterfly": butterfly,
    "ring": ring,
    "rabenseifner": rabenseifner,
    "shared": shared,
    "mpi": mpi,
}


def _fold(world: World, values: Array, scratch: Array, name: str) -> tuple[int, int | None]:
    """(the largest power of two 2ᵏ ≤ P, this rank's place among these, None where it sits out).

    The first 2(P − 2ᵏ) ranks pair up: the odd one hands its values to the even one.
    """
    core = 1 << (world.size.bit_length() - 1)
    extra = world.size - core
    if world.rank >= 2 * extra:
        return core, world.rank - extra
    if world.rank % 2:
        world.send(values, world.rank - 1, name)
        return core, None
    world.receive(scratch, world.rank + 1, name)
    np.add(values, scratch, out=values)
    return core, world.rank // 2


def _unfold(world: World, values: Array, name: str) -> None:
    """Those that sat out get the result."""
    extra = world.size - (1 << (world.size.bit_length() - 1))
    if world.rank >= 2 * extra:
        return
    if world.rank % 2:
        world.receive(values, world.rank - 1, name)
    else:
        world.send(values, world.rank + 1, name)


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
