"""Times of the convolution kernels: every algorithm in every layout, and PyTorch where it is installed.

    python -m benchmarks.conv_kernels [--threads 1] [--repeats 7] [--batch 8] [--only forward] [--record]

Rates count the multiply-adds of the direct form, two operations each, whatever the algorithm really does. Within one
layer and pass all candidates are timed in turns, round by round, so that a busy machine slows all of them alike; the
ratio is to `direct` in the same layout, of the medians. `--record` writes benchmarks/records/conv_kernels.json.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from benchmarks import recording

ROOT = Path(__file__).resolve().parent.parent
Calls = dict[tuple[str, str], Callable[[], object]]
"""(algorithm, layout) -> a call to be timed."""

STAGES = ("forward", "dx", "dw")

LAYERS: dict[str, tuple[tuple[int, int], dict[str, Any]]] = {
    "64-64 56x56 3x3": ((64, 56), {"filters": 64, "window": 3, "pad": 1}),
    "128-128 28x28 3x3": ((128, 28), {"filters": 128, "window": 3, "pad": 1}),
    "3-64 224x224 7x7/2": ((3, 224), {"filters": 64, "window": 7, "stride": 2, "pad": 3}),
    "256-1024 14x14 1x1": ((256, 14), {"filters": 1024, "window": 1}),
    "lenet c1 1-6 32x32 5x5": ((1, 32), {"filters": 6, "window": 5}),
    "lenet c3 6-16 14x14 5x5": ((6, 14), {"filters": 16, "window": 5}),
    "lenet c5 16-120 5x5 5x5": ((16, 5), {"filters": 120, "window": 5}),
}
"""The layers of the design's execution.md, and LeNet-5's: (channels, extent) of the input, arguments."""


@dataclass(frozen=True)
class Row:
    """One candidate's median time of one pass of one layer."""

    layer: str
    stage: str
    algorithm: str
    layout: str
    milliseconds: float
    gflops: float
    best_gflops: float  # of the fastest round: what the kernel does when nothing else runs
    ratio: float  # of direct's time in the same layout to this one's


def rows(layer: str, batch: int, repeats: int, stages: tuple[str, ...]) -> Iterator[Row]:
    """All candidates of one layer."""
    for stage in stages:
        calls, macs = candidates(layer, batch, stage)
        times = in_turns(calls, repeats)
        for (algorithm, layout), found in times.items():
            seconds, base = median(found), median(times["direct", "NHWC" if layout == "channels_last" else layout])
            rate, best = 2e-9 * macs / seconds, 2e-9 * macs / min(found)
            yield Row(layer, stage, algorithm, layout, seconds * 1e3, rate, best, base / seconds)


def in_turns(calls: Calls, repeats: int) -> dict[tuple[str, str], list[float]]:
    """Seconds of each call, round by round, after one round to warm up."""
    times: dict[tuple[str, str], list[float]] = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            start = perf_counter()
            call()
            if turn:
                times[name].append(perf_counter() - start)
    return times


def candidates(layer: str, batch: int, stage: str) -> tuple[Calls, int]:
    """(algorithm, layout) -> a call of the kernel on its own arrays, and the layer's multiply-adds."""
    import numpy as np

    from dlc.ops.conv import CONV
    from dlc.ops.operator import LAYOUTS
    from tests.kernels.calling import Op, image

    (channels, extent), args = LAYERS[layer]
    x = image("f32", batch if extent > 32 else 2 * batch, channels, extent, extent)
    rng, calls, macs = np.random.default_rng(0), {}, 0
    for algorithm in CONV.algorithms:
        for layout in LAYOUTS:
            op = Op(CONV, (x,), args, layout, algorithm.name)
            if op.excluded(stage) is None:
                calls[algorithm.name, layout] = kernel_call(op, stage, rng)
                macs = CONV.cost(stage, op.shapes(stage)).macs
    return calls | torch_calls(x.shape, args, stage), macs


def kernel_call(op: Any, stage: str, rng: Any) -> Callable[[], object]:
    """The kernel with arrays as an emitted program hands them in."""
    import numpy as np

    from tests.kernels.calling import kernel

    gradient = next((g for g in op.operator.gradients if g.suffix == stage), None)
    needs = op.inputs if gradient is None else gradient.needs
    gives = op.outputs if gradient is None else tuple(f"d{role}" for role in gradient.gives if role in op.types)
    arrays = [op.store(role, rng.standard_normal(op.types[role].shape, dtype=np.float32)) for role in (*needs, *gives)]
    scratch = [np.zeros(w.type.shape, np.float32) for w in op.workspaces(stage)]
    function = kernel("conv", stage, op.algorithm)
    keywords = dict(op.inferred.attrs) | {"layout": op.layout}
    return lambda: function(*arrays, *scratch, **keywords)


def torch_calls(shape: tuple[int, ...], args: dict[str, Any], stage: str) -> Calls:
    """PyTorch's own convolution, in its two memory formats; nothing where it is not installed."""
    try:
        import torch
    except ImportError:
        return {}
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    stride, pad, calls = args.get("stride", 1), args.get("pad", 0), {}
    for layout, memory in (("NCHW", torch.contiguous_format), ("channels_last", torch.channels_last)):
        x = torch.randn(shape).contiguous(memory_format=memory)
        w = torch.randn(args["filters"], shape[1], args["window"], args["window"]).contiguous(memory_format=memory)
        b = torch.randn(args["filters"])
        dy = torch.randn_like(torch.nn.functional.conv2d(x, w, b, stride, pad))
        mask = [stage == "dx", stage == "dw", stage == "dw"]
        calls["torch", layout] = torch_call(torch, stage, (x, w, b, dy), ([stride] * 2, [pad] * 2), mask)
    return calls


def torch_call(torch: Any, stage: str, arrays: Any, settings: Any, mask: list[bool]) -> Callable[[], object]:
    x, w, b, dy = arrays
    stride, pad = settings
    if stage == "forward":
        return lambda: torch.nn.functional.conv2d(x, w, b, stride, pad)
    sizes = [w.shape[0]]
    backward = torch.ops.aten.convolution_backward
    return lambda: backward(dy, x, w, sizes, stride, pad, [1, 1], False, [0, 0], 1, mask)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--batch", type=int, default=8, help="samples of large layers, half of those of LeNet's")
    parser.add_argument("--only", choices=STAGES)
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(options.threads)
    sys.path.insert(0, str(ROOT))
    found = []
    for layer in LAYERS:
        print(
            f"\n{layer}\n{'pass':8} {'algorithm':12} {'layout':13} {'ms':>9} {'GFLOP/s':>8} {'best':>8} {'x direct':>8}"
        )
        for row in rows(layer, options.batch, options.repeats, (options.only,) if options.only else STAGES):
            found.append(row)
            print(
                f"{row.stage:8} {row.algorithm:12} {row.layout:13} {row.milliseconds:9.3f} {row.gflops:8.1f}"
                f" {row.best_gflops:8.1f} {row.ratio:8.2f}",
                flush=True,
            )
    if options.record:
        write_record(found, options)


def write_record(found: list[Row], options: argparse.Namespace) -> None:
    recording.write(
        "conv_kernels",
        "milliseconds, median",
        threads=options.threads,
        batch=options.batch,
        rows=recording.table(found),
    )


if __name__ == "__main__":
    main()
