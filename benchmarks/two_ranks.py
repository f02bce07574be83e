"""Two ranks on one machine: samples a second of two ranks with one thread each, beside those of one, and the roof.

    python -m benchmarks.two_ranks [--only resnet18] [--batch 16] [--repeats 5] [--steps 10] [--processor]
                                   [--strategy auto,data] [--record]

All programs are emitted by dlc with kernels in C and run by turns; each run's figure is the median of its steps as the
program tells it, the result the medians of the runs. `speedup` is the time of one rank over that of two, each sample
counted once. What two cores can give is measured too: one rank with half of the batch, `alone`, and two such programs
at once that say nothing to each other, `side by side`. So

    speedup = 2 · (one / 2 alone) · (alone / side by side) · (side by side / two)

by what half a batch costs more for each sample, by what the cores take from each other (memory, caches, clock), and by
what the ranks say, wait and do twice; the first three make the `roof`. A plan that shares out more than samples may be
above it. `--strategy` says how the work may be shared out: as the plan likes (`auto`), which here cuts the channels of
the last layers, or by `data` alone. Only a machine that does nothing else shows it: for what one rank loses to another
program the other rank waits. `--processor` takes rank 0's processor time in place of the clock's, which others disturb
less, but no waiting shows in it. `--record` writes benchmarks/records/two_ranks.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import recording
from benchmarks.peers.networks import NETWORKS, compiled, write_program
from dlc.driver import Compiled
from dlc.launch import launch
from dlc.validation import CLOCK_VARIABLE

PATIENCE = 900.0
"""Seconds that a run may take, in which the kernels may have to be compiled."""

ALONE, SIDE_BY_SIDE = "alone", "side by side"


@dataclass(frozen=True, slots=True)
class Row:
    """Milliseconds of a step, samples a second of two ranks, and what was predicted.

    `alone_ms` is that of one rank with half of the batch, `side_ms` the slower one of two of these at once, `roof` the
    speed-up if two ranks took as long as that.
    """

    network: str
    strategy: str
    batch: int
    one_ms: float
    two_ms: float
    alone_ms: float
    side_ms: float
    samples_a_second: float
    speedup: float
    roof: float
    predicted_speedup: float
    runs: dict[str, list[float]]

    def told(self) -> str:
        """The row as text, with the speed-up taken apart."""
        half, beside = self.one_ms / (2 * self.alone_ms), self.alone_ms / self.side_ms
        return (
            f"{self.network}, batch {self.batch}, strategy {self.strategy}: one rank {self.one_ms:.2f} ms, two"
            f" {self.two_ms:.2f} ms, {self.samples_a_second:.1f} samples a second, {self.speedup:.2f} times"
            f" (predicted {self.predicted_speedup:.2f})\n"
            f"  roof {self.roof:.2f}: half the batch {self.alone_ms:.2f} ms ({half:.3f}), two such programs side by"
            f" side {self.side_ms:.2f} ms ({beside:.3f}); of the roof {self.speedup / self.roof:.3f}"
        )


def measured(network: str, strategies: list[str], batch: int, repeats: int, steps: int, clock: str) -> Iterator[Row]:
    """The programs by turns; a row for each strategy, all with the same one rank and the same roof."""
    whole, half = (replace(NETWORKS[network], batch=samples) for samples in (batch, batch // 2))
    made = {"one": compiled(whole, "c", 1), ALONE: compiled(half, "c", 1)}
    made |= {strategy: compiled(whole, "c", 1, 2, strategy) for strategy in strategies}
    runs: dict[str, list[float]] = {program: [] for program in (*made, SIDE_BY_SIDE)}
    with tempfile.TemporaryDirectory(prefix="dlc-two-ranks-") as temporary:
        folders = {program: Path(temporary) / program for program in made}
        for program, folder in folders.items():
            write_program(made[program], folder)
            seconds(folder, made[program], 1, clock)  # the kernels are compiled
        for turn in range(repeats):
            for program, taken in runs.items():
                beside = program == SIDE_BY_SIDE
                known = ALONE if beside else program
                taken.append(1e3 * seconds(folders[known], made[known], steps, clock, at_once=1 + beside))
                print(f"  turn {turn + 1}, {program}: {taken[-1]:9.2f} ms a step", flush=True)
    result = {program: median(taken) for program, taken in runs.items()}
    one, alone, side = result["one"], result[ALONE], result[SIDE_BY_SIDE]
    expected = {program: each.plan.predicted.step_seconds for program, each in made.items()}
    for strategy in strategies:
        two = result[strategy]
        kept = {name: taken for name, taken in runs.items() if name not in strategies} | {"two": runs[strategy]}
        speedups = one / two, one / side, expected["one"] / expected[strategy]
        yield Row(network, strategy, batch, one, two, alone, side, 1e3 * batch / two, *speedups, kept)


def seconds(folder: Path, program: Compiled, steps: int, clock: str, at_once: int = 1) -> float:
    """Of a step of a program, or of the slowest of so many at once."""
    with ThreadPoolExecutor(at_once) as pool:
        begun = [pool.submit(run, folder, program, steps, clock) for _ in range(at_once)]
        return max(float(each.result()["step_seconds"]) for each in begun)


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
    parser.add_argument("--batch", type=int, default=16, help="samples of a step, over all ranks; even")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each program")
    parser.add_argument("--steps", type=int, default=10, help="steps of a run")
    parser.add_argument("--processor", action="store_true", help="the processor's time in place of the clock's")
    parser.add_argument("--strategy", default="auto", help="auto, data, or both (default: auto)")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    found, clock = list[Row](), "processor" if options.processor else ""
    for name in options.only.split(","):
        strategies = options.strategy.split(",")
        for row in measured(name, strategies, options.batch, options.repeats, options.steps, clock):
            found.append(row)
            print(row.told(), flush=True)
    if options.record:
        recording.write("two_ranks", "milliseconds of a training step, medians", rows=recording.table(found))


if __name__ == "__main__":
    main()
