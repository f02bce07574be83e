"""Steps of several microbatches whose weights are packed once, beside the same that pack them in each call.

    python -m benchmarks.packed_weights [--only resnet18,mlp] [--rounds 9] [--threads 1] [--record]

Both programs are emitted, kept alive and given turns step by step; the figures are medians, of the clock and of the
processor, their ratio that of the processor's. `packed` is what the packs take of memory, `grows` by how much more the
arrays of a process are then: what calls find packed they need not work in.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks import recording
from benchmarks.peers.networks import Network, compiled, write_program
from benchmarks.peers.ways import Turn, Way, dlc_way
from dlc.cost.memory import peak_bytes
from dlc.cost.price import default_price
from dlc.cost.timeline import makespan
from dlc.driver import Compiled
from dlc.ir.storage import Storage

MICROBATCHES = 4
NETWORKS = {
    "resnet18": Network("resnet18", 8, {"group": 2}),
    "vgg16": Network("vgg16", 4),
    "mlp": Network("mlp", 128, {"hidden": 4096}),
}
"""Name -> a network and its whole batch, of which each microbatch has a quarter."""


@dataclass(frozen=True, slots=True)
class Row:
    """Milliseconds of a step and bytes; `ratio` is that of the processor's time, `predicted` that of the plans'."""

    network: str
    packed_ms: float
    each_ms: float
    packed_cpu_ms: float
    each_cpu_ms: float
    ratio: float
    predicted: float
    packed: int
    grows: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(NETWORKS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    titles = ("once", "each", "once cpu", "each cpu")
    print(f"{'network':10} " + " ".join(f"{title:>11}" for title in titles) + "  ratio  predicted   packed    grows")
    rows = []
    for name in options.only.split(","):
        row = measured(name, options.rounds, options.threads)
        rows.append(row)
        times = (row.packed_ms, row.each_ms, row.packed_cpu_ms, row.each_cpu_ms)
        sizes = " ".join(f"{size / 1e6:5.1f} MB" for size in (row.packed, row.grows))
        text = " ".join(f"{each:8.1f} ms" for each in times)
        print(f"{name:10} {text}  {row.ratio:5.3f}  {row.predicted:9.3f} {sizes}", flush=True)
    if options.record:
        recording.write("packed_weights", "ms", threads=options.threads, rows=recording.table(rows))


def measured(name: str, rounds: int, threads: int) -> Row:
    """Both programs of a network, in turns."""
    made = {
        pack: compiled(NETWORKS[name], "c", threads, microbatches=MICROBATCHES, pack=pack) for pack in ("yes", "no")
    }
    with tempfile.TemporaryDirectory(prefix="dlc-packed-") as scratch:
        ways: dict[str, Way] = {}
        for pack, each in made.items():
            folder = Path(scratch, pack, "program")
            write_program(each, folder)
            ways[pack] = dlc_way(pack, folder, each, threads)
        try:
            for way in ways.values():
                way.step()  # the first one compiles
            turns: dict[str, list[Turn]] = {pack: [] for pack in ways}
            for _ in range(rounds):
                for pack, way in ways.items():
                    turns[pack].append(way.step())
        finally:
            for way in ways.values():
                way.close()
    losses = [[turn.loss for turn in turns[pack]] for pack in ways]
    assert losses[0] == losses[1], "the two programs compute different numbers"
    wall, cpu = (
        {pack: 1e3 * median(getattr(turn, of) for turn in turns[pack]) for pack in ways} for of in ("wall", "cpu")
    )
    predicted = simulated(made["yes"]) / simulated(made["no"])
    return Row(
        name, wall["yes"], wall["no"], cpu["yes"], cpu["no"], cpu["yes"] / cpu["no"], predicted,
        packed_bytes(made["yes"]), peak_bytes(made["yes"].program) - peak_bytes(made["no"].program),
    )  # fmt: skip


def simulated(made: Compiled) -> float:
    """Seconds of a step, as its Program is predicted to take."""
    return makespan(made.program, "train_step", default_price(made.program, made.context.cluster), 0.0)


def packed_bytes(made: Compiled) -> int:
    """What the packs of a program take."""
    role = made.program.roles[0]
    storage = Storage(role, role.largest_shard)
    return sum(storage.bytes(buffer) for buffer in role.buffers if buffer.kind == "packed")


if __name__ == "__main__":
    main()
