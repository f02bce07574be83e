"""Batch norm, pools, conversions and joins in generated C, in NHWC on one thread, against NumPy's kernels and PyTorch.

    python -m benchmarks.c_passes [--repeats 9] [--only bn] [--record]

They do little with what they read, so a copy of x is shown too. All ways take turns, call by call. Times are CPU
microseconds of the one thread that works, medians; `ratio` is C's time over that of PyTorch in channels_last.
`--record` writes benchmarks/records/c_passes.json.
"""

from __future__ import annotations

import ctypes
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import recording
from benchmarks.c_kernels import ROOT, Calls, in_turns

BN = {"group": 64, "eps": 1e-5, "layout": "NHWC"}
HALF = {"window": (3, 3), "stride": (2, 2), "pad": ((1, 1), (1, 1)), "layout": "NHWC"}
SAME = HALF | {"stride": (1, 1)}

CASES: dict[str, tuple[tuple[str, str, str], tuple[int, int, int], dict[str, Any]]] = {
    **{
        f"bn {stage} {n}x{channels}x{extent}": (("bn", stage, ""), (n, channels, extent), BN | {"count": n})
        for stage in ("forward", "dx")
        for n, channels, extent in (
            (8, 64, 112),
            (8, 64, 56),
            (8, 128, 28),
            (8, 256, 14),
            (8, 512, 7),
            (4, 1024, 14),
            (4, 2048, 7),
        )
    },
    **{
        f"{op} {stage} {n}x{channels}x{extent}": ((op, stage, ""), (n, channels, extent), told)
        for op in ("maxpool", "avgpool")
        for stage in ("forward", "dx")
        for n, channels, extent, told in ((8, 64, 112, HALF), (8, 192, 28, SAME), (8, 480, 14, SAME))
    },
    **{
        f"convert to {target} 8x64x56": (("convert", "forward", ""), (8, 64, 56), {"source": "NHWC", "target": target})
        for target in ("NCHW", "CHWN")
    },
    "concat forward 8x64x56": (("concat", "forward", "2"), (8, 64, 56), {"axis": 1, "layout": "NHWC"}),
}
"""Kernels, extents of x (batch, channels, rows and columns), what kernels are told."""


@dataclass(frozen=True)
class Row:
    """Times of one kernel in microseconds; 0 where there is no such call."""

    kernel: str
    c: float
    numpy: float
    torch: float
    copy: float
    ratio: float


def row(name: str, repeats: int, folder: Path) -> Row:
    key, extents, told = CASES[name]
    arrays, x = drawn(key, extents, told)
    calls = c_call(key, arrays, told, folder) | numpy_call(key, arrays, told) | {"copy": x.copy}
    calls |= torch_call(key, arrays, told)
    times = {way: 1e6 * median(found) for way, found in in_turns(calls, repeats).items()}
    torch = times.get("torch", 0.0)
    return Row(name, times["c"], times["numpy"], torch, times["copy"], times["c"] / torch if torch else 0.0)


def drawn(key: tuple[str, str, str], extents: tuple[int, int, int], told: dict[str, Any]) -> tuple[list[Any], Any]:
    """The kernel's arrays, and x."""
    import numpy as np

    rng, (n, channels, extent), (op, stage, _) = np.random.default_rng(0), extents, key
    x = rng.standard_normal((n, extent, extent, channels), dtype=np.float32)
    per_channel = [rng.random(channels, dtype=np.float32) + 0.5 for _ in range(6)]
    if op == "bn":
        tables = [each[None] for each in per_channel[4:]]
        if stage == "forward":
            return [x, *per_channel[:4], x.copy(), *tables], x
        return [x.copy(), x, per_channel[0], *tables, x.copy(), *per_channel[2:4]], x
    if op == "convert":
        return [x, np.empty([x.shape["NHWC".index(axis)] for axis in told["target"]], x.dtype)], x
    if op == "concat":
        return [x, x.copy(), np.empty((*x.shape[:3], 2 * channels), np.float32)], x
    out = (extent + 2 - 3) // told["stride"][0] + 1
    y = rng.standard_normal((n, out, out, channels), dtype=np.float32)
    if op == "maxpool":
        indices = rng.integers(0, 9, y.shape, np.int32)
        return ([x, y, indices] if stage == "forward" else [y, indices, x]), x
    return ([x, y] if stage == "forward" else [y, x]), x


