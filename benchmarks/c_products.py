"""CPU seconds of what is made of products of matrices, in C, beside the NumPy kernels and PyTorch in the same run.

    python -m benchmarks.c_products [--repeats 9] [--only lstm] [--record]

One thread, float32; all take turns, round by round, so that a busy machine slows them alike. PyTorch runs its modules
for LSTM, GRU and attention, `linear` and layer normalisation; a backward pass gives the gradients of the input and of
all weights, so passes that are kernels of their own here are added up. The ratio is our median to PyTorch's: below 1
the functions here are faster. `--record` writes benchmarks/records/c_products.json.
"""

from __future__ import annotations

import ctypes
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from statistics import median
from time import thread_time
from typing import Any

from benchmarks import recording

ROOT = Path(__file__).resolve().parent.parent
Call = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """An op on x [batch, seq, width], with its arguments."""

    op: str
    batch: int
    seq: int
    width: int
    args: dict[str, Any]

    def __str__(self) -> str:
        told = ", ".join(f"{name} {value}" for name, value in self.args.items())
        return f"{self.op} {self.batch}x{self.seq}x{self.width} {told}".strip()


CASES = (
    Case("lstm", 20, 35, 650, {"hidden": 650, "layers": 2}),
    Case("lstm", 32, 64, 256, {"hidden": 256}),
    Case("gru", 32, 128, 64, {"hidden": 256}),
    Case("gru", 4, 64, 64, {"hidden": 512}),
    Case("attention", 4, 128, 512, {"heads": 8}),
    Case("attention", 2, 512, 512, {"heads": 8}),
    Case("layernorm", 4, 128, 512, {}),
    Case("linear", 4, 128, 512, {"features": 2048}),
    Case("linear", 1, 32, 64, {"features": 128}),
    Case("linear", 1, 4, 2048, {"features": 1000}),
    Case("linear", 1, 4, 25088, {"features": 4096}),
    Case("linear", 1, 16, 9216, {"features": 4096}),
)


@dataclass(frozen=True)
class Row:
    """Median CPU times of one pass in milliseconds; `ratio` is ours to PyTorch's, 0 where it is not installed."""

    case: str
    stage: str
    c: float
    numpy: float
    torch: float
    ratio: float


def rows(case: Case, repeats: int, folder: Path) -> Iterator[Row]:
    """Forward and backward pass."""
    ours, others = kernel_calls(case, folder), torch_calls(case)
    for stage, (compiled, plain) in ours.items():
        calls = [compiled, plain, *([others[stage]] if others else [])]
        times: list[list[float]] = [[] for _ in calls]
        for turn in range(repeats + 2):
            for call, found in zip(calls, times, strict=True):
                start = thread_time()
                call()
                found.extend([thread_time() - start] if turn > 1 else [])
        c, numpy, *torch = (1e3 * median(found) for found in times)
        yield Row(str(case), stage, c, numpy, *torch or [0.0], c / torch[0] if torch else 0.0)


def kernel_calls(case: Case, folder: Path) -> dict[str, tuple[Call, Call]]:
    """The functions of C, and the NumPy kernels, with arrays as an emitted program hands them in."""
    import numpy as np

    from backends.numpy_mpi.c.general import GENERAL
    from backends.numpy_mpi.kernels import KERNELS
    from dlc.ir.schema import given
    from dlc.ir.tensor import tensor
    from dlc.ops import operator
    from tests.c.building import build, runnable
    from tests.kernels.calling import Op, kernel

    known = operator(case.op)
    assert known is not None
    op = Op(known, (tensor("f32", batch=case.batch, seq=case.seq, width=case.width),), case.args)
    rng, target = np.random.default_rng(0), runnable()[0]
    arrays = {role: rng.uniform(-0.04, 0.04, t.shape).astype(np.float32) for role, t in op.types.items()}
    attrs = dict(op.inferred.attrs)
    passes = {"forward": (*op.inputs, *op.outputs)}
    passes |= {g.suffix: (*op.needs(g), *(f"d{r}" for r in given(g, op.roles))) for g in known.gradients}
    made = [make(target, "f32") for (name, stage, _), make in GENERAL.items() if name == case.op and stage in passes]
    into = folder / str(case).replace(" ", "_").replace(",", "")
    into.mkdir()
    library = build(made, target, ("f32",), into)

    def plain(stage: str) -> Call:
        function, operands = kernel(case.op, stage), [arrays[role] for role in passes[stage]]
        return lambda: function(*operands, **attrs)

    def compiled(stage: str) -> Call:
        entry, operands = KERNELS[case.op, stage, ""], [arrays[role] for role in passes[stage]]
        bindings = import_module(f"backends.numpy_mpi.kernels.c_{entry.module}")
        binding = getattr(bindings, entry.function, None)
        numbers = binding(*operands, **attrs) if binding else None
        if numbers is None:
            return plain(stage)
        scratch = np.empty(max(1, numbers.scratch), np.float32)
        passed = [*operands[: numbers.arrays], *([scratch] if numbers.scratch else [])]
        values = [ctypes.c_double(v) if isinstance(v, float) else ctypes.c_long(v) for v in numbers.values]
        arguments = [*(ctypes.c_void_p(array.ctypes.data) for array in passed), *values]
        function = library[numbers.name or f"{entry.function}_f32"]
        return lambda: (function(*arguments), passed)

    back = [stage for stage in passes if stage != "forward"]
    return {
        "forward": (compiled("forward"), plain("forward")),
        "backward": (together([compiled(stage) for stage in back]), together([plain(stage) for stage in back])),
    }


def together(calls: list[Call]) -> Call:
    """One call after the other."""
    return lambda: [call() for call in calls]


def torch_calls(case: Case) -> dict[str, Call]:
    """PyTorch's module; nothing where it is not installed."""
    try:
        import torch
    except ImportError:
        return {}
    torch.set_num_threads(1)
    width, args = case.width, case.args
    module: Any = {
        "lstm": lambda: torch.nn.LSTM(width, args["hidden"], args.get("layers", 1), batch_first=True),
        "gru": lambda: torch.nn.GRU(width, args["hidden"], args.get("layers", 1), batch_first=True),
        "attention": lambda: torch.nn.MultiheadAttention(width, args["heads"], batch_first=True),
        "layernorm": lambda: torch.nn.LayerNorm(width),
        "linear": lambda: torch.nn.Linear(width, args["features"]),
    }[case.op]()
    x = torch.randn(case.batch, case.seq, width, requires_grad=True)

    def forward() -> Any:
        made = module(x, x, x, need_weights=False) if case.op == "attention" else module(x)
        return made[0] if isinstance(made, tuple) else made

    y = forward()
    dy, asked = torch.randn_like(y), (x, *module.parameters())
    return {"forward": forward, "backward": lambda: torch.autograd.grad(y, asked, dy, retain_graph=True)}


def main() -> None:
    options = recording.options_of_kernels(__doc__, "cases").parse_args()
    sys.path.insert(0, str(ROOT))
    found = []
    print(f"{'':44} {'pass':8} {'C':>9} {'NumPy':>9} {'torch':>9} {'ratio':>6}")
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            if not case.op.startswith(options.only):
                continue
            for row in rows(case, options.repeats, Path(folder)):
                found.append(row)
                print(
                    f"{row.case:44} {row.stage:8} {row.c:9.3f} {row.numpy:9.3f} {row.torch:9.3f} {row.ratio:6.2f}",
                    flush=True,
                )
    if options.record:
        recording.write("c_products", "milliseconds of CPU time, median", rows=recording.table(found))


if __name__ == "__main__":
    main()
