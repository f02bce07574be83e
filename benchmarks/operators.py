"""Times of every operator's kernels in float32, forward and all gradients, beside PyTorch's in the same run.

    python -m benchmarks.operators [--threads 1] [--repeats 25] [--only softmax] [--record]

PyTorch runs the reference of tests/operators eagerly, and autograd. Both take turns, round by round, so that a busy
machine slows them alike. The ratio is PyTorch's median time to this one's: above 1 the kernels here are faster.
Convolutions and recurrent networks have benchmarks of their own, with their algorithms. `--record` writes
benchmarks/records/operators.json.
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
Call = Callable[[], object]

IMAGE = {"batch": 16, "channel": 64, "height": 28, "width": 28}
TEXT = {"batch": 8, "seq": 128, "width": 256}
SCORES = {"batch": 4, "heads": 8, "seq": 128, "key": 128}
LOGITS = {"batch": 256, "feature": 1000}
TOKENS = {"batch": 32, "seq": 128}

SETTINGS: dict[str, tuple[tuple[dict[str, int], ...], dict[str, Any]]] = {
    "conv": ((IMAGE,), {"filters": 64, "window": 3}),
    "conv/1x1": ((IMAGE,), {"filters": 128, "window": 1}),
    "depthwise_conv": ((IMAGE,), {"window": 3}),
    "conv_transpose": ((IMAGE,), {"filters": 32, "window": 2, "stride": 2}),
    "local_conv": (({**IMAGE, "channel": 16},), {"filters": 16, "window": 3}),
    "maxpool": ((IMAGE,), {"window": 2}),
    "maxpool/3x3": ((IMAGE,), {"window": 3, "stride": 2, "pad": 1}),
    "avgpool": ((IMAGE,), {"window": 2}),
    "global_avgpool": ((IMAGE,), {}),
    "global_maxpool": ((IMAGE,), {}),
    "upsample": ((IMAGE,), {"factor": 2}),
    "upsample/linear": ((IMAGE,), {"factor": 2, "mode": "linear"}),
    "bn": ((IMAGE,), {"group": "batch"}),
    "groupnorm": ((IMAGE,), {"groups": 8}),
    "lrn": ((IMAGE,), {}),
    "layernorm": ((TEXT,), {}),
    "rmsnorm": ((TEXT,), {}),
    "linear": ((TEXT,), {"features": 256}),
    "attention": ((TEXT,), {"heads": 8, "causal": True}),
    "split_heads": ((TEXT,), {"heads": 8}),
    "causal_mask": ((SCORES,), {}),
    "matmul": ((SCORES, SCORES), {}),
    "embedding": ((TOKENS,), {"vocab": 5000, "width": 256}),
    "position_embedding": ((TOKENS,), {"width": 256}),
    "lstm": (({"batch": 16, "seq": 32, "width": 128},), {"hidden": 128}),
    "gru": (({"batch": 16, "seq": 32, "width": 128},), {"hidden": 128}),
    "rnn": (({"batch": 16, "seq": 32, "width": 128},), {"hidden": 128}),
    **{op: ((IMAGE,), {}) for op in ("relu", "leaky_relu", "elu", "silu", "hard_swish", "sigmoid", "tanh", "gelu")},
    "gelu/tanh": ((IMAGE,), {"approximate": "tanh"}),
    "dropout": ((IMAGE,), {"p": 0.5}),
    "softmax": ((SCORES,), {}),
    "softmax/channel": ((IMAGE,), {"axis": "channel"}),
    "log_softmax": ((LOGITS,), {}),
    **{op: ((IMAGE, IMAGE), {}) for op in ("add", "sub", "mul", "div")},
    "mul/channel": ((IMAGE, {**IMAGE, "height": 1, "width": 1}), {}),
    "concat": ((IMAGE, IMAGE), {"axis": "channel"}),
    "split": ((IMAGE,), {"n": 2, "axis": "channel"}),
    "slice": ((IMAGE,), {"axis": "height", "start": 1, "stop": 27}),
    "pad": ((IMAGE,), {"amount": 2}),
    "pad/reflect": ((IMAGE,), {"amount": 2, "mode": "reflect"}),
    "transpose": ((TEXT,), {}),
    "cross_entropy": ((LOGITS, {"batch": 256}), {"smoothing": 0.1}),
    "hinge": ((LOGITS, {"batch": 256}), {}),
    **{op: ((LOGITS, LOGITS), {}) for op in ("mse", "half_mse", "l1", "huber", "bce", "kl", "reconstruction")},
}
"""Name (`op` or `op/variant`) -> the extents of the operands, and arguments."""

INTEGERS = {
    "embedding": ("x", 5000),
    "position_embedding": ("x", 5000),
    "cross_entropy": ("label", 1000),
    "hinge": ("label", 1000),
}
"""Which operand holds integers, and below what number."""


@dataclass(frozen=True)
class Row:
    """Median times in milliseconds of a forward and backward pass; `ratio` is PyTorch's to ours.

    `best_ratio` is that of the fastest rounds: what it is when nothing else runs.
    """

    op: str
    milliseconds: float
    torch_milliseconds: float
    ratio: float
    best_ratio: float


def prepared(name: str) -> tuple[Any, dict[str, Any]]:
    """The op in float32, and its inputs and the gradients of its results by role."""
    import numpy as np

    from dlc import ops
    from dlc.ir.tensor import tensor
    from tests.kernels.calling import Op

    op, (operands, args) = ops.operator(name.partition("/")[0]), SETTINGS[name]
    assert op is not None
    whole, below = INTEGERS.get(op.name, ("", 0))
    types = tuple(
        tensor("i32" if whole == role else "f32", **extents)
        for role, extents in zip(op.operands if not op.variadic else ("x0", "x1"), operands, strict=True)
    )
    algorithm = "im2col" if any(found.name == "im2col" for found in op.algorithms) else ""
    runtime = {"count": operands[0]["batch"], "position": 0, "step": 0}
    made = Op(op, types, args, algorithm=algorithm, runtime={n: v for n, v in runtime.items() if n in op.runtime})
    rng = np.random.default_rng(0)
    known = made.draw(rng)
    if whole:
        known[whole] = rng.integers(0, below, made.types[whole].shape, dtype=np.int32)
    dys = {f"d{role}": rng.standard_normal(made.types[role].shape, dtype=np.float32) for role in made.results}
    return made, known | {role: np.asarray(dy, np.float32) for role, dy in dys.items()}


def kernel_call(op: Any, known: dict[str, Any]) -> Call:
    """All passes of an op, on arrays as an emitted program hands them in."""
    import numpy as np

    from dlc.ir.schema import given
    from tests.kernels.calling import DTYPES, kernel

    held = dict(known)
    passes = [("forward", op.inputs, op.outputs)]
    passes += [(g.suffix, op.needs(g), tuple(f"d{role}" for role in given(g, op.roles))) for g in op.operator.gradients]
    attrs = {**dict(op.inferred.attrs), **op.runtime, **op.layout_keyword()}
    if op.operator.variadic_results:
        attrs["reached"] = tuple(range(len(op.results)))
    if op.operator.name == "dropout":
        attrs["key"] = (1, 2)
    calls = []
    for stage, needs, gives in passes:
        held |= {role: np.zeros(op.types[role].shape, DTYPES[op.types[role].dtype]) for role in gives}
        scratch = [np.zeros(w.type.shape, np.float32) for w in op.workspaces(stage)]
        arrays = (*(held[role] for role in (*needs, *gives)), *scratch)
        calls.append((kernel(op.operator.name, stage, op.algorithm), arrays))

    def call() -> None:
        for function, given_arrays in calls:
            function(*given_arrays, **attrs)

    return call


def torch_call(op: Any, known: dict[str, Any]) -> Call:
    """The reference, forward and backward."""
    import torch

    from tests.operators.cases import references

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    tensors = {role: torch.tensor(known[role], requires_grad=known[role].dtype.kind == "f") for role in op.inputs}
    dys = [torch.tensor(known[f"d{role}"]) for role in op.results]
    attrs = {**dict(op.inferred.attrs), **op.runtime, "training": True}
    reference = references()[op.operator.name]
    if op.operator.name == "dropout":  # with its own random numbers, as ours draws some too

        def reference(tensors: Any, attrs: Any) -> Any:
            return torch.nn.functional.dropout(tensors["x"], attrs["p"])

    def call() -> None:
        for tensor in tensors.values():
            tensor.grad = None
        results = reference(tensors, attrs)
        torch.autograd.backward(results if isinstance(results, tuple) else (results,), dys)

    return call


def rows(names: list[str], repeats: int) -> Iterator[Row]:
    """The operators one after the other."""
    for name in names:
        op, known = prepared(name)
        ours, theirs = in_turns((kernel_call(op, known), torch_call(op, known)), repeats)
        middle, their_middle = 1e3 * median(ours), 1e3 * median(theirs)
        yield Row(name, middle, their_middle, their_middle / middle, min(theirs) / min(ours))


def in_turns(calls: tuple[Call, ...], repeats: int) -> tuple[list[float], ...]:
    """Seconds of each call, round by round, after one round to warm up."""
    times: tuple[list[float], ...] = tuple([] for _ in calls)
    for turn in range(repeats + 1):
        for call, taken in zip(calls, times, strict=True):
            start = perf_counter()
            call()
            if turn:
                taken.append(perf_counter() - start)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--only", choices=sorted({name.partition("/")[0] for name in SETTINGS}))
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(options.threads)
    sys.path.insert(0, str(ROOT))
    names = [name for name in SETTINGS if options.only in (None, name.partition("/")[0])]
    found = []
    print(f"{'operator':20} {'ms':>9} {'PyTorch':>9} {'ratio':>7} {'best':>7}")
    for row in rows(names, options.repeats):
        found.append(row)
        print(
            f"{row.op:20} {row.milliseconds:9.3f} {row.torch_milliseconds:9.3f} {row.ratio:7.2f} {row.best_ratio:7.2f}",
            flush=True,
        )
    if options.record:
        recording.write("operators", "milliseconds, median", threads=options.threads, rows=recording.table(found))


if __name__ == "__main__":
    main()
