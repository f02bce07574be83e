"""Convolutions in generated C against NumPy's im2col and PyTorch, on one thread.

    python -m benchmarks.c_kernels [--repeats 9] [--only resnet50] [--stage forward] [--record]

For each layer and pass all ways take turns, call by call. Times are CPU seconds of the one thread that works, medians;
rates count the multiply-adds of the direct form, two operations each. `ratio` is the time of the best of PyTorch (NCHW,
channels_last) over the best of C; without PyTorch, that of NumPy. `--record` writes benchmarks/records/c_kernels.json.
"""

from __future__ import annotations

import ctypes
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import thread_time
from typing import Any

from benchmarks import recording

ROOT = Path(__file__).resolve().parent.parent
STAGES = ("forward", "dx", "dw")
Calls = dict[str, Callable[[], object]]

LAYERS: dict[str, tuple[tuple[int, int, int, int], dict[str, Any]]] = {
    "resnet50 7x7/2": ((4, 3, 224, 64), {"window": 7, "stride": 2, "pad": 3}),
    "resnet50 64 3x3": ((4, 64, 56, 64), {"window": 3, "pad": 1}),
    "resnet50 128 3x3": ((4, 128, 28, 128), {"window": 3, "pad": 1}),
    "resnet50 256 3x3": ((4, 256, 14, 256), {"window": 3, "pad": 1}),
    "resnet50 512 3x3": ((4, 512, 7, 512), {"window": 3, "pad": 1}),
    "resnet50 128 3x3/2": ((4, 128, 56, 128), {"window": 3, "stride": 2, "pad": 1}),
    "resnet50 64-256 1x1": ((4, 64, 56, 256), {"window": 1}),
    "resnet50 1024-256 1x1": ((4, 1024, 14, 256), {"window": 1}),
    "resnet50 256-1024 1x1": ((4, 256, 14, 1024), {"window": 1}),
    "resnet50 2048-512 1x1": ((4, 2048, 7, 512), {"window": 1}),
    "resnet50 256-512 1x1/2": ((4, 256, 56, 512), {"window": 1, "stride": 2}),
    "vgg16 64 3x3": ((1, 64, 224, 64), {"window": 3, "pad": 1}),
    "vgg16 256 3x3": ((1, 256, 56, 256), {"window": 3, "pad": 1}),
    "vgg16 512 3x3": ((1, 512, 28, 512), {"window": 3, "pad": 1}),
    "googlenet 64-192 3x3": ((8, 64, 56, 192), {"window": 3, "pad": 1}),
    "googlenet 96-208 3x3": ((8, 96, 14, 208), {"window": 3, "pad": 1}),
    "googlenet 16-48 5x5": ((8, 16, 14, 48), {"window": 5, "pad": 2}),
    "googlenet 480-16 1x1": ((8, 480, 14, 16), {"window": 1}),
    "densenet 128-128 1x1": ((4, 128, 56, 128), {"window": 1}),
    "densenet 224-128 1x1": ((4, 224, 56, 128), {"window": 1}),
    "densenet 512-256 1x1": ((4, 512, 28, 256), {"window": 1}),
    "densenet 992-128 1x1": ((4, 992, 14, 128), {"window": 1}),
    "lenet 1-6 5x5": ((64, 1, 32, 6), {"window": 5}),
    "lenet 6-16 5x5": ((64, 6, 14, 16), {"window": 5}),
    "lenet 16-120 5x5": ((64, 16, 5, 120), {"window": 5}),
}
"""Layers: (batch, channels, extent, filters), arguments."""


@dataclass(frozen=True)
class Row:
    """Rates of one pass of one layer, in 10⁹ operations a second, C's best way first."""

    layer: str
    stage: str
    best_c: str
    c: float
    torch_nchw: float
    torch_channels_last: float
    numpy_im2col: float
    ratio: float
    rates: dict[str, float]


def row(layer: str, stage: str, repeats: int, folder: Path) -> Row:
    (n, channels, extent, filters), args = LAYERS[layer]
    stride, pad = args.get("stride", 1), args.get("pad", 0)
    out = (extent + 2 * pad - args["window"]) // stride + 1
    operations = 2e-9 * n * out * out * filters * channels * args["window"] ** 2
    calls = c_calls(layer, stage, folder) | numpy_call(layer, stage) | torch_calls(layer, stage)
    rates = {name: operations / median(times) for name, times in in_turns(calls, repeats).items()}
    best = max((name for name in rates if name.startswith("c ")), key=lambda name: rates[name])
    torch = [rates[name] for name in ("torch NCHW", "torch channels_last") if name in rates]
    return Row(
        layer,
        stage,
        best.removeprefix("c "),
        rates[best],
        rates.get("torch NCHW", 0.0),
        rates.get("torch channels_last", 0.0),
        rates["numpy"],
        rates[best] / max(torch or [rates["numpy"]]),
        {name: round(rate, 1) for name, rate in rates.items()},
    )


