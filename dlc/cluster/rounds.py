"""The algorithms of collectives as rounds: who sends what to whom.

A collective is a list of rounds; in a round some ranks of the group send a share of the operand to others, all at once.
Sources: R. Thakur, R. Rabenseifner, W. Gropp, "Optimization of Collective Communication Operations in MPICH" (2005) for
rings, halving and doubling, Bruck's algorithm and the binomial tree; cost-models.md §4 for hierarchical ones. Where
the number of ranks is no power of two, `butterfly` and `rabenseifner` first fold the surplus ranks onto their
neighbours and hand them the result at the end: one full message each (MPICH's rule).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

ALL = -1
"""A pattern over all ranks of the group in their order, not along one digit of their positions."""

MAX_SHIFTS = 128
"""Wired members that an all-to-all goes round pair by pair; for more there are the algorithms of fewer rounds."""

MAX_WIRED_BRUCK = 256
"""Ranks on wires for which Bruck's algorithm is considered: most of its messages go far."""

MAX_LINEAR = 64
"""Ranks of a nested group up to which the plain pairwise exchange is considered: it has a pattern for each rank."""


@dataclass(frozen=True, slots=True)
class Digit:
    """A group's ranks count through the nesting like an odometer: one digit for each level, or dimension of a torus.

    `wired` says that it counts along wires; `alike` that all its values are, as at the ports of one link; `order` lists
    them so that neighbours are near.
    """

    extent: int
    wired: bool = False
    alike: bool = True
    order: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Shape:
    """How a group lies in the cluster: its ranks, and their positions' digits, outermost first, by level and finer.

    Both are () where the nesting is uneven for this group.
    """

    ranks: int
    levels: tuple[Digit, ...] = ()
    digits: tuple[Digit, ...] = ()

    @property
    def wired(self) -> bool:
        """Whether there is a way to lay a ring along wires."""
        return any(digit.wired for digit in self.digits)


@dataclass(frozen=True, slots=True)
class Pattern:
    """Who sends to whom: `kind` is shift (i to i + number), exchange (ranks that differ in bit `number`), up and down
    (a level of a binomial tree with that step), fold, unfold, cycle (round the embedded ring), next (i to i + number,
    not round the end) or both (to both neighbours). `digit` is that of `fine` or `levels` digits, or ALL.
    """

    kind: str
    number: int = 0
    digit: int = ALL
    fine: bool = True


@dataclass(frozen=True, slots=True)
class Round:
    """`times` exchanges of `share` of the operand in one pattern.

    `reduces` where what arrives is added up; `copied` is the share that a rank packs and unpacks besides.
    """

    pattern: Pattern
    share: float
    reduces: bool = False
    times: int = 1
    copied: float = 0.0


Rounds = tuple[Round, ...]

ALGORITHMS: dict[str, tuple[str, ...]] = {
    "allreduce": (
        "tree",
        "butterfly",
        "ring",
        "rabenseifner",
        "hierarchical",
        "hierarchical_ring",
        "hierarchical_halving",
        "embedded_ring",
    ),
    "allgather": ("ring", "doubling", "bruck", "hierarchical", "hierarchical_doubling", "embedded_ring"),
    "reduce_scatter": ("ring", "halving", "bruck", "hierarchical", "hierarchical_halving", "embedded_ring"),
    "all_to_all": ("linear", "pairwise", "bruck", "hierarchical"),
    "broadcast": ("tree",),
}
"""The algorithms of each collective by messages, in the order that breaks ties."""


def rounds(kind: str, algorithm: str, shape: Shape) -> Rounds | None:
    """The rounds of a collective; None where the algorithm is not for groups of that shape.

    ValueError for a collective or algorithm that there is not.
    """
    if algorithm not in ALGORITHMS.get(kind, ()):
        raise ValueError(f"there is no collective {kind!r} by {algorithm!r}")
    if algorithm.startswith("hierarchical") and len(shape.digits) < 2:
        return None
    if algorithm == "embedded_ring" and not shape.wired:
        return None
    if algorithm == "bruck" and shape.wired and shape.ranks > MAX_WIRED_BRUCK:
        return None
    match kind:
        case "allreduce":
            return tuple(_allreduce(algorithm, shape))
        case "allgather":
            return _gather(algorithm, shape)
        case "reduce_scatter":
            found = _gather(algorithm.replace("halving", "doubling"), shape)
            return None if found is None else tuple(_mirrored(found))
        case "all_to_all":
            return _all_to_all(algorithm, shape)
    return tuple(_tree(shape.ranks))


