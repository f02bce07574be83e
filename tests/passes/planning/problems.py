"""Small random problems for the solvers of the planner, and what trying every assignment finds."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Problem:
    """A graph of kinds, costs, and bytes of the same options."""

    kinds: list[int]
    edges: list[tuple[int, int, int]]
    unary: list[Array]
    pair: list[Array]
    sizes: list[Array]
    pair_sizes: list[Array]

    def cost(self, values: Sequence[int]) -> float:
        return _sum(self, self.unary, self.pair, values)

    def bytes(self, values: Sequence[int], edges: bool = True) -> float:
        return _sum(self, self.sizes, self.pair_sizes if edges else None, values)

    def assignments(self) -> Iterator[tuple[int, ...]]:
        return product(*(range(len(self.unary[kind])) for kind in self.kinds))


def _sum(problem: Problem, unary: list[Array], pair: list[Array] | None, values: Sequence[int]) -> float:
    found = sum(float(unary[kind][value]) for kind, value in zip(problem.kinds, values, strict=True))
    if pair is not None:
        found += sum(float(pair[kind][values[u], values[v]]) for u, v, kind in problem.edges)
    return found


def graph(rng: random.Random, shape: str, count: int) -> list[tuple[int, int]]:
    """Pairs (u, v), u < v, of about `count` variables, without parallel ones."""
    match shape:
        case "chain":
            return [(i, i + 1) for i in range(count - 1)]
        case "diamonds":
            pairs = []
            for i in range(0, count - 3, 3):
                pairs += [(i, i + 1), (i, i + 2), (i + 1, i + 3), (i + 2, i + 3)]
                pairs += [(i, i + 3)] if rng.random() < 0.5 else []
            return pairs
        case "tree":
            return [(rng.randrange(i), i) for i in range(1, count)]
        case "complete":
            return [(i, j) for j in range(count) for i in range(j)]
        case _:
            every = [(i, j) for j in range(count) for i in range(j)]
            return rng.sample(every, min(len(every), rng.randint(0, 2 * count)))


SHAPES = ("chain", "diamonds", "tree", "complete", "random")


def random_problem(
    rng: random.Random, shape: str, count: int, values: int, kinds: int = 3, infinite: float = 0.0, ties: bool = False
) -> Problem:
    """Variables of a few kinds, edges of up to two kinds between each two of these, some of them parallel."""
    of = [rng.randrange(kinds) for _ in range(count)]
    numbers: dict[tuple[int, int, int], int] = {}
    edges = []
    for u, v in graph(rng, shape, count):
        if rng.random() < 0.3:
            u, v = v, u
        between = [(of[u], of[v], rng.randrange(2)) for _ in range(rng.choice((1, 1, 1, 2)))]
        edges += [(u, v, numbers.setdefault(ends, len(numbers))) for ends in between]
    many = [rng.randint(1, values) for _ in range(kinds)]
    draw = np.random.default_rng(rng.randrange(2**30))

    def table(*shape: int) -> Array:
        found = draw.integers(0, 4, shape).astype(float) if ties else draw.random(shape)
        found[draw.random(shape) < infinite] = np.inf
        return found

    ends = [(a, b) for a, b, _ in numbers]
    return Problem(
        of,
        edges,
        [table(size) for size in many],
        [table(many[a], many[b]) for a, b in ends],
        [draw.integers(0, 9, size).astype(float) for size in many],
        [draw.integers(0, 5, (many[a], many[b])).astype(float) for a, b in ends],
    )


def several(seed: int, count: int, values: int, most: int, **options: Any) -> Iterator[Problem]:
    """`count` problems of all shapes with up to `most` variables of up to `values` values."""
    rng = random.Random(seed)
    for i in range(count):
        infinite = rng.choice((0.0, 0.0, 0.1, 0.4))
        yield random_problem(
            rng,
            SHAPES[i % len(SHAPES)],
            rng.randint(1, most),
            rng.randint(2, values),
            rng.randint(1, 4),
            infinite,
            rng.random() < 0.4,
            **options,
        )