def in_turns(calls: Calls, repeats: int) -> dict[str, list[float]]:
    """CPU seconds of each call, round by round, after one round to warm up."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            start = thread_time()
            call()
            if turn:
                times[name].append(thread_time() - start)
    return times


def c_calls(layer: str, stage: str, folder: Path) -> Calls:
    """The generated functions, built in one file."""
    import numpy as np

    from backends.numpy_mpi.c import (
        conv_blocked,
        conv_blocked_dw,
        conv_chwn,
        conv_direct,
        conv_dw,
        conv_dw_packed,
        conv_winograd,
        conv_winograd_dw,
    )
    from backends.numpy_mpi.c.conv import Conv
    from tests.c.building import build, runnable

    (n, channels, extent, filters), args = LAYERS[layer]
    window, stride, pad = (
        (args.get(name, default),) * 2 for name, default in (("window", 1), ("stride", 1), ("pad", 0))
    )
    conv = Conv(channels, filters, extent, extent, window, stride, (pad, pad))
    target = runnable()[0]
    direct = {"forward": conv_direct.forward, "dx": conv_direct.dx, "dw": conv_dw_packed.best}
    functions = {"direct": direct[stage](conv, target, "direct")}
    if stage == "dw" and conv_dw_packed.pays(conv, target):
        functions["as it lies"] = conv_dw.dw(conv, target, "as_it_lies")
    if conv_winograd.fits(conv):
        make = {"forward": conv_winograd.forward, "dx": conv_winograd.dx, "dw": conv_winograd_dw.dw}[stage]
        functions |= {f"winograd({m})": make(conv, target, f"winograd{m}", m) for m in (2, 4)}
    if conv_blocked.fits(conv, target, target.lanes("f32")):  # arrays of as many elements as in NHWC
        blocked = {"forward": conv_blocked.forward, "dx": conv_blocked.dx, "dw": conv_blocked_dw.dw}
        functions["blocked"] = blocked[stage](conv, target, "blocked")
        if conv_winograd.fits(conv):
            for m in (2, 4):
                functions[f"blocked winograd({m})"] = make(conv, target, f"blocked_winograd{m}", m, blocked=True)
    if n % target.lanes("f32") == 0:  # as vectors of samples
        functions["chwn"] = getattr(conv_chwn, stage)(conv, target, "chwn")
    into = folder / f"{layer} {stage}".replace("/", "by").replace(" ", "_")
    into.mkdir()
    library = build(list(functions.values()), target, ("f32",), into)
    shapes = shapes_of(conv, n)
    rng, calls = np.random.default_rng(0), {}
    for name, function in functions.items():
        arrays = [rng.standard_normal(shapes[a], dtype=np.float32) for a in function.arguments]
        arrays.append(np.zeros(function.scratch(n, 1), np.float32))
        calls[f"c {name}"] = c_call(getattr(library, function.name), arrays, (n, extent, *conv.pad[0]))
    return calls


def shapes_of(conv: Any, n: int) -> dict[str, tuple[int, ...]]:
    """Shapes of all operands in NHWC."""
    x, y = (n, conv.height, conv.width, conv.channels), (n, *conv.outputs, conv.filters)
    weight = (conv.filters, conv.channels, *conv.window)
    return {"x": x, "dx": x, "y": y, "dy": y, "weight": weight, "dweight": weight}


def c_call(function: Any, arrays: list[Any], numbers: tuple[int, ...]) -> Callable[[], object]:
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in arrays]
    longs = [ctypes.c_long(number) for number in numbers]
    return lambda: (function(*pointers, *longs), arrays)


def numpy_call(layer: str, stage: str) -> Calls:
    """NumPy's im2col in NHWC, with arrays as an emitted program hands them in."""
    import numpy as np

    from benchmarks.conv_kernels import kernel_call
    from dlc.ops.conv import CONV
    from tests.kernels.calling import Op, image

    (n, channels, extent, filters), args = LAYERS[layer]
    given = {"filters": filters, "bias": False, **args}
    op = Op(CONV, (image("f32", n, channels, extent, extent),), given, "NHWC", "im2col")
    return {"numpy": kernel_call(op, stage, np.random.default_rng(0))}


def torch_calls(layer: str, stage: str) -> Calls:
    """PyTorch's own convolution in its two memory formats; nothing where it is not installed."""
    try:
        import torch
    except ImportError:
        return {}
    torch.set_num_threads(1)
    (n, channels, extent, filters), args = LAYERS[layer]
    stride, pad, calls = args.get("stride", 1), args.get("pad", 0), {}
    for layout, memory in (("NCHW", torch.contiguous_format), ("channels_last", torch.channels_last)):
        x = torch.randn(n, channels, extent, extent).contiguous(memory_format=memory)
        w = torch.randn(filters, channels, args["window"], args["window"]).contiguous(memory_format=memory)
        dy = torch.randn_like(torch.nn.functional.conv2d(x, w, None, stride, pad))
        calls[f"torch {layout}"] = torch_call(torch, stage, (x, w, dy), stride, pad)
    return calls


def torch_call(torch: Any, stage: str, arrays: Any, stride: int, pad: int) -> Callable[[], object]:
    x, w, dy = arrays
    if stage == "forward":
        return lambda: torch.nn.functional.conv2d(x, w, None, stride, pad)
    backward, mask = torch.ops.aten.convolution_backward, [stage == "dx", stage == "dw", False]
    return lambda: backward(dy, x, w, None, [stride] * 2, [pad] * 2, [1, 1], False, [0, 0], 1, mask)


def main() -> None:
    parser = recording.options_of_kernels(__doc__, "layers")
    parser.add_argument("--stage", choices=STAGES)
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    found = []
    print(f"{'layer':24} {'pass':8} {'best C':18} {'C':>6} {'NCHW':>6} {'c_last':>6} {'numpy':>6} {'ratio':>6}")
    with tempfile.TemporaryDirectory() as folder:
        for layer in (name for name in LAYERS if name.startswith(options.only)):
            for stage in (options.stage,) if options.stage else STAGES:
                r = row(layer, stage, options.repeats, Path(folder))
                found.append(r)
                print(
                    f"{layer:24} {stage:8} {r.best_c:18} {r.c:6.1f} {r.torch_nchw:6.1f} {r.torch_channels_last:6.1f}"
                    f" {r.numpy_im2col:6.1f} {r.ratio:6.2f}   {r.rates}",
                    flush=True,
                )
    if options.record:
        recording.write("c_kernels", "10^9 operations a second, median", rows=recording.table(found))


if __name__ == "__main__":
    main()
