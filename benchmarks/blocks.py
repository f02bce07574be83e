"""Layouts with channels in blocks against the others: single kernels, and whole training steps.

    python -m benchmarks.blocks [--only conv] [--networks resnet18] [--repeats 9] [--plan-by PROFILE] [--record]

Kernels are called as programs call them, in C on one thread, all layouts of a kernel in turns: microseconds of the
processor, medians. Convolutions are shown by their fastest algorithm in each layout, those of 1x1 through NumPy's BLAS
too. `ratio` is the time in blocks over that in the fastest of the other layouts. Networks are planned with
`layout = auto`, in NHWC, and in blocks what fills them; their steps take turns. `--only` names a kind
of kernel, `none` is none of them; `--record` writes benchmarks/records/blocks.json after each row, so that an interrupt
leaves those that there are; rows of other kernels and networks stay, so that it can be made in pieces.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp, log
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import recording

WINDOWS = {
    "resnet 64 3x3": (8, 64, 56, 64, 3, 1),
    "resnet 128 3x3": (8, 128, 28, 128, 3, 1),
    "resnet 256 3x3": (8, 256, 14, 256, 3, 1),
    "resnet 512 3x3": (8, 512, 7, 512, 3, 1),
    "resnet 128-256 3x3/2": (8, 128, 28, 256, 3, 2),
    "resnet50 64-256 1x1": (4, 64, 56, 256, 1, 1),
    "resnet50 1024-256 1x1": (4, 1024, 14, 256, 1, 1),
    "resnet50 256-512 1x1/2": (4, 256, 56, 512, 1, 2),
    "vgg 256 3x3": (4, 256, 56, 256, 3, 1),
    "alexnet 64-192 5x5": (16, 64, 27, 192, 5, 1),
    "alexnet 384-256 3x3": (16, 384, 13, 256, 3, 1),
    "googlenet 192-64 1x1": (8, 192, 28, 64, 1, 1),
    "googlenet 96-208 3x3": (8, 96, 14, 208, 3, 1),
    "googlenet 32-96 5x5": (8, 32, 28, 96, 5, 1),
}
"""Batch, channels, extent, filters, window, stride."""

IMAGES = ((8, 64, 112), (8, 64, 56), (8, 128, 28), (8, 256, 14), (8, 512, 7), (4, 1024, 14))
"""Batch, channels, extent."""

POOL = {"window": (3, 3), "stride": (2, 2), "pad": ((1, 1), (1, 1))}

OTHERS: dict[str, dict[str, Any]] = {
    "bn": {},
    "maxpool": POOL,
    "avgpool": {"window": (2, 2), "stride": (2, 2)},
    "global_avgpool": {},
    "relu": {},
    "add": {},
    "concat": {"axis": "channel"},
}
"""Ops that are measured on `IMAGES`, and what they are told."""

NETWORKS = ("resnet18",)

COUNTED = 2
"""First steps of a program that do not count."""


@dataclass(frozen=True)
class Row:
    """A kernel: microseconds in each layout, the algorithm of the fastest, and blocks over the fastest of others."""

    kernel: str
    microseconds: dict[str, float]
    algorithms: dict[str, str]
    ratio: float


@dataclass(frozen=True)
class Step:
    """A network's training step: milliseconds of each plan, and each over that of `auto`."""

    network: str
    milliseconds: dict[str, float]
    ratios: dict[str, float]


def blocked() -> str:
    """The layout whose blocks are vectors of this machine."""
    from backends.numpy_mpi.c.target import target_at_hand

    return f"NCHW{target_at_hand().lanes('f32')}c"


def kernels(only: str) -> Iterator[tuple[str, list[Any]]]:
    """Names, and what is timed of each: a case for each algorithm and layout."""
    if only in ("", "conv"):
        yield from (found for name in WINDOWS for found in convolution(name))
    yield from (found for op in OTHERS if only in ("", op) for image in IMAGES for found in other(op, image))


