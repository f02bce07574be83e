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
from pathlib import Path
from statistics import median

import numpy as np

from backends.numpy_mpi.timing.steps import LOAD, Step, time_step
from dlc.cluster.detect import machine
from dlc.cost.profile import Own
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

STEPS, WIDE_STEPS = 120, 16

CAST, CASTS = (48, 900), 50
"""Samples and values of each that are read from bytes, and how often."""

TURNS, PATIENCE = 3, 60.0
"""Turns of the programs; and the seconds after which one of them is given up."""


def own_work(turns: int = TURNS) -> Own:
    """Seconds of steps of these programs, in so many turns.

    OSError, RuntimeError or subprocess.TimeoutExpired where one of them fails.
    """
    with tempfile.TemporaryDirectory(prefix="dlc-own-") as folder:
        programs = [_program(Path(folder), *each) for each in ((FEW, NARROW), (MANY, NARROW), (DEPTH, WIDE))]
        programs.append(_program(Path(folder), FEW, 64, IMAGES, "images"))
        steps = dict(zip(programs, (STEPS, STEPS, WIDE_STEPS, STEPS), strict=True))
        found = [[time_step(each, folder, steps[each], timeout=PATIENCE) for each in programs] for _ in range(turns)]
    return work_of(found, cast_work())


def work_of(turns: Sequence[Sequence[Step]], cast: float = 0.0) -> Own:
    """What turns of steps with few calls, many, large arrays, and images say, where casting a value takes so long."""
    few, many, wide = (median(turn[at].besides for turn in turns) for at in range(3))
    counts = [len(each.calls) for each in turns[0]]
    call = max(0.0, (many - few) / (counts[1] - counts[0]))
    step = max(0.0, few - counts[0] * call)
    cold = max(0.0, (wide - step) / counts[2] - call)
    load, stored = (median(_loading(step) for turn in turns for step in turn[part]) for part in (slice(2), slice(3, 4)))
    decode = max(0.0, stored - load - cast * READ)
    besides = [turn[0].besides for turn in turns]
    spread = (max(besides) - min(besides)) / (2 * median(besides)) if min(besides) > 0.0 else 0.0
    return Own(step, call, cold, load / 2, spread, cast, decode)  # inputs and labels are read


def _loading(step: Step) -> float:
    """Seconds of a step's loads."""
    return sum(call.seconds for call in step.calls if call.name == LOAD)


def cast_work() -> float:
    """Seconds for each value of samples that are stored as bytes: taken at indices and divided, as loaders do."""
    rng = np.random.default_rng(0)
    stored = rng.integers(0, 255, (4 * CAST[0], CAST[1]), np.uint8)
    taken, into = np.empty(CAST, np.uint8), np.empty(CAST, np.float32)
    found = list[float]()
    for _ in range(CASTS):
        indices = rng.permutation(len(stored))[: CAST[0]]
        begin = time.thread_time()
        np.take(stored, indices, axis=0, out=taken, mode="clip")
        np.divide(taken, 16.0, out=into, casting="unsafe")
        found.append(time.thread_time() - begin)
    return median(found) / into.size


def _program(folder: Path, depth: int, width: int, spec: str = SPEC, name: str = "chain") -> str:
    """The folder of the program of a chain."""
    path = folder / f"{name}{depth}.dlspec"
    path.write_text(spec.format(depth=depth, width=width), encoding="utf-8")
    made = chosen(read(str(path), {}), Options(kernels="numpy"), machine(1))
    out = str(folder / path.stem)
    write_folder(emit_files(made), out)
    return out
