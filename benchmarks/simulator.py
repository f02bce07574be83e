"""The timeline simulator on large pipelines, beside itself rank by rank and instruction by instruction on small ones.

    python -m benchmarks.simulator [--repeats 3] [--record]

The large programs are training steps of 152 layers on 16,384 devices with 64 microbatches; each is simulated in a
process of its own, whose peak memory is reported with Python and NumPy in it. The small ones are simulated both ways by
turns in one process, and must agree in every figure. `--record` writes benchmarks/records/simulator.json.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from benchmarks import recording
from dlc.cluster.topology import Cluster, Device, Group, Link
from dlc.cost.price import default_price
from dlc.cost.timeline import Timeline, simulate
from dlc.ir.program import Program
from tests.ir.staged_programs import Shape, staged

ROOT = Path(__file__).resolve().parents[1]
LAYERS = 152


def shape(stages: int, data: int, model: int, microbatches: int, **more: object) -> Shape:
    """152 layers on the stages, as even as they can be, 40 kernels a layer and pass where nothing else is said."""
    layers = tuple(LAYERS // stages + (stage < LAYERS % stages) for stage in range(stages))
    made = Shape(stages, data, model, microbatches, layers, 40, 16 * data * microbatches, 2048, "1f1b", blocking=False)
    return replace(made, **more)  # type: ignore[arg-type]


LARGE = {
    "8 stages x 256 data x 8 model": shape(8, 256, 8, 64, sums="last"),
    "16 stages x 128 data x 8 model, uneven shards": shape(16, 128, 8, 64, sums="last", batch=16 * 128 * 64 + 77),
    "16 stages x 1,024 data, weights gathered ahead, gradients summed every microbatch": shape(
        16, 1024, 1, 64, sums="each", gathers=True, offloads=True
    ),
}
SMALL = {
    "4 stages x 8 data x 2 model": shape(4, 8, 2, 8, sums="last", kernels=8),
    "8 stages x 8 data, weights gathered ahead, uneven shards": shape(
        8, 8, 1, 4, sums="each", gathers=True, batch=515, kernels=8
    ),
}


@dataclass(frozen=True)
class Large:
    """Seconds to simulate one program, prices and memory included; instructions run by all classes of ranks."""

    program: str
    devices: int
    microbatches: int
    classes: int
    instructions: int
    seconds: float
    peak_megabytes: float
    step_seconds: float
    bubble: float


@dataclass(frozen=True)
class Small:
    """Seconds to simulate one program folded, and rank by rank and instruction by instruction."""

    program: str
    devices: int
    folded_seconds: float
    unfolded_seconds: float
    ratio: float


def main() -> None:
    options = _arguments()
    if options.only:
        print(json.dumps(vars(large(options.only))))
        return
    big = [_apart(name, options.repeats) for name in LARGE]
    small = [both(name, options.repeats) for name in SMALL]
    print(f"{'devices':>7} {'classes':>7} {'instructions':>12} {'seconds':>8} {'peak':>8}  program")
    for row in big:
        figures = (
            f"{row.devices:7,} {row.classes:7} {row.instructions:12,} {row.seconds:7.2f}s {row.peak_megabytes:5.0f} MB"
        )
        print(f"{figures}  {row.program}")
    print(f"\n{'devices':>7} {'folded':>8} {'unfolded':>9} {'ratio':>6}  program, the same figures both ways")
    for pair in small:
        figures = f"{pair.devices:7} {pair.folded_seconds:7.3f}s {pair.unfolded_seconds:8.3f}s {pair.ratio:6.1f}"
        print(f"{figures}  {pair.program}")
    if options.record:
        recording.write("simulator", "seconds", large=recording.table(big), small=recording.table(small))


def large(name: str) -> Large:
    """One large program, made and then simulated."""
    made = staged(LARGE[name])
    begin = time.perf_counter()
    found = _simulated(made)
    seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    steps = sum(
        len(lane.ranks.role.segment(row.segment).instructions)
        for lane in found.lanes
        for row in lane.ranks.role.entries[0].schedule
    )
    microbatches = LARGE[name].microbatches
    return Large(name, made.ranks, microbatches, len(found.lanes), steps, seconds, peak, found.makespan, found.bubble)


def both(name: str, repeats: int) -> Small:
    """One small program both ways by turns: median seconds. RuntimeError where they do not agree."""
    made = staged(SMALL[name])
    times: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(repeats):
        found = {}
        for folded, spent in times.items():
            begin = time.perf_counter()
            found[folded] = _simulated(made, folded)
            spent.append(time.perf_counter() - begin)
        if _figures(found[True]) != _figures(found[False]):
            raise RuntimeError(f"{name}: folded and unfolded differ")
    one, each = median(times[True]), median(times[False])
    return Small(name, made.ranks, one, each, each / one)


def _figures(found: Timeline) -> list[tuple[object, ...]]:
    """What every rank does, by rank: its end, how busy its streams are, what it waits for, and its memory."""
    return sorted(
        (rank, lane.end, sorted((stream.name, stream.busy) for stream in lane.streams), lane.exposed, lane.memory)
        for lane in found.lanes
        for rank in lane.ranks.ranks
    )


def _simulated(made: Program, folded: bool = True) -> Timeline:
    gpu = Device("gpu", "gpu", 80 * 2**30, 3.35e12, (("f32", 6.7e13),), 4e-6, overlap=0.9)
    links = (Link("nvlink", 4.5e11, 1e-6, shape="switch"), Link("infiniband", 5e10, 2e-6, shape="fat_tree"))
    node = Group("gpu", 8, "nvlink", device="gpu")
    cluster = Cluster("pod", (gpu,), links, (Group("node", max(2, made.ranks // 8), "infiniband", (node,)),))
    return simulate(made, "train_step", default_price(made, cluster), gpu.overlap, folded)


def _apart(name: str, repeats: int) -> Large:
    """The run of median time among several, each in a process of its own."""
    words = (sys.executable, "-m", "benchmarks.simulator", "--only", name)
    texts = [subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout for _ in range(repeats)]
    runs: Sequence[Large] = sorted((Large(**json.loads(text)) for text in texts), key=lambda run: run.seconds)
    return runs[len(runs) // 2]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--only", choices=tuple(LARGE), help="one large program, in this process")
    return parser.parse_args()


if __name__ == "__main__":
    main()
