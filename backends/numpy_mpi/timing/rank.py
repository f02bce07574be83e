"""What each rank does that times messages: `python rank.py FOLDER SECONDS`, started by messages.py under mpiexec.

FOLDER has the runtime of emitted programs. Algorithms take turns, round by round, several calls behind a barrier each,
since ranks leave a barrier at different times; the slowest rank counts. Rank 0 prints a line of JSON for each size.
With the runtime of GPUs the operands lie there.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib import import_module
from statistics import median
from typing import Any

SIZES = (256, 4096, 32_768, 262_144, 2_097_152)
"""Bytes of the operand, in values of f32."""

FEWEST, MOST = 5, 200
"""Rounds."""


def main() -> None:
    """Times all sizes, the smallest first."""
    folder, seconds = sys.argv[1], float(sys.argv[2])
    sys.path.insert(0, folder)
    modules = (import_module(f"runtime.{name}") for name in ("collectives", "mpi_world", "device"))
    collectives, mpi_world, device = modules
    world = mpi_world.MpiWorld()
    device.begin(world.rank)
    for size in SIZES:
        cases = _cases(world, device, collectives.ALGORITHMS, size // 4)
        found = _medians(world, cases, 1 + 4_000_000 // (10 * size + 200_000), seconds / len(SIZES))
        if world.rank == 0:
            rows = [(kind, algorithm, taken, spread) for (kind, algorithm), (taken, spread) in found.items()]
            print(json.dumps({"bytes": size, "rows": rows}), flush=True)


def _cases(world: Any, device: Any, algorithms: Any, values: int) -> dict[tuple[str, str], Callable[[], None]]:
    """(kind, algorithm) -> a call."""

    def bucket(name: str, algorithm: str) -> Any:
        made = world.bucket(name, values, "float32", algorithm)
        return made if device.SHARED else device.zeros(values, "float32")

    cases: dict[tuple[str, str], Callable[[], None]] = {}
    for algorithm in algorithms:
        name = f"{algorithm}.{values}"
        made = bucket(name, algorithm)
        cases["allreduce", algorithm] = lambda a=algorithm, b=made, n=name: world.allreduce(b, a, n)  # type: ignore[misc]
    sent, received = (bucket(f"{what}.{values}", "tree") for what in ("sent", "received"))
    behind, before = (world.rank + 1) % world.size, (world.rank - 1) % world.size
    cases["exchange", ""] = lambda: world.exchange(sent, behind, received, before, f"exchange.{values}")
    return cases


def _medians(
    world: Any, cases: dict[tuple[str, str], Callable[[], None]], calls: int, seconds: float
) -> dict[tuple[str, str], tuple[float, float]]:
    """(seconds, spread) of each case, on the slowest rank."""
    samples: dict[tuple[str, str], list[float]] = {name: [] for name in cases}
    began = time.perf_counter()
    for number in range(MOST + 1):
        for name, case in cases.items():
            world.barrier()
            start = time.perf_counter()
            for _ in range(calls):
                case()
            samples[name].append((time.perf_counter() - start) / calls)
        if number == 0:  # warms up
            samples = {name: [] for name in cases}
        elif world.bcast(number >= FEWEST and time.perf_counter() - began > seconds):
            break
    everyone = world.allgather([_middle(values) for values in samples.values()])
    return {name: max(tuple(rank[at]) for rank in everyone) for at, name in enumerate(samples)}


def _middle(values: list[float]) -> tuple[float, float]:
    ordered = sorted(values)
    middle = median(ordered)
    return middle, (ordered[-1 - len(ordered) // 4] - ordered[len(ordered) // 4]) / (2 * middle)


if __name__ == "__main__":
    main()
