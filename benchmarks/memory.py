"""What emitted programs take of memory: predicted, grown by, base; and how tightly their arrays are packed.

    python -m benchmarks.memory [--only lenet5,resnet18] [--kernels c,numpy] [--steps 4] [--record]

Each network of benchmarks.cpu_vs_pytorch on one rank, and the same placed without running: `predicted` is the plan's
peak, `grown` what the process really grew by at the peak of some steps, `base` what it had before without its arrays,
`live` the bytes that are in use at once at the worst instruction of a step, below which no placement comes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import recording
from benchmarks.peers.networks import NETWORKS, SPECS, compiled, write_program
from dlc.cost.liveness import live
from dlc.driver import Compiled

ENTRIES = ("train_step", "eval_step", "predict")


@dataclass(frozen=True, slots=True)
class Row:
    """Bytes of one network's process with kernels of one family."""

    network: str
    kernels: str
    predicted: int
    grown: int
    base: int
    live: int

    @property
    def error(self) -> float:
        """How far the growth is from what was predicted."""
        return self.grown / self.predicted - 1

    @property
    def packing(self) -> float:
        """The bytes that arrays are placed in to those in use at once."""
        return self.predicted / self.live


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(NETWORKS))
    parser.add_argument("--kernels", default="c,numpy")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    titles = ("predicted", "grown", "error", "base", "live", "packing")
    print(f"{'network':12} {'kernels':7} " + " ".join(map("{:>10}".format, titles)))
    rows = []
    for name in options.only.split(","):
        for family in options.kernels.split(","):
            row = measured(name, family, options.steps)
            rows.append(row)
            figures = [f"{size / 1e6:7.1f} MB" for size in (row.predicted, row.grown, row.base, row.live)]
            figures[2:2], figures[5:] = [f"{row.error:+10.1%}"], [f"{row.packing:10.3f}"]
            print(f"{row.network:12} {row.kernels:7} {' '.join(figures)}", flush=True)
    if options.record:
        told = [{**asdict(row), "error": round(row.error, 4), "packing": round(row.packing, 4)} for row in rows]
        recording.write("memory", "bytes", rows=told)


def measured(name: str, family: str, steps: int) -> Row:
    """Compile, run, read what the program says."""
    made = compiled(NETWORKS[name], family, 1)
    with tempfile.TemporaryDirectory(prefix="dlc-memory-") as scratch:
        write_program(made, Path(scratch) / "program")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        words = [sys.executable, "-I", f"{scratch}/program/train.py", "--root", str(SPECS), "--steps", str(steps)]
        done = subprocess.run(
            [*words, "--profile", "--json"], env=environment, capture_output=True, text=True, check=True
        )
    memory = json.loads(done.stdout.splitlines()[-1])["memory"]
    return Row(name, family, made.plan.predicted.peak_bytes, memory["grown"], memory["base"], most_live(made))


def most_live(made: Compiled) -> int:
    """The bytes in use at once at the worst instruction, on the rank that has most."""
    return max(
        point.total
        for role in made.program.roles
        for entry in ENTRIES
        if (point := live(role, entry, role.largest_shard).peak) is not None
    )


if __name__ == "__main__":
    main()
