"""The planner's exact solver on repeated blocks, against itself without sharing them, and HiGHS.

    python -m benchmarks.elimination [--repeats 5] [--peers 60] [--record]

Networks are graphs of operators only, with drawn costs: a GPT of 96 blocks with 24 ops each, a residual network of
1,000 layers (500 blocks of two convolutions), and a residual network of 16 blocks that HiGHS can solve. Without sharing
each variable and edge is of a kind of its own. All take turns and must find the same cost. A peer that is expected to
take longer than `--peers` seconds is left out, by its time on the next smaller network. Memory limits lie between the
least bytes and those of the cheapest plan.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from statistics import median

import numpy as np
from numpy.typing import NDArray

from benchmarks import recording
from passes.planning.criteria import Within, criteria
from passes.planning.elimination import minimise, structure
from passes.planning.limited import least_bytes, minimise_limited
from passes.planning.milp import solve_with_highs
from passes.planning.structure import Structure

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Network:
    """Kinds of variables, edges with their kinds, and tables."""

    name: str
    kinds: list[int]
    edges: list[tuple[int, int, int]]
    unary: list[Array]
    pair: list[Array]
    sizes: list[Array]


@dataclass(frozen=True, slots=True)
class Row:
    network: str
    variables: int
    edges: int
    values: int
    steps: int
    structure: float
    minimise: float
    limited: float
    gap: float
    apart: float | None
    highs: float | None


def repeated(name: str, blocks: int, lines: list[list[int]], stages: int, values: int) -> Network:
    """Blocks in a row, each of parts in a row: from the part's input to its output along one or two lines of ops.

    `lines[i]` holds how many ops stand on each line of part i; a line of none is a residual connection.
    """
    kinds, edges, numbers = [0], list[tuple[int, int, int]](), dict[tuple[int, int], int]()

    def follow(before: int, kind: int) -> int:
        kinds.append(kind)
        edge(before, len(kinds) - 1)
        return len(kinds) - 1

    def edge(u: int, v: int) -> None:
        edges.append((u, v, numbers.setdefault((kinds[u], kinds[v]), len(numbers))))

    at = 0
    for block in range(blocks):
        kind = 1 + block * stages // blocks * (1 + sum(1 + sum(part) for part in lines))
        for part in lines:
            ends = []
            for count in part:
                end = at
                for _ in range(count):
                    end, kind = follow(end, kind), kind + 1
                ends.append(end)
            at, kind = follow(ends[0], kind), kind + 1
            for end in ends[1:]:
                edge(end, at)
    draw = np.random.default_rng(0)
    degree, family = draw.integers(0, 7, values), draw.integers(0, 4, values)
    apart = 0.3 * (family[:, None] != family) + 0.1 * np.abs(degree[:, None] - degree)
    unary = [draw.uniform(0.2, 3) * (1 + 0.15 * degree + 0.1 * draw.random(values)) for _ in range(max(kinds) + 1)]
    sizes = [np.round(draw.uniform(0.1, 1) * 1e9 / 2.0**degree) for _ in unary]
    return Network(name, kinds, edges, unary, [draw.uniform(0.1, 2) * apart for _ in numbers], sizes)


def networks() -> list[Network]:
    attention = [[3], [2, 2, 2], [3, 0], [9, 0]]
    return [
        repeated("residual, 16 blocks, 6 values", 16, [[4, 0]], 4, 6),
        repeated("residual, 16 blocks, 40 values", 16, [[4, 0]], 4, 40),
        repeated("GPT, 96 blocks, 40 values", 96, attention, 1, 40),
        repeated("GPT, 96 blocks, 100 values", 96, attention, 1, 100),
        repeated("residual, 1,000 layers, 40 values", 500, [[6, 0]], 3, 40),
    ]


def timed(run: Callable[[], float], repeats: int) -> tuple[float, float]:
    """(median seconds, the result)."""
    times, result = [], 0.0
    for _ in range(repeats):
        begin = time.perf_counter()
        result = run()
        times.append(time.perf_counter() - begin)
    return median(times), result


def measure(network: Network, repeats: int, peers: float) -> Row:
    found = structure(network.kinds, network.edges)
    built, _ = timed(lambda: float(structure(network.kinds, network.edges).steps), repeats)
    seconds, cost = timed(lambda: minimise(found, network.unary, network.pair).cost, repeats)
    limit = _limit(network, found)
    gap = 0.0

    def within() -> float:
        nonlocal gap
        best = minimise_limited(found, network.unary, network.pair, network.sizes, limit, gap=0.001)
        assert best is not None
        gap = 1.0 - best.bound / best.cost
        return best.cost

    limited, _ = timed(within, repeats)
    tables = sum(network.pair[kind].size for _, _, kind in network.edges)
    apart = timed(lambda: _apart(network), 1) if tables * 2e-7 < peers else None
    by_highs = timed(lambda: _highs(network, found), 1) if tables * 1e-3 < peers else None
    for peer in (apart, by_highs):
        assert peer is None or abs(peer[1] - cost) <= 1e-6 * cost, (peer, cost)
    return Row(
        network.name,
        len(network.kinds),
        len(network.edges),
        len(network.unary[0]),
        found.steps,
        built,
        seconds,
        limited,
        gap,
        apart and apart[0],
        by_highs and by_highs[0],
    )


def _limit(network: Network, found: Structure) -> float:
    cheapest = minimise(found, network.unary, network.pair).values
    most = float(sum(network.sizes[kind][value] for kind, value in zip(network.kinds, cheapest, strict=True)))
    fewest = least_bytes(found, network.unary, network.pair, network.sizes)
    assert fewest is not None
    return fewest.bytes + 0.4 * (most - fewest.bytes)


def _apart(network: Network) -> float:
    """Structure and solution, no two variables or edges alike."""
    edges = [(u, v, number) for number, (u, v, _) in enumerate(network.edges)]
    unary = [network.unary[kind] for kind in network.kinds]
    return minimise(structure(range(len(unary)), edges), unary, [network.pair[kind] for *_, kind in network.edges]).cost


def _highs(network: Network, found: Structure) -> float:
    """Without a limit: nothing counts as bytes."""
    no_bytes = [0 * table for table in network.unary], [0 * table for table in network.pair]
    both = criteria(found, (network.unary, network.pair), no_bytes)
    solved = solve_with_highs(both, Within(1.0), 1e-9, inf)
    assert solved.values is not None
    return both.both(solved.values)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peers", type=float, default=60, help="leave out peers expected to take more seconds")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    head = ("network", "variables", "steps", "structure", "minimise", "limited", "gap", "apart", "HiGHS")
    print(f"{head[0]:34}" + "".join(f"{name:>12}" for name in head[1:]))
    rows = []
    for network in networks():
        row = measure(network, options.repeats, options.peers)
        rows.append(row)
        times = [row.structure, row.minimise, row.limited]
        print(
            f"{row.network:34}{row.variables:12}{row.steps:12}"
            + "".join(f"{seconds * 1e3:10.1f}ms" for seconds in times)
            + f"{row.gap:12.3%}"
            + "".join(f"{'-':>12}" if peer is None else f"{peer * 1e3:10.1f}ms" for peer in (row.apart, row.highs)),
            flush=True,
        )
    if options.record:
        recording.write("elimination", "seconds", repeats=options.repeats, rows=recording.table(rows))


if __name__ == "__main__":
    main()