def c_call(key: tuple[str, str, str], arrays: list[Any], told: dict[str, Any], folder: Path) -> Calls:
    """The generated function, built alone and told what its binding tells."""
    import numpy as np

    from backends.numpy_mpi.c.general import GENERAL
    from backends.numpy_mpi.kernels import KERNELS
    from tests.c.building import build, runnable

    kernel, target = KERNELS[(*key[:2], "")], runnable()[0]
    made = GENERAL[key](target, "f32")
    into = folder / made.name
    into.mkdir(exist_ok=True)
    library = build([made], target, ("f32",), into)
    numbers = getattr(import_module(f"backends.numpy_mpi.kernels.c_{kernel.module}"), kernel.function)(*arrays, **told)
    passed = [*arrays, *([np.empty(numbers.scratch, np.float32)] if numbers.scratch else [])]
    values = [(ctypes.c_double if isinstance(v, float) else ctypes.c_long)(v) for v in numbers.values]
    pointers, function = [ctypes.c_void_p(array.ctypes.data) for array in passed], library[made.name]
    return {"c": lambda: (function(*pointers, *values), passed)}


def numpy_call(key: tuple[str, str, str], arrays: list[Any], told: dict[str, Any]) -> Calls:
    from tests.kernels.calling import kernel

    function = kernel(*key[:2])
    return {"numpy": lambda: function(*arrays, **told)}


def torch_call(key: tuple[str, str, str], arrays: list[Any], told: dict[str, Any]) -> Calls:
    """PyTorch's kernel on images in channels_last; nothing where it is not installed."""
    try:
        import torch
    except ImportError:
        return {}
    torch.set_num_threads(1)
    aten = torch.ops.aten
    tensors = [torch.from_numpy(a).permute(0, 3, 1, 2) if a.ndim == 4 else torch.from_numpy(a) for a in arrays]
    op, stage, _ = key
    window = [list(told[name]) for name in ("window", "stride")] + [[1, 1]] if "window" in told else []
    x = tensors[-1 if stage == "dx" else 0]
    made: dict[tuple[str, str], Callable[[], object]] = {
        ("bn", "forward"): lambda: aten.native_batch_norm(*tensors[:5], True, 0.1, 1e-5),
        ("bn", "dx"): lambda: aten.native_batch_norm_backward(
            *tensors[:3], tensors[6], tensors[7], tensors[3][0], tensors[4][0], True, 1e-5, [True] * 3
        ),
        ("maxpool", "forward"): lambda: aten.max_pool2d_with_indices(x, *window),
        ("maxpool", "dx"): lambda: aten.max_pool2d_with_indices_backward(
            tensors[0], x, *window, [1, 1], False, positions
        ),
        ("avgpool", "forward"): lambda: aten.avg_pool2d(x, *window),
        ("avgpool", "dx"): lambda: aten.avg_pool2d_backward(tensors[0], x, *window, False, True, None),
        ("convert", "forward"): lambda: (
            x.contiguous() if told["target"] == "NCHW" else x.permute(1, 2, 3, 0).contiguous()
        ),
        ("concat", "forward"): lambda: torch.cat(tensors[:2], 1),
    }
    positions = aten.max_pool2d_with_indices(x, *window)[1] if op == "maxpool" else None
    return {"torch": made[op, stage]}


def main() -> None:
    options = recording.options_of_kernels(__doc__, "kernels").parse_args()
    sys.path.insert(0, str(ROOT))
    found = []
    print(f"{'kernel':28} {'C':>8} {'numpy':>9} {'torch':>8} {'copy':>8} {'ratio':>6}")
    with tempfile.TemporaryDirectory() as folder:
        for name in (name for name in CASES if name.startswith(options.only)):
            r = row(name, options.repeats, Path(folder))
            found.append(r)
            print(f"{name:28} {r.c:8.0f} {r.numpy:9.0f} {r.torch:8.0f} {r.copy:8.0f} {r.ratio:6.2f}", flush=True)
    if options.record:
        recording.write("c_passes", "microseconds, median", rows=recording.table(found))


if __name__ == "__main__":
    main()
