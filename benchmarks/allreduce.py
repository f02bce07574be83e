"""Every allreduce of the runtime against MPI's own, by size and number of ranks.

    python -m benchmarks.allreduce [--ranks 2,4] [--record]

Starts itself under mpiexec. For each size a table line: the median time of MPI's blocking Allreduce, then for each
algorithm its median and, in brackets, how many times faster than MPI it is. Algorithms take turns, so that what else
the machine does hits all of them. `--record` writes benchmarks/records/allreduce.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from benchmarks import recording

SIZES = (256, 4096, 61_706, 262_144, 4_194_304)  # float32 values: 1 KiB, 16 KiB, LeNet-5's gradients, 1 MiB, 16 MiB
BASELINE = "MPI blocking"
BUDGET_SECONDS = 3.0  # for each size, all algorithms together
FEWEST, MOST = 7, 500  # rounds

Times = dict[str, dict[str, float]]
"""Median seconds by number of values, then by algorithm."""


def main() -> None:
    options = _arguments()
    if options.worker:
        measure()
        return
    found = {str(ranks): start(ranks) for ranks in options.ranks}
    for ranks, times in found.items():
        print_table(int(ranks), times)
    if options.record:
        recording.write("allreduce", "seconds, median", ranks=found)


def start(ranks: int) -> Times:
    """One run under mpiexec; rank 0 prints the medians."""
    from dlc.launch import find_mpiexec

    command = [str(find_mpiexec()), "-n", str(ranks), sys.executable, "-m", "benchmarks.allreduce", "--worker"]
    # MPI's blocking calls do best where they burn the core, unless another rank needs it.
    spare = "0" if ranks <= (os.cpu_count() or 1) else "1"
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "MPIR_CVAR_ENABLE_HEAVY_YIELD": spare}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=600)
    times: Times = json.loads(done.stdout.splitlines()[-1])
    return times


def measure() -> None:
    """What each rank does."""
    from mpi4py import MPI

    from backends.numpy_mpi.runtime.collectives import ALGORITHMS
    from backends.numpy_mpi.runtime.mpi_world import MpiWorld

    world = MpiWorld()
    times: Times = {}
    for size in SIZES:
        cases: dict[str, Callable[[], None]] = {}
        plain = world.bucket("plain", size, "float32", "mpi")
        cases[BASELINE] = lambda plain=plain: MPI.COMM_WORLD.Allreduce(MPI.IN_PLACE, plain)  # type: ignore[misc]
        for algorithm in ALGORITHMS:
            name = f"{algorithm}.{size}"
            bucket = world.bucket(name, size, "float32", algorithm)
            cases[algorithm] = lambda a=algorithm, b=bucket, n=name: world.allreduce(b, a, n)  # type: ignore[misc]
        times[str(size)] = medians(world, MPI.COMM_WORLD.Barrier, cases, calls=1 + 1_000_000 // (10 * size + 50_000))
    if world.rank == 0:
        print(json.dumps(times))


def medians(
    world: Any, barrier: Callable[[], None], cases: dict[str, Callable[[], None]], calls: int
) -> dict[str, float]:
    """Rounds in which each case runs `calls` times behind a barrier, timed until the slowest rank has done them.

    Ranks leave a barrier at different times, hence several calls.
    """
    samples: dict[str, list[float]] = {name: [] for name in cases}
    began = time.perf_counter()
    for round_ in range(MOST + 1):
        for name, case in cases.items():
            barrier()
            start = time.perf_counter()
            for _ in range(calls):
                case()
            samples[name].append((time.perf_counter() - start) / calls)
        if round_ == 0:  # warms up
            samples = {name: [] for name in cases}
        elif world.bcast(round_ >= FEWEST and time.perf_counter() - began > BUDGET_SECONDS):
            break
    slowest = [
        max(times) for times in zip(*world.allgather([median(values) for values in samples.values()]), strict=True)
    ]
    return dict(zip(samples, slowest, strict=True))


def print_table(ranks: int, times: Times) -> None:
    """Microseconds, and the ratio to the baseline."""
    algorithms = [name for name in next(iter(times.values())) if name != BASELINE]
    print(f"\n{ranks} ranks, float32, median microseconds (times faster than MPI's blocking Allreduce)")
    print(f"{'values':>10} {BASELINE:>12}" + "".join(f"{name:>20}" for name in algorithms))
    for size, found in times.items():
        base = found[BASELINE]
        cells = "".join(f"{found[name] * 1e6:13.1f} ({base / found[name]:4.2f})" for name in algorithms)
        print(f"{size:>10} {base * 1e6:12.1f}{cells}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--ranks", type=lambda text: [int(n) for n in text.split(",")], default=[2, 4])
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
