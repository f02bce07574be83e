"""What a step does besides its kernels, measured in the steps of programs that do next to nothing else.

Programs of one rank, with NumPy's kernels, which need no compiler: one of few calls, one of many, one whose arrays
drive Python's own memory out of the caches, and one that reads images which are stored as bytes. Their steps are timed
call by call (`timing.steps`). What is in no call is a straight line over the number of calls. The programs take turns,
and medians over the turns count, as of kernels.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Self

import numpy as np

from backends.numpy_mpi.timing.steps import LOAD, Step, time_step
from dlc.cluster.detect import machine
from dlc.cost.profile import LAST_BYTES, Own
from dlc.driver import Options, emit_files, read
from dlc.folders import write_folder
from dlc.validation import chosen

SPEC = """\
dlspec 1
network chain {{
  input x: f32[batch = 16, feature = {width}]
  y = x -> repeat {depth} {{ relu }} as r -> linear(2)
  output y
}}
train chain {{
  data = synthetic(samples = 64, classes = 2)
  loss = cross_entropy(y, data.label)
  optimizer = sgd()
  lr = constant(0.001)
  epochs = 1
}}
"""

IMAGES = (
    SPEC.replace("feature = {width}", "channel = 1, height = 8, width = 8")
    .replace("x -> repeat", "x -> flatten -> repeat")
    .replace("linear(2)", "linear(10)")
    .replace("synthetic(samples = 64, classes = 2)", "digits(scale = 1)")
)
"""A program like that of few calls, whose samples are stored as bytes."""

READ = 16 * 8 * 8
"""Values that it reads."""

FEW, MANY, DEPTH = 4, 40, 12
"""Activations of the program with few calls, of that with many, and of that with large arrays."""

NARROW, WIDE = 8, 60_000
"""Values of a sample: all arrays of a step in half a kilobyte each, or 4 MB."""

STEPS, WIDE_STEPS = 600, 16

CAST, CASTS, STORED = (48, 900), 20, 32
"""Samples and values of each that are read from bytes, and how often; so many times as many are stored."""

PATIENCE = 60.0
"""Seconds after which one of the programs is given up."""


class OwnWork:
    """The programs, whose steps are timed in turns; `with` makes their folder and removes it.

    OSError, RuntimeError or subprocess.TimeoutExpired where one of them fails.
    """

    def __init__(self) -> None:
        self._turns = list[list[Step]]()
        self._casts = list[tuple[float, float]]()
        self._steps = dict[str, int]()
        self._open = ExitStack()

    def __enter__(self) -> Self:
        folder = self._folder = self._open.enter_context(tempfile.TemporaryDirectory(prefix="dlc-own-"))
        programs = [_program(Path(folder), *each) for each in ((FEW, NARROW), (MANY, NARROW), (DEPTH, WIDE))]
        programs.append(_program(Path(folder), FEW, 64, IMAGES, "images"))
        self._steps = dict(zip(programs, (STEPS, STEPS, WIDE_STEPS, STEPS), strict=True))
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def turned(self) -> Self:
        """It, when all of them have run once."""
        turn = [time_step(each, self._folder, steps, timeout=PATIENCE) for each, steps in self._steps.items()]
        self._turns.append(turn)
        self._casts.append(cast_work())
        return self

    def found(self) -> Own | None:
        """What the turns say by now; None before the first."""
        cast, gather = (median(column) for column in zip(*self._casts, strict=True)) if self._turns else (0.0, 0.0)
        return work_of(self._turns, cast, gather) if self._turns else None


def work_of(turns: Sequence[Sequence[Step]], cast: float = 0.0, gather: float = 0.0) -> Own:
    """What turns of steps with few calls, many, large arrays, and images say, where casting a value, and taking
    it by itself, takes so long."""
    few, many, wide = (median(turn[at].besides for turn in turns) for at in range(3))
    counts = [len(each.calls) for each in turns[0]]
    call = max(0.0, (many - few) / (counts[1] - counts[0]))
    step = max(0.0, few - counts[0] * call)
    cold = max(0.0, (wide - step) / counts[2] - call)
    load, stored = (median(_loading(step) for turn in turns for step in turn[part]) for part in (slice(2), slice(3, 4)))
    decode = max(0.0, stored - load - cast * READ)
    besides = [turn[0].besides for turn in turns]
    spread = (max(besides) - min(besides)) / (2 * median(besides)) if min(besides) > 0.0 else 0.0
    return Own(step, call, cold, load / 2, spread, cast, decode, gather)  # inputs and labels are read


def _loading(step: Step) -> float:
    """Seconds of a step's loads."""
    return sum(call.seconds for call in step.calls if call.name == LOAD)


def cast_work() -> tuple[float, float]:
    """Seconds for each value of samples that are stored as bytes: taken at indices and divided, as loaders do; and
    those of taking one where samples lie innermost."""
    rng = np.random.default_rng(0)
    stored = rng.integers(0, 255, (STORED * CAST[0], CAST[1]), np.uint8)
    taken, into = np.empty(CAST, np.uint8), np.empty(CAST, np.float32)
    inside, row = np.ascontiguousarray(stored.T), np.empty(CAST[::-1], np.uint8)
    others = np.zeros(LAST_BYTES // 4, np.float32)
    found, gathered = list[float](), list[float]()
    for _ in range(CASTS):
        indices = rng.permutation(len(stored))[: CAST[0]]
        np.add(others, 1, out=others)  # as what a step goes over drives the samples out of the caches
        begin = time.thread_time()
        np.take(stored, indices, axis=0, out=taken, mode="clip")
        np.divide(taken, 16.0, out=into, casting="unsafe")
        found.append(time.thread_time() - begin)
        np.add(others, 1, out=others)
        begin = time.thread_time()
        np.take(inside, indices, axis=1, out=row, mode="clip")
        gathered.append(time.thread_time() - begin)
    return median(found) / into.size, median(gathered) / into.size


def _program(folder: Path, depth: int, width: int, spec: str = SPEC, name: str = "chain") -> str:
    """The folder of the program of a chain."""
    path = folder / f"{name}{depth}.dlspec"
    path.write_text(spec.format(depth=depth, width=width), encoding="utf-8")
    made = chosen(read(str(path), {}), Options(kernels="numpy"), machine(1))
    out = str(folder / path.stem)
    write_folder(emit_files(made), out)
    return out