def _allreduce(algorithm: str, shape: Shape) -> Iterator[Round]:
    P = shape.ranks
    match algorithm:
        case "tree":
            down = tuple(_tree(P))
            yield from (Round(Pattern("up", r.pattern.number), 1.0, True) for r in reversed(down))
            yield from down
        case "butterfly":
            yield from _folded(P, [Round(Pattern("exchange", bit), 1.0, True) for bit in range(P.bit_length() - 1)])
        case "rabenseifner":
            yield from _rabenseifner(P, 1.0, ALL)
        case "ring" | "embedded_ring":
            gather = _ring(P, 1.0, ALL, "cycle" if algorithm == "embedded_ring" else "shift")
            yield from (*_mirrored((gather,)), gather)
        case _:
            yield from _hierarchical(algorithm, shape)


def _hierarchical(algorithm: str, shape: Shape) -> Iterator[Round]:
    """Reduce-scatter within the innermost members, and so on outwards; an allreduce of what is left across the
    outermost ones; allgathers back. Rings within, and Rabenseifner's across; or rings everywhere (`_ring`); or halving
    and doubling wherever a digit is a power of two (`_halving`)."""
    last, inner, share = shape.digits[0].extent, list[Round](), 1.0
    for i in range(len(shape.digits) - 1, 0, -1):
        extent = shape.digits[i].extent
        inner[:0] = _gather_along(i, extent, share, algorithm == "hierarchical_halving")
        share /= extent
    ring_across = algorithm == "hierarchical_ring" or (algorithm == "hierarchical_halving" and last & (last - 1))
    yield from _mirrored(inner)
    if ring_across:
        gather = _ring(last, share, 0)
        yield from (*_mirrored((gather,)), gather)
    else:
        yield from _rabenseifner(last, share, 0)
    yield from inner


def _gather(algorithm: str, shape: Shape) -> Rounds | None:
    """An allgather; a reduce-scatter is the same backwards."""
    P = shape.ranks
    match algorithm:
        case "doubling":
            return None if P & (P - 1) else tuple(_doubling(P, 1.0, ALL))
        case "bruck":
            steps = [1 << k for k in range((P - 1).bit_length())]
            return tuple(Round(Pattern("shift", step), min(step, P - step) / P, copied=step / P) for step in steps)
        case "hierarchical" | "hierarchical_doubling":
            found, share = list[Round](), 1.0
            for i in range(len(shape.digits) - 1, -1, -1):
                found[:0] = _gather_along(i, shape.digits[i].extent, share, algorithm == "hierarchical_doubling")
                share /= shape.digits[i].extent
            return tuple(found)
    return (_ring(P, 1.0, ALL, "cycle" if algorithm == "embedded_ring" else "shift"),)


def _gather_along(digit: int, extent: int, share: float, doubling: bool) -> list[Round]:
    """An allgather of `share` of the operand among the ranks that differ in one digit."""
    if doubling and not extent & (extent - 1):
        return list(_doubling(extent, share, digit))
    return [_ring(extent, share, digit)]


def _ring(extent: int, share: float, digit: int, kind: str = "shift") -> Round:
    return Round(Pattern(kind, 1, digit), share / extent, times=extent - 1)


def _doubling(extent: int, share: float, digit: int) -> Iterator[Round]:
    """Nearest first, with as much as it has at each step; the last exchange spans half of the ranks."""
    for bit in range(extent.bit_length() - 1):
        yield Round(Pattern("exchange", bit, digit), share * 2**bit / extent)


def _mirrored(gather: Sequence[Round]) -> Iterator[Round]:
    """The reduce-scatter that undoes an allgather: backwards, and adding up what arrives."""
    for r in reversed(gather):
        yield Round(r.pattern, r.share, True, r.times, r.copied)


def _rabenseifner(P: int, share: float, digit: int) -> Iterator[Round]:
    """Reduce-scatter by halving, furthest first, and allgather by doubling."""
    gather = tuple(_doubling(1 << (P.bit_length() - 1), share, digit))
    yield from _folded(P, [*_mirrored(gather), *gather], share, digit)


def _folded(P: int, inner: list[Round], share: float = 1.0, digit: int = ALL) -> Iterator[Round]:
    """Rounds of a power of two between the two that fold the surplus ranks in and hand them the result."""
    surplus = P - (1 << (P.bit_length() - 1))
    if surplus:
        yield Round(Pattern("fold", 0, digit), share, True)
    yield from inner
    if surplus:
        yield Round(Pattern("unfold", 0, digit), share)


def _tree(P: int) -> Iterator[Round]:
    """From the root of a binomial tree to its leaves: ⌈lg P⌉ levels."""
    for k in reversed(range((P - 1).bit_length())):
        yield Round(Pattern("down", 1 << k), 1.0)


