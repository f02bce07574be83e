"""Times jobs on a GPU in a process of their own."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from backends.cupy_mpi.timing.jobs import Job, bytes_of, folder_of, runtime_of_gpus

PORTION = 6 * 2**30
"""Bytes of the arrays of jobs that take turns, at most."""

EMULATED = "DLC_EMULATE"


class GpuError(RuntimeError):
    """There is no GPU, or the process that times on it fails; the text says which."""


@dataclass(frozen=True, slots=True)
class GpuTiming:
    """What a job took: the median of its rounds in seconds, and half of the distance of their quartiles over it.

    `wrong` says why it was not timed; `on_processor`: CUDA has no code for this call, and NumPy's worked on copies.
    """

    job: Job
    seconds: float = 0.0
    spread: float = 0.0
    rounds: int = 0
    on_processor: bool = False
    wrong: str = ""


def time_on_gpu(
    jobs: Sequence[Job], *, rounds: int = 9, seconds: float = 5.0, timeout: float = 120.0, emulate: str = ""
) -> Iterator[GpuTiming]:
    """Time jobs that take turns, in the order given: at most so many rounds and at least 3, in about so many seconds.

    With `emulate`, `numpy` or `cuda`, the processor stands for the GPU as in emitted programs.

    GpuError where there is no GPU, or the process fails or does not end.
    """
    if not jobs:
        return
    with tempfile.TemporaryDirectory(prefix="dlc-gpu-timing-") as folder:
        made = folder_of(jobs)
        told = [(kind, values, bytes_of(job)) for (kind, values), job in zip(made.told, jobs, strict=True)]
        _write(Path(folder), {**made.files, "jobs.pickle": pickle.dumps(told)})
        lines = _said(folder, ("time", str(rounds), str(seconds), str(PORTION)), timeout, emulate)
    for job, line in zip(jobs, lines, strict=True):
        if "wrong" in line:
            yield GpuTiming(job, wrong=line["wrong"])
        else:
            yield _timing(job, line["seconds"], line["on_processor"])


def properties(*, emulate: str = "", timeout: float = 60.0) -> dict[str, str]:
    """What tells this GPU from others: its name, multiprocessors, memory, and what drives it. GpuError without one."""
    with tempfile.TemporaryDirectory(prefix="dlc-gpu-timing-") as folder:
        _write(Path(folder), runtime_of_gpus())
        (line,) = _said(folder, ("properties",), timeout, emulate)
    return {str(name): str(value) for name, value in line.items()}


def _timing(job: Job, taken: Sequence[float], on_processor: bool) -> GpuTiming:
    ordered, middle = sorted(taken), median(taken)
    low, high = ordered[len(ordered) // 4], ordered[-1 - len(ordered) // 4]
    return GpuTiming(job, middle, (high - low) / (2 * middle) if middle else 0.0, len(ordered), on_processor)


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _said(folder: str, words: Sequence[str], timeout: float, emulate: str) -> list[Any]:
    """The lines of JSON that a worker writes."""
    command = [sys.executable, "-P", str(Path(__file__).with_name("worker.py")), folder, *words]
    environment = {**os.environ, **({EMULATED: emulate} if emulate else {})}
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        raise GpuError(f"timing was not done within {timeout:.0f} s") from None
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.strip()]
        told = next((line for line in errors if line.startswith("error")), errors[-1] if errors else "it says nothing")
        raise GpuError(told.removeprefix("error: "))
    return [json.loads(line) for line in done.stdout.splitlines()]
