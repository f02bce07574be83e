"""Rows of neighbours while a rank computes: window ops in halves on two ranks, their halos fetched in different ways.

    python -m benchmarks.halos [--record]

Starts itself under mpiexec on two ranks. Forward, a halo is waited for before the kernel runs (`blocking`), travels
while the inner rows are computed (`inner first`), or in two halves of the samples, the second one while the first one
is computed (`by samples`); backward, the gradient's rows go home before the weights' gradient is computed, or
meanwhile (`early`). `alone` are the kernels without any halo. All ways take turns, so that what else the machine does
hits all of them. Medians in milliseconds: the time by the clock and, in brackets, how many times faster than `blocking`
that is; the part of it in which the rank communicated or waited; and the processor's time, which does not depend so
much on what else runs.

Links: the shared memory between the ranks as it is, and networks that are imitated: a message is there when so many
bytes a second would have brought it, and no processor works for it meanwhile. Behind that, the step of ResNet-50 cut
by rows over two nodes as the simulator has it, with halos that block and with the planner's choice.
`--record` writes benchmarks/records/halos.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from benchmarks import recording

ROOT = Path(__file__).resolve().parent.parent

LAYERS: dict[str, tuple[str, tuple[int, int, int, int], dict[str, Any]]] = {
    "conv 3x3, 64-64, 8 x 56x56": ("NCHW", (8, 64, 56, 56), {"filters": 64, "window": 3, "pad": 1}),
    "conv 3x3, 64-64, 8 x 56x56, NHWC": ("NHWC", (8, 64, 56, 56), {"filters": 64, "window": 3, "pad": 1}),
    "conv 3x3, 256-256, 8 x 14x14": ("NCHW", (8, 256, 14, 14), {"filters": 256, "window": 3, "pad": 1}),
    "conv 5x5, 16-16, 2 x 224x224": ("NCHW", (2, 16, 224, 224), {"filters": 16, "window": 5, "pad": 2}),
}
"""Layout, image and arguments; both ranks have half of the rows."""

LINKS = {"shared memory": 0.0, "1 Gb/s": 125e6, "100 Mb/s": 12.5e6}
"""Bytes a second of imitated links, 0 for what there is."""

ROUNDS, SECONDS = 7, 5.0  # at least so many, for so long

SPEC = """
cluster pair {{
  device core {{ kind = cpu, memory = 64 GB, bandwidth = 10 GB/s, compute.f32 = 50 GFLOP/s, overlap = 0.9 }}
  link net {{ bandwidth = {bandwidth} MB/s, latency = 20 us }}
  topology {{ core[2] over net }}
}}
plan resnet50 on pair {{
  strategy = spatial
  overlap = {overlap}
}}
"""

Times = dict[str, dict[str, dict[str, dict[str, float]]]]
"""Median seconds by link, layer, way and clock."""

CLOCKS = ("elapsed", "communicating", "computing")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        measure()
        return
    times, steps = start(), simulated()
    for link, layers in times.items():
        print(f"\n{link}")
        for layer, ways in layers.items():
            print(f"  {layer}")
            for way, found in ways.items():
                cells = (
                    f"{1e3 * found[clock]:8.2f}{_ratio(way, ways) if clock == 'elapsed' else ''}" for clock in CLOCKS
                )
                print(f"    {way:22}", *cells)
    print(
        "\nResNet-50 by rows over two nodes, a step as simulated, in seconds, by what is under way while ranks compute"
    )
    for link, step in steps.items():
        print(f"  {link}: " + ", ".join(f"{way} {seconds:.4f}" for way, seconds in step.items()))
    if options.record:
        recording.write("halos", "seconds, median", ranks=2, measured=times, simulated=steps)


def _ratio(way: str, ways: dict[str, dict[str, float]]) -> str:
    base = ways["backward, blocking" if way.startswith("backward") else "forward, blocking"]
    return f" ({base['elapsed'] / ways[way]['elapsed']:.2f})"


def start() -> Times:
    """One run under mpiexec; rank 0 prints the medians."""
    from dlc.launch import find_mpiexec

    command = [str(find_mpiexec()), "-n", "2", sys.executable, "-m", "benchmarks.halos", "--worker"]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=900)
    times: Times = json.loads(done.stdout.splitlines()[-1])
    return times


def simulated() -> dict[str, dict[str, float]]:
    """Seconds of a step by link: with nothing under way while ranks compute, with sums of gradients, with halos too."""
    from dlc.driver import Options, compile_spec, read

    spec, found = (ROOT / "specs" / "resnet50.dlspec").read_text(), dict[str, dict[str, float]]()
    network = re.sub(r"^(cluster|plan) .*?^}\n", "", spec, flags=re.MULTILINE | re.DOTALL)
    network = re.sub(r"= images\(.*\)", "= synthetic(samples = 64, classes = 1000)", network)
    blocking = patch("passes.lowering.program.overlapped", lambda program, *_: program)
    ways = (("nothing", "no", nullcontext()), ("sums", "auto", blocking), ("sums and halos", "auto", nullcontext()))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "resnet50.dlspec"
        for link, rate in LINKS.items():
            found[link] = step = {}
            for way, overlap, around in ways:
                path.write_text(network + SPEC.format(bandwidth=(rate or 8e9) / 1e6, overlap=overlap))
                with around:
                    made = compile_spec(read(str(path), {"batch": "16"}), Options(ranks=2, precision="f32"))
                step[way] = made.plan.predicted.simulated_seconds
    return found


# --- what each rank does -------------------------------------------------------------------------------------------


def measure() -> None:
    from backends.numpy_mpi import runtime
    from backends.numpy_mpi.runtime.collectives import Step
    from backends.numpy_mpi.runtime.mpi_world import MpiWorld

    class Imitated(MpiWorld):
        """A world whose messages are there when a link of so many bytes a second would have brought them."""

        rate = 0.0

        def start(self, step: Any, name: str, serial: int = 0) -> list[Any]:
            size = max((each.nbytes for each in (step.sent, step.received) if each is not None), default=0)
            return [(time.perf_counter() + (size / self.rate if self.rate else 0.0), super().start(step, name, serial))]

        def test(self, started: list[Any]) -> bool:
            there = [MpiWorld.test(self, requests) for _, requests in started]  # all of them, so that all go on
            return all(there) and all(due <= time.perf_counter() for due, _ in started)

        def exchange(self, sent: Any, to: int, received: Any, source: int, name: str = "message") -> None:
            begun = self.start(Step(sent, to, received, source), name)
            self.wait_until(lambda: self.test(begun), name)

    world = Imitated()
    times: Times = {}
    place = runtime.Place(world, {"rows": 2}, batch=1)
    cases = {layer: ways(place, *told) for layer, told in LAYERS.items()}
    for link, world.rate in LINKS.items():
        times[link] = {layer: medians(world, found) for layer, found in cases.items()}
    if world.rank == 0:
        print(json.dumps(times))


def ways(
    place: Any, layout: str, shape: tuple[int, int, int, int], args: dict[str, Any]
) -> dict[str, Callable[[], None]]:
    """A layer forward and backward, in each way."""
    layer, half = Layer(place, layout, shape, args), (shape[0] // 2, *shape[1:])
    halves = [Layer(place, layout, half, args) for _ in range(2)]

    def by_samples() -> None:
        for each in halves:
            each.fetch(begin=True)
        for each in halves:
            each.wait()
            each.forward()

    return {
        "forward, alone": layer.forward,
        "forward, blocking": lambda: (layer.fetch(), layer.forward())[0],
        "forward, inner first": layer.inner_first,
        "forward, by samples": by_samples,
        "backward, alone": lambda: layer.backward(sends=False),
        "backward, blocking": layer.backward,
        "backward, early": lambda: layer.backward(begin=True),
    }


class Layer:
    """The arrays of a convolution by im2col, cut by rows, and its kernels; `seconds` are those of communication."""

    seconds = 0.0

    def __init__(self, place: Any, layout: str, shape: tuple[int, int, int, int], args: dict[str, Any]) -> None:
        import numpy as np

        from backends.numpy_mpi import runtime
        from dlc.ops.conv import CONV
        from tests.kernels.calling import Op, image

        self.place, self.attrs = place, {}
        op = Op(CONV, (image("f32", *shape),), {**args, "bias": False}, layout, "im2col")
        self.attrs = {k: v for k, v in dict(op.inferred.attrs).items() if k != "filters"} | {"layout": layout}
        n, _, height, width = shape
        filters, results, columns = op.types["y"].shape[1:]
        axis, (window, stride, pad) = layout.index("H"), (args["window"], args.get("stride", 1), args["pad"])
        halo = runtime.Halo(axis=axis, results=results, before=pad, after=window - 1 - pad, stride=stride)

        def spec(channels: int, rows: int, wide: int) -> str:
            return " ".join({"N": str(n), "C": str(channels), "H": f"{rows}/rows", "W": str(wide)}[at] for at in layout)

        x, y = spec(shape[1], height, width), spec(filters, results, columns)
        rows = {"x": (x, ()), "wide": (x, halo), "dx": (x, ()), "dwide": (x, halo), "y": (y, ()), "dy": (y, ())}
        table = {name: runtime.Array(text, halo=around) for name, (text, around) in rows.items()}
        self.a = runtime.Arrays(table, place, "f4").at()
        rng = np.random.default_rng(0)
        for array in vars(self.a).values():
            array[...] = rng.standard_normal(array.shape)
        self.weight = rng.standard_normal(op.types["weight"].shape, dtype=np.float32)
        self.dweight = np.empty_like(self.weight)
        self.rooms = {
            stage: [(w.role, np.zeros(w.type.shape, np.float32)) for w in op.workspaces(stage)]
            for stage in ("forward", "dx", "dw")
        }

    def fetch(self, begin: bool = False) -> None:
        """The halo of x."""
        self._communicate(lambda: self.place.halo(self.a.x, self.a.wide, over="rows", begin=begin))

    def wait(self) -> None:
        """Until it is there."""
        self._communicate(lambda: self.place.wait(self.a.wide))

    def _communicate(self, call: Callable[[], None]) -> None:
        began = time.perf_counter()
        call()
        Layer.seconds += time.perf_counter() - began

    def forward(self) -> None:
        """All rows."""
        from backends.numpy_mpi.kernels.conv_im2col import conv_im2col_forward

        told = self.attrs | {"pad": self.place.pads(self.a.wide, self.attrs["pad"])}
        conv_im2col_forward(self.a.wide, self.weight, self.a.y, *self._rooms("forward"), **told)

    def inner_first(self) -> None:
        """The inner rows while the halo travels, then the others."""
        from backends.numpy_mpi.kernels.conv_im2col import conv_im2col_forward

        rooms = [[room] if role == "padded" else room for role, room in self.rooms["forward"]]
        self.fetch(begin=True)
        self.place.interior(conv_im2col_forward, self.a.wide, self.weight, self.a.y, *rooms, **self.attrs)
        self.wait()
        self.place.border(conv_im2col_forward, self.a.wide, self.weight, self.a.y, *rooms, **self.attrs)

    def backward(self, begin: bool = False, sends: bool = True) -> None:
        """The gradient by x, whose rows go home, and that by the weights."""
        from backends.numpy_mpi.kernels.conv_im2col import conv_im2col_dw, conv_im2col_dx

        a, told = self.a, self.attrs | {"pad": self.place.pads(self.a.wide, self.attrs["pad"])}
        conv_im2col_dx(a.dy, self.weight, a.dwide, *self._rooms("dx"), **told)
        if sends:
            self._communicate(lambda: self.place.halo_sum(a.dwide, a.dx, over="rows", begin=begin))
        conv_im2col_dw(a.dy, a.wide, self.dweight, *self._rooms("dw"), **told)
        self._communicate(lambda: self.place.wait(a.dx))

    def _rooms(self, stage: str) -> list[Any]:
        return [room for _, room in self.rooms[stage]]


def medians(world: Any, cases: dict[str, Callable[[], None]]) -> dict[str, dict[str, float]]:
    """Rounds in which each way runs once behind a barrier; of each round the slower rank counts."""
    samples: dict[str, list[tuple[float, ...]]] = {name: [] for name in cases}
    started = time.perf_counter()
    for turn in range(1000):
        for name, case in cases.items():
            world.barrier()
            began = (time.perf_counter(), Layer.seconds, time.process_time())
            case()
            ended = (time.perf_counter(), Layer.seconds, time.process_time())
            if turn:  # the first one warms up
                samples[name].append(tuple(end - begin for begin, end in zip(began, ended, strict=True)))
        if world.bcast(turn >= ROUNDS and time.perf_counter() - started > SECONDS):
            break
    both = world.allgather(list(samples.values()))
    return {
        name: {clock: median(max(one[of], two[of]) for one, two in zip(*(times[at] for times in both), strict=True))
               for of, clock in enumerate(CLOCKS)}
        for at, name in enumerate(samples)
    }  # fmt: skip


if __name__ == "__main__":
    main()