def _all_to_all(algorithm: str, shape: Shape) -> Rounds | None:
    """`linear`: in round k everyone sends to the k-th after it. `pairwise`: the same digit by digit of the nesting, so
    that all messages of a round cross the same level. `hierarchical`: one digit after another, with all that goes
    there. `bruck`: ⌈lg P⌉ rounds, in each of which about half of everything moves on."""
    P = shape.ranks
    match algorithm:
        case "linear":
            apart = P <= MAX_LINEAR and len(shape.levels) != 1  # in one level it is `pairwise`
            return tuple(_shifts(P, ALL, 1 / P**2, 1, False, False)) if apart else None
        case "pairwise" | "hierarchical":
            fine = algorithm == "hierarchical"
            digits = shape.digits if fine else shape.levels
            if not digits or any(not d.alike and d.extent > MAX_SHIFTS for d in digits):
                return None
            found, inner = list[Round](), P
            for i, digit in enumerate(digits):
                inner //= digit.extent
                share, times = (1 / (P * digit.extent), 1) if fine else (1 / P**2, inner)
                found += _shifts(digit.extent, i, share, times, digit.alike, fine)
            return tuple(found)
    moved = [_with_bit(P, k) / P**2 for k in range((P - 1).bit_length())]
    return tuple(Round(Pattern("shift", 1 << k), share, copied=2 * share) for k, share in enumerate(moved))


def _with_bit(P: int, k: int) -> int:
    """How many of the numbers below P have bit k."""
    return (P >> k + 1 << k) + max(0, P % (2 << k) - (1 << k))


def _shifts(extent: int, digit: int, share: float, times: int, alike: bool, fine: bool = True) -> Iterator[Round]:
    """Everyone sends to each other one along a digit, one distance a round; through ports all distances are alike."""
    copied = share if fine and digit > 0 else 0.0  # what arrived by an outer digit is sorted before it goes on
    if alike:
        yield Round(Pattern("shift", 1, digit, fine), share, False, times * (extent - 1), copied)
    else:
        for k in range(1, extent):
            yield Round(Pattern("shift", k, digit, fine), share, False, times, copied)


# Patterns as arrays.


def flows(pattern: Pattern, shape: Shape) -> tuple[Ints, Ints]:
    """(sources, targets) of a pattern's messages: positions in the group."""
    import numpy as np

    if pattern.kind == "cycle":
        order = ring_order(shape)
        return order, np.roll(order, -1)
    if pattern.digit == ALL:
        return _along(pattern, shape.ranks)
    extents = [digit.extent for digit in (shape.digits if pattern.fine else shape.levels)]
    digit = (shape.digits if pattern.fine else shape.levels)[pattern.digit]
    sources, targets = _along(pattern, digit.extent)
    if digit.order and pattern.kind == "shift" and pattern.fine:  # a ring along wires
        order = np.array(digit.order)
        sources, targets = order[sources], order[targets]
    lines = np.moveaxis(np.arange(prod(extents)).reshape(extents), pattern.digit, 0)
    return lines[sources].ravel(), lines[targets].ravel()


def _along(pattern: Pattern, P: int) -> tuple[Ints, Ints]:
    """The messages among P ranks in a row."""
    import numpy as np

    ranks, number = np.arange(P), pattern.number
    surplus = P - (1 << (P.bit_length() - 1))
    match pattern.kind:
        case "shift":
            return ranks, (ranks + number) % P
        case "exchange":
            kept = np.concatenate([ranks[: 2 * surplus : 2], ranks[2 * surplus :]])
            return kept, kept[np.arange(len(kept)) ^ (1 << number)]
        case "up" | "down":
            children = ranks[number :: 2 * number]
            return (children, children - number) if pattern.kind == "up" else (children - number, children)
        case "fold" | "unfold":
            even, odd = ranks[: 2 * surplus : 2], ranks[1 : 2 * surplus : 2]
            return (odd, even) if pattern.kind == "fold" else (even, odd)
        case "next":
            there = ranks + number
            inside = (there >= 0) & (there < P)
            return ranks[inside], there[inside]
    return np.concatenate([ranks[:-1], ranks[1:]]), np.concatenate([ranks[1:], ranks[:-1]])


def ring_order(shape: Shape) -> Ints:
    """The positions of a ring that goes from neighbour to neighbour: digits as in a reflected Gray code, so that one
    digit changes at each step, by one place."""
    import numpy as np

    order = np.zeros(1, dtype=np.int64)
    for digit in reversed(shape.digits):
        values = digit.order or range(digit.extent)
        runs = [value * len(order) + (order[::-1] if i % 2 else order) for i, value in enumerate(values)]
        order = np.concatenate(runs)
    return order
