"""What a step does besides its kernels, measured in the steps of programs that do next to nothing else.

Three programs of one rank, with NumPy's kernels, which need no compiler: one of few calls, one of many, and one whose
arrays drive Python's own memory out of the caches. Their steps are timed call by call (`timing.steps`). What is in no
call is a straight line over the number of calls. The programs take turns, and of each the run that was disturbed least
counts.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

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

FEW, MANY, DEPTH = 4, 40, 12
"""Activations of the program with few calls, of that with many, and of that with large arrays."""

NARROW, WIDE = 8, 60_000
"""Values of a sample: all arrays of a step in half a kilobyte each, or 4 MB."""

STEPS, WIDE_STEPS = 120, 16

TURNS, PATIENCE = 3, 60.0
"""Turns of the programs; and the seconds after which one of them is given up."""


def own_work(turns: int = TURNS) -> Own:
    """Seconds of steps of three programs, in so many turns.

    OSError, RuntimeError or subprocess.TimeoutExpired where one of them fails.
    """
    with tempfile.TemporaryDirectory(prefix="dlc-own-") as folder:
        programs = [_program(Path(folder), *each) for each in ((FEW, NARROW), (MANY, NARROW), (DEPTH, WIDE))]
        steps = dict(zip(programs, (STEPS, STEPS, WIDE_STEPS), strict=True))
        found = [[time_step(each, folder, steps[each], timeout=PATIENCE) for each in programs] for _ in range(turns)]
    return work_of(found)


def work_of(turns: Sequence[Sequence[Step]]) -> Own:
    """What turns of steps with few calls, many, and large arrays say."""
    few, many, wide = (min((turn[at] for turn in turns), key=lambda step: step.besides) for at in range(3))
    call = max(0.0, (many.besides - few.besides) / (len(many.calls) - len(few.calls)))
    step = max(0.0, few.besides - len(few.calls) * call)
    cold = max(0.0, (wide.besides - step) / len(wide.calls) - call)
    load = min(call.seconds for each in (few, many) for call in each.calls if call.name == LOAD)
    besides = [turn[0].besides for turn in turns]
    spread = (max(besides) - min(besides)) / (2 * median(besides)) if min(besides) > 0.0 else 0.0
    return Own(step, call, cold, load / 2, spread)  # it reads inputs and labels


def _program(folder: Path, depth: int, width: int) -> str:
    """The folder of the program of a chain."""
    path = folder / f"chain{depth}.dlspec"
    path.write_text(SPEC.format(depth=depth, width=width), encoding="utf-8")
    made = chosen(read(str(path), {}), Options(kernels="numpy"), machine(1))
    out = str(folder / path.stem)
    write_folder(emit_files(made), out)
    return out
