"""Times a whole step of an emitted program, call by call, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from backends.numpy_mpi.timing.inside import FIRST, LOAD, Call
from backends.numpy_mpi.timing.process import THREADS

__all__ = ["LOAD", "Call", "Step", "beside", "time_step"]

WARM = FIRST
"""First steps that do not count."""


@dataclass(frozen=True, slots=True)
class Step:
    """Median seconds of a step, of its calls, in order, and of what is in no call; `steps` were counted.

    What disturbs a step does so in one call or another, so that the calls' medians add up to less than the step's.
    """

    seconds: float
    calls: tuple[Call, ...]
    besides: float
    steps: int


def beside(readings: str, folder: str) -> list[str]:
    """The command, but for the program's arguments, that runs a program of one rank with readings of the machine's
    speed beside it, which are written to a file."""
    return [sys.executable, "-I", str(Path(__file__).with_name("beside.py")), readings, folder]


def time_step(folder: str, root: str, steps: int, threads: int = 1, *, timeout: float | None = None) -> Step:
    """Run the program of one rank in a folder for so many steps that count; `root` is where its data's paths start.

    RuntimeError with the last line that it wrote where it fails, subprocess.TimeoutExpired where it does not end.
    """
    worker = Path(__file__).with_name("inside.py")
    command = [sys.executable, "-I", str(worker), folder, root, str(WARM + steps)]
    environment = {**os.environ, **dict.fromkeys(THREADS, str(threads))}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1])
    found = [(seconds, [Call(*call) for call in calls]) for seconds, calls in json.loads(done.stdout.splitlines()[-1])]
    return of_steps(found[WARM:])


def of_steps(found: list[tuple[float, list[Call]]]) -> Step:
    """The medians of steps that make the same calls as the last one does."""
    names = [call.name for call in found[-1][1]]
    alike = [(seconds, calls) for seconds, calls in found if [call.name for call in calls] == names]
    columns = zip(*(calls for _, calls in alike), strict=True)
    calls = tuple(column[-1]._replace(seconds=median(call.seconds for call in column)) for column in columns)
    besides = median(seconds - sum(call.seconds for call in made) for seconds, made in alike)
    return Step(median(seconds for seconds, _ in alike), calls, besides, len(alike))
