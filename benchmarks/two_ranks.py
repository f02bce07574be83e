"""Data parallelism on one machine: samples a second of two ranks with one thread each, beside those of one rank.

    python -m benchmarks.two_ranks [--only resnet18] [--batch 16] [--repeats 5] [--steps 10] [--processor]
                                   [--strategy auto,data] [--record]

All programs are emitted by dlc for the same batch with kernels in C, and run by turns, the one rank under mpiexec too;
each run's figure is the median of its steps as the program tells it, the result the medians of the runs. `speedup` is
the time of one rank over that of two, each sample counted once: 2 is all that two cores have. `--strategy` says how the
work may be shared out: as the plan likes (`auto`), which here cuts the channels of the last layers, or by `data` alone.
`--processor` takes the processor's time of the slowest rank in place of the clock's, which other programs disturb less,
but no waiting shows in it. `--record` writes benchmarks/records/two_ranks.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import recording
from benchmarks.peers.networks import NETWORKS, compiled, write_program
from dlc.driver import Compiled
from dlc.launch import launch
from dlc.validation import CLOCK_VARIABLE

RANKS = (1, 2)
PATIENCE = 900.0
"""Seconds that a run may take, in which the kernels may have to be compiled."""


@dataclass(frozen=True, slots=True)
class Row:
    """Milliseconds of a step of one rank and of two, samples a second of both, and what was predicted."""

    network: str
    strategy: str
    batch: int
    one_ms: float
    two_ms: float
    samples_a_second: float
    speedup: float
    predicted_speedup: float
    runs: list[list[float]]


def measured(name: str, strategy: str, batch: int, repeats: int, steps: int, clock: str) -> Row:
    """The programs by turns."""
    network = replace(NETWORKS[name], batch=batch)
    made = {ranks: compiled(network, "c", 1, ranks, strategy) for ranks in RANKS}
    runs: dict[int, list[float]] = {ranks: [] for ranks in RANKS}
    with tempfile.TemporaryDirectory(prefix="dlc-two-ranks-") as temporary:
        for ranks, program in made.items():
            write_program(program, Path(temporary) / str(ranks))
        for turn in range(repeats):
            for ranks in RANKS:
                found = run(Path(temporary) / str(ranks), made[ranks], steps, clock)
                runs[ranks].append(1e3 * float(found["step_seconds"]))
                print(f"  turn {turn + 1}, ranks {ranks}: {runs[ranks][-1]:9.2f} ms a step", flush=True)
    one, two = (median(runs[ranks]) for ranks in RANKS)
    expected = [made[ranks].plan.predicted.step_seconds for ranks in RANKS]
    speedups = one / two, expected[0] / expected[1]
    return Row(name, strategy, batch, one, two, 1e3 * batch / two, *speedups, list(runs.values()))


def run(folder: Path, program: Compiled, steps: int, clock: str) -> dict[str, Any]:
    """What a program says at its end; RuntimeError where it fails."""
    root = program.source.spec.root or "."
    words = ["--root", str(root), "--steps", str(steps), "--json", "--quiet"]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
        status = launch(
            str(folder), program.plan.ranks, words, environment={CLOCK_VARIABLE: clock}, timeout=PATIENCE, output=said
        )
        said.seek(0)
        if status:
            raise RuntimeError(f"the program of {program.plan.ranks} ranks ended with status {status}")
        return dict(json.loads(said.read().splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="resnet18", metavar="NAMES", help=f"some of {', '.join(NETWORKS)}")
    parser.add_argument("--batch", type=int, default=16, help="samples of a step, over all ranks")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each program")
    parser.add_argument("--steps", type=int, default=10, help="steps of a run")
    parser.add_argument("--processor", action="store_true", help="the processor's time in place of the clock's")
    parser.add_argument("--strategy", default="auto", help="auto, data, or both (default: auto)")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    found, clock = [], "processor" if options.processor else ""
    for name, strategy in product(options.only.split(","), options.strategy.split(",")):
        row = measured(name, strategy, options.batch, options.repeats, options.steps, clock)
        found.append(row)
        print(
            f"{name}, batch {row.batch}, strategy {strategy}: one rank {row.one_ms:.2f} ms, two {row.two_ms:.2f} ms,"
            f" {row.samples_a_second:.1f} samples a second, {row.speedup:.2f} times"
            f" (predicted {row.predicted_speedup:.2f})"
        )
    if options.record:
        recording.write("two_ranks", "milliseconds of a training step, medians", rows=recording.table(found))


if __name__ == "__main__":
    main()
