"""Times of recurrent networks, forward and backward, beside PyTorch's in the same run.

    python -m benchmarks.recurrent [--threads 1] [--repeats 15] [--only lstm] [--record]

Both compute all states of the sequence and all gradients, that of the input too, and take turns, round by round, so
that a busy machine slows them alike. The ratio is PyTorch's median time to this one's: above 1 the kernels here are
faster. In float32 PyTorch hands an LSTM to oneDNN; everything else is ATen's own. `--record` writes
benchmarks/records/recurrent.json.
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


@dataclass(frozen=True)
class Setting:
    """One network: width is that of its input."""

    op: str
    batch: int
    seq: int
    width: int
    hidden: int
    layers: int = 1
    bidirectional: bool = False
    dtype: str = "f32"

    def __str__(self) -> str:
        more = f" x{self.layers}" if self.layers > 1 else ""
        ways = " both directions" if self.bidirectional else ""
        return f"{self.op} {self.width}-{self.hidden}{more}{ways}, batch {self.batch}, seq {self.seq}, {self.dtype}"


SETTINGS = (
    *(Setting(op, 32, 64, 256, 256) for op in ("rnn", "lstm", "gru")),
    *(Setting(op, 32, 64, 256, 256, dtype="f64") for op in ("rnn", "lstm", "gru")),
    *(Setting(op, 16, 32, 128, 128) for op in ("lstm", "gru")),
    *(Setting(op, 16, 64, 256, 256, layers=2, bidirectional=True) for op in ("lstm", "gru")),
    *(Setting(op, 4, 64, 64, 512) for op in ("lstm", "gru")),
)


@dataclass(frozen=True)
class Row:
    """Median times of one pass in milliseconds; `ratio` is PyTorch's to ours, 0 where it is not installed."""

    setting: str
    stage: str
    milliseconds: float
    torch: float
    ratio: float
    gflops: float


def rows(setting: Setting, repeats: int) -> Iterator[Row]:
    """Forward and backward pass."""
    calls, macs = kernel_calls(setting)
    others = torch_calls(setting)
    for stage, call in calls.items():
        found = in_turns([call, others[stage]] if others else [call], repeats)
        ours, theirs = median(found[0]), median(found[-1]) if others else 0.0
        yield Row(str(setting), stage, 1e3 * ours, 1e3 * theirs, theirs / ours, 2e-9 * macs[stage] / ours)


def in_turns(calls: list[Call], repeats: int) -> list[list[float]]:
    """Seconds of each call, round by round, after two rounds to warm up."""
    times: list[list[float]] = [[] for _ in calls]
    for turn in range(repeats + 2):
        for call, found in zip(calls, times, strict=True):
            start = perf_counter()
            call()
            if turn > 1:
                found.append(perf_counter() - start)
    return times


def kernel_calls(setting: Setting) -> tuple[dict[str, Call], dict[str, int]]:
    """The kernels with arrays as an emitted program hands them in, and their multiply-adds."""
    import numpy as np

    from dlc.ir.tensor import tensor
    from dlc.ops import operator
    from tests.kernels.calling import DTYPES, Op, kernel

    operator_ = operator(setting.op)
    assert operator_ is not None
    x = tensor(setting.dtype, batch=setting.batch, seq=setting.seq, width=setting.width)
    arguments = {"hidden": setting.hidden, "layers": setting.layers, "bidirectional": setting.bidirectional}
    op = Op(operator_, (x,), arguments)
    rng, dtype, (gradient,) = np.random.default_rng(0), DTYPES[setting.dtype], operator_.gradients
    bound = setting.hidden**-0.5
    arrays = {role: rng.uniform(-bound, bound, type_.shape).astype(dtype) for role, type_ in op.types.items()}
    gives = tuple(f"d{role}" for role in op.inputs)

    def call(stage: str, roles: tuple[str, ...]) -> Call:
        function = kernel(setting.op, stage)
        return lambda: function(*(arrays[role] for role in roles), **dict(op.inferred.attrs))

    calls = {
        "forward": call("forward", (*op.inputs, *op.outputs)),
        "backward": call("dx", (*op.needs(gradient), *gives)),
    }
    macs = {stage: operator_.cost(p, op.shapes(p)).macs for stage, p in (("forward", "forward"), ("backward", "dx"))}
    return calls, macs


def torch_calls(setting: Setting) -> dict[str, Call]:
    """PyTorch's module; nothing where it is not installed."""
    try:
        import torch
    except ImportError:
        return {}
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    module = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[setting.op]
    dtype = {"f32": torch.float32, "f64": torch.float64}[setting.dtype]
    net: Any = module(
        setting.width,
        setting.hidden,
        setting.layers,
        batch_first=True,
        bidirectional=setting.bidirectional,
        dtype=dtype,
    )
    x = torch.randn(setting.batch, setting.seq, setting.width, dtype=dtype, requires_grad=True)
    y, _ = net(x)
    dy, asked = torch.randn_like(y), (x, *net.parameters())
    return {
        "forward": lambda: net(x),
        "backward": lambda: torch.autograd.grad(y, asked, dy, retain_graph=True),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--only", choices=("rnn", "lstm", "gru"))
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(options.threads)
    sys.path.insert(0, str(ROOT))
    found = []
    print(f"{'':52} {'pass':8} {'ms':>9} {'torch':>9} {'ratio':>6} {'GFLOP/s':>8}")
    for setting in SETTINGS:
        if options.only not in (None, setting.op):
            continue
        for row in rows(setting, options.repeats):
            found.append(row)
            print(
                f"{row.setting:52} {row.stage:8} {row.milliseconds:9.2f} {row.torch:9.2f} {row.ratio:6.2f}"
                f" {row.gflops:8.1f}",
                flush=True,
            )
    if options.record:
        recording.write("recurrent", "milliseconds, median", threads=options.threads, rows=recording.table(found))


if __name__ == "__main__":
    main()
