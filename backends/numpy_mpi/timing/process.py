"""Times cases in processes whose number of threads is set before NumPy is loaded."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import median

from backends.numpy_mpi.timing.cases import Case, folder_of
from dlc.ir.tensor import DTYPE_BYTES

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
MOST_BYTES = 2**30
"""Arrays of cases that take turns have so many bytes at most."""


@dataclass(frozen=True, slots=True)
class Timing:
    """What a case took: the median of its rounds in seconds, and how far these lie apart.

    `spread` is half of the distance between the quartiles over the median; `cold` the median of those calls that find
    the caches as other kernels leave them. One thread's seconds are the processor's, those of several the clock's.
    """

    case: Case
    seconds: float
    spread: float
    rounds: int
    best: float  # of all rounds: what it takes where nothing else runs
    cold: float = 0.0


def time_kernels(cases: Sequence[Case], threads: int = 1, *, rounds: int = 9, seconds: float = 1.0) -> Iterator[Timing]:
    """Time cases that take turns, in the order given; those of one family and element type share a process.

    At most so many rounds are made, and at least 3; between them a process ends when its `seconds` are over, for
    arrays of a gigabyte at most. NoKernelError before anything is timed where a case has no kernel; OSError or
    RuntimeError where a process fails.
    """
    for case in cases:
        case.kernel  # noqa: B018  it is looked for here
    for group in [group for _, several in groupby(cases, _family) for group in _portions(tuple(several))]:
        with tempfile.TemporaryDirectory(prefix="dlc-timing-") as folder:
            _write(group, Path(folder))
            found = _rounds(Path(folder), threads, rounds, seconds)
        for case, pairs in zip(group, zip(*found, strict=True), strict=True):
            taken, first = zip(*pairs, strict=True)
            yield Timing(case, median(taken), _spread(taken), len(taken), min(taken), median(first))


def _family(case: Case) -> tuple[str, str]:
    return case.kernels, case.dtype


def _portions(cases: Sequence[Case]) -> Iterator[tuple[Case, ...]]:
    """Cases in a row whose arrays fit together."""
    held, size = list[Case](), 0
    for case in cases:
        own = sum(t.elements * DTYPE_BYTES[t.dtype] for t in (*case.shapes.inputs, *case.shapes.outputs))
        if held and size + own > MOST_BYTES:
            yield tuple(held)
            held, size = [], 0
        held.append(case)
        size += own
    if held:
        yield tuple(held)


def _write(cases: Sequence[Case], folder: Path) -> None:
    made = folder_of(cases)
    calls = [(call.module, call.function, [tuple(a) for a in call.arrays], call.told) for call in made.calls]
    for name, content in {**made.files, "calls.pickle": pickle.dumps(calls)}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _rounds(folder: Path, threads: int, rounds: int, seconds: float) -> list[list[tuple[float, float]]]:
    """What each call took in each round, and the first one of it; RuntimeError with what a process that failed
    wrote last.
    """
    worker = Path(__file__).with_name("worker.py")
    command = [sys.executable, "-I", str(worker), str(folder), str(threads), str(rounds), str(seconds)]
    environment = {**os.environ, **dict.fromkeys(THREADS, str(threads))}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"timing kernels failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def _spread(taken: Sequence[float]) -> float:
    """Half of the distance between the quartiles, over the median."""
    ordered = sorted(taken)
    low, high = ordered[len(ordered) // 4], ordered[-1 - len(ordered) // 4]
    middle = median(ordered)
    return (high - low) / (2 * middle) if middle else 0.0
