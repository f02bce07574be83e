"""Activations, sums, losses and updates in generated C against NumPy's kernels and PyTorch, on one thread, in float32.

    python -m benchmarks.c_elementwise [--repeats 9] [--only softmax] [--record]

C is called as emitted programs call it, through the dispatcher. The ways take turns, call by call; times are CPU
microseconds, medians. PyTorch's calls allocate their results, as its programs do. `over_numpy` and `over_torch` are the
time of C over theirs. `--record` writes benchmarks/records/c_elementwise.json.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import recording
from benchmarks.c_kernels import ROOT, in_turns

Key = tuple[str, str, str]


@dataclass(frozen=True)
class Case:
    """A kernel with its arrays, and what PyTorch has for it; one function can be several cases."""

    label: str
    key: Key
    arrays: list[Any]
    told: dict[str, Any]
    torch: Callable[[], object] | None


@dataclass(frozen=True)
class Row:
    """Times of one case; a ratio is 0 where there is nothing to compare with."""

    case: str
    c: float
    numpy: float
    torch: float
    over_numpy: float
    over_torch: float


def cases(torch: Any) -> Iterator[Case]:
    """Of the sizes that layers of ResNet-18, AlexNet and the Transformer have."""
    import numpy as np

    rng = np.random.default_rng(0)

    def drawn(count: int, *shape: int) -> Any:
        return rng.random((count, *shape)).astype(np.float32) + np.float32(0.25)

    x, dy, y, z = drawn(4, 8 * 64 * 56 * 56)
    tx, ty, tz = (torch.from_numpy(each) if torch else None for each in (x, dy, z))
    aten = torch.ops.aten if torch else None
    yield Case("relu forward", ("relu", "forward", ""), [x, y], {}, lambda: torch.relu(tx))
    yield Case("relu dx", ("relu", "dx", ""), [dy, z, y], {}, lambda: aten.threshold_backward(ty, tz, 0))
    yield Case("tanh forward", ("tanh", "forward", ""), [x, y], {}, lambda: torch.tanh(tx))
    yield Case("sigmoid forward", ("sigmoid", "forward", ""), [x, y], {}, lambda: torch.sigmoid(tx))
    for form in ("none", "tanh"):
        told = {"approximate": form}
        yield Case(
            f"gelu {form} forward",
            ("gelu", "forward", ""),
            [x, y],
            told,
            lambda f=form: aten.gelu(tx, approximate=f),
        )
    yield Case("add forward", ("add", "forward", ""), [x, dy, y], {}, lambda: torch.add(tx, ty))
    yield Case("sgd update", ("sgd", "update", ""), [x, dy, z], {"lr": 1e-9, "momentum": 0.9}, None)
    yield Case("adam update", ("adam", "update", ""), [x, dy, z, y], {"lr": 1e-9, "step": 9}, None)
    for rows, classes in ((64, 10), (16, 1000), (4096, 512)):
        logits, p = drawn(2, rows, classes)
        label, loss = rng.integers(0, classes, rows).astype(np.int32), np.zeros((), np.float32)
        tl, tt = (torch.from_numpy(logits), torch.from_numpy(label.astype(np.int64))) if torch else (None, None)
        name = f"{rows} rows of {classes}"
        yield Case(
            f"softmax {name}", ("softmax", "forward", ""), [logits, p], {"axis": 1}, lambda t=tl: torch.softmax(t, 1)
        )
        yield Case(
            f"cross_entropy {name}",
            ("cross_entropy", "forward", ""),
            [logits, label, loss, p],
            {"count": rows},
            lambda t=tl, u=tt: torch.nn.functional.cross_entropy(t, u),
        )
    image, norm, base = drawn(3, 16, 27, 27, 96)
    first = torch.from_numpy(image).permute(0, 3, 1, 2).contiguous() if torch else None
    yield Case(
        "lrn forward, 96 channels",
        ("lrn", "forward", ""),
        [image, norm, base],
        {"size": 5, "alpha": 1e-4, "beta": 0.75, "k": 2.0, "layout": "NHWC"},
        lambda: torch.nn.functional.local_response_norm(first, 5, k=2.0),
    )
    hidden, dropped = drawn(2, 16, 4096)
    th, mask = torch.from_numpy(hidden) if torch else None, np.zeros(hidden.shape, np.uint8)
    yield Case(
        "dropout forward",
        ("dropout", "forward", ""),
        [hidden, dropped, mask],
        {"p": 0.5, "key": (1, 2), "step": 3, "position": 0},
        lambda: torch.dropout(th, 0.5, True),
    )


def kernels(keys: set[Key], folder: Path) -> dict[Key, tuple[Any, Any]]:
    """(op, pass, variant) -> the kernel in C and NumPy's."""
    import numpy as np

    from backends.numpy_mpi.c.general import GENERAL
    from backends.numpy_mpi.c.source import file_text
    from backends.numpy_mpi.kernels import KERNELS
    from backends.numpy_mpi.kernels.dispatch import kernels_of
    from tests.c.building import runnable

    target = runnable()[0]
    source = folder / "kernels.c"
    source.write_text(file_text(target, ("f32",), (GENERAL[key](target, "f32") for key in sorted(keys))))
    known, found = kernels_of(source, np.float32), {}
    for key in keys:
        entry = KERNELS[key]
        numpy, binding = (
            getattr(import_module(f"backends.numpy_mpi.kernels.{module}"), entry.function)
            for module in (entry.module, f"c_{entry.module}")
        )
        found[key] = known.replace(numpy, binding), numpy
    return found


def row(case: Case, known: dict[Key, tuple[Any, Any]], torch: Any, repeats: int) -> Row:
    """Medians of all ways."""
    c, numpy = known[case.key]
    calls: dict[str, Callable[[], object]] = {
        "c": lambda: c(*case.arrays, **case.told),
        "numpy": lambda: numpy(*case.arrays, **case.told),
    }
    if torch and case.torch:
        calls["torch"] = case.torch
    times = {name: 1e6 * median(each) for name, each in in_turns(calls, repeats).items()}
    peer = times.get("torch", 0.0)
    return Row(
        case.label, times["c"], times["numpy"], peer, times["c"] / times["numpy"], times["c"] / peer if peer else 0.0
    )


def main() -> None:
    options = recording.options_of_kernels(__doc__, "cases").parse_args()
    sys.path.insert(0, str(ROOT))
    try:
        import torch

        torch.set_num_threads(1)
    except ImportError:
        torch = None
    chosen = [case for case in cases(torch) if case.label.startswith(options.only)]
    found = []
    print(f"{'case':36} {'C us':>9} {'NumPy us':>9} {'torch us':>9} {'/NumPy':>7} {'/torch':>7}")
    with tempfile.TemporaryDirectory() as folder:
        known = kernels({case.key for case in chosen}, Path(folder))
        for case in chosen:
            r = row(case, known, torch, options.repeats)
            found.append(r)
            print(f"{r.case:36} {r.c:9.1f} {r.numpy:9.1f} {r.torch:9.1f} {r.over_numpy:7.2f} {r.over_torch:7.2f}")
    if options.record:
        recording.write("c_elementwise", "CPU microseconds, median", rows=recording.table(found))


if __name__ == "__main__":
    main()