def convolution(name: str) -> Iterator[tuple[str, list[Any]]]:
    """The passes of one convolution by the algorithms that there are in C, of 1x1 through BLAS too."""
    from dlc.calibration.points import cases
    from dlc.ir.tensor import tensor
    from dlc.ops import operator

    n, channels, extent, filters, window, stride = WINDOWS[name]
    op, x = operator("conv"), tensor("f32", batch=n, channel=channels, height=extent, width=extent)
    assert op is not None
    told = {"filters": filters, "window": (window,) * 2, "stride": (stride,) * 2,
            "pad": ((window // 2,) * 2,) * 2, "bias": False}  # fmt: skip
    found: dict[str, list[Any]] = {}
    for way in op.algorithms:
        if way.name in ("direct", "winograd(2)", "winograd(4)") or (way.name == "im2col" and window == 1):
            for layout in ("NHWC", "CHWN", blocked()):
                in_c = layout != "CHWN" or way.name == "direct"
                known = cases(op, (x,), told, way.name, layout, "c") if in_c and layout in way.layouts else ()
                for case in known:
                    if way.excluded(case.stage, case.shapes) is None:
                        found.setdefault(case.stage, []).append(case)
    return ((f"conv {name} {stage}", each) for stage, each in found.items())


def other(name: str, image: tuple[int, int, int]) -> Iterator[tuple[str, list[Any]]]:
    """The passes of another op on an image, in all layouts."""
    from dlc.calibration.points import cases
    from dlc.ir.tensor import tensor
    from dlc.ops import operator

    n, channels, extent = image
    op, x = operator(name), tensor("f32", batch=n, channel=channels, height=extent, width=extent)
    assert op is not None
    told = OTHERS[name] | ({"group": n} if name == "bn" else {})
    found: dict[str, list[Any]] = {}
    for layout in ("NHWC", "CHWN", "NCHW", blocked()):
        for case in cases(op, (x,) * (2 if name in ("add", "concat") else 1), told, "", layout, "c"):
            found.setdefault(case.stage, []).append(case)
    return ((f"{name} {n}x{channels}x{extent} {stage}", each) for stage, each in found.items())


def rows(only: str, repeats: int) -> Iterator[Row]:
    """Each kernel with its layouts in turns."""
    from backends.numpy_mpi.timing import time_kernels

    for name, each in kernels(only):
        best: dict[str, tuple[float, str]] = {}
        for timing in time_kernels(each, 1, rounds=repeats, seconds=3600.0):
            case = timing.case
            best[case.layout] = min(best.get(case.layout, (float("inf"), "")), (timing.seconds * 1e6, case.algorithm))
        others = [taken for layout, (taken, _) in best.items() if layout != blocked()]
        if blocked() in best and others:
            algorithms = {layout: way for layout, (_, way) in best.items() if way}
            taken = {layout: round(seconds, 1) for layout, (seconds, _) in best.items()}
            yield Row(name, taken, algorithms, best[blocked()][0] / min(others))


def step(network: str, repeats: int, profile: str | None) -> Step:
    """The plans' programs, step by step in turns: seconds of the processor."""
    from benchmarks.peers.networks import NETWORKS as KNOWN
    from benchmarks.peers.networks import compiled, write_program
    from benchmarks.peers.ways import dlc_way

    ways = []
    with tempfile.TemporaryDirectory(prefix="dlc-blocks-") as temporary:
        try:
            for layout in ("auto", "NHWC", blocked()):
                made = compiled(KNOWN[network], "c", 1, profile=profile, layout=layout)
                folder = Path(temporary) / layout
                folder.mkdir()
                write_program(made, folder / "c")
                ways.append(dlc_way(layout, folder / "c", made, 1))
            taken: dict[str, list[float]] = {way.name: [] for way in ways}
            for number in range(COUNTED + repeats):
                for way in ways:
                    turn = way.step()
                    if number >= COUNTED:
                        taken[way.name].append(turn.cpu)
        finally:
            for way in ways:
                way.close()
    milliseconds = {name: round(1e3 * median(times), 2) for name, times in taken.items()}
    ratios = {name: round(median(a / b for a, b in zip(times, taken["auto"], strict=True)), 3)
              for name, times in taken.items()}  # fmt: skip
    return Step(network, milliseconds, ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="KIND", help=f"conv, {', '.join(OTHERS)}, or none")
    parser.add_argument("--networks", default=",".join(NETWORKS), metavar="NAMES", help="of benchmarks/cpu_vs_pytorch")
    parser.add_argument("--repeats", type=int, default=9, help="rounds, and steps that count (default: 9)")
    parser.add_argument("--plan-by", default=None, metavar="PROFILE", help="what `dlc calibrate` measured here")
    parser.add_argument("--record", action="store_true", help="write benchmarks/records/blocks.json")
    options = parser.parse_args()
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
    found: list[Row] = []
    for row in rows(options.only, options.repeats):
        found.append(row)
        if options.record:
            record(options, kernels=[row])
        told = ", ".join(
            f"{layout} {taken:.0f} {row.algorithms.get(layout, '')}".rstrip()
            for layout, taken in row.microseconds.items()
        )
        print(f"{row.kernel:42} {row.ratio:5.2f}   {told}", flush=True)
    for kind in sorted({" ".join((row.kernel.split()[0], row.kernel.split()[-1])) for row in found}):
        name, stage = kind.split()
        ratios = [r.ratio for r in found if r.kernel.startswith(f"{name} ") and r.kernel.endswith(f" {stage}")]
        print(f"{kind:42} {exp(sum(map(log, ratios)) / len(ratios)):5.2f}   geometric mean of {len(ratios)}")
    steps = []
    for network in filter(None, options.networks.split(",")):
        steps.append(step(network, options.repeats, options.plan_by))
        print(f"{network}: {steps[-1].milliseconds} ms; over auto {steps[-1].ratios}", flush=True)
        if options.record:
            record(options, steps=steps[-1:])


def record(options: argparse.Namespace, kernels: Sequence[Row] = (), steps: Sequence[Step] = ()) -> None:
    """Put rows into the record, in the places of those of the same name."""
    path = recording.FOLDER / "blocks.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"kernels": [], "steps": []}
    tables = {}
    for key, name, new in (("kernels", "kernel", kernels), ("steps", "network", steps)):
        rows = {row[name]: row for row in (*known[key], *recording.table(new))}
        tables[key] = list(rows.values())
    planned = {"repeats": options.repeats, "calibrated": bool(options.plan_by)}
    recording.write("blocks", "microseconds of kernels, milliseconds of steps; medians", **planned, **tables)


if __name__ == "__main__":
    main()
