"""Runs an emitted program of one rank and prints, for each step but the first, what it asked of the allocator.

    LD_PRELOAD=allocations.so python counted_steps.py FOLDER STEPS LEAST

One line of JSON: [how many requests of LEAST bytes or more, their bytes, the largest] of each step.
"""

import ctypes
import importlib
import json
import sys
from pathlib import Path

FOLDER, STEPS, LEAST = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
COUNTER = ctypes.CDLL(None)
FOUND = (ctypes.c_size_t * 3)()


class Steps:
    """Stands where the program keeps its trace: counting begins before a step, and ends behind it."""

    def __init__(self) -> None:
        self.found: list[list[int]] = []

    def __call__(self, *_: object, **__: object) -> "Steps":
        return self

    def before(self, step: int, indices: object) -> object:
        COUNTER.allocations_begin(ctypes.c_size_t(LEAST))
        return indices

    def gradients(self, step: int, loss: float) -> None:
        """Nothing is kept of it."""

    def after(self, step: int) -> None:
        COUNTER.allocations_end(FOUND)
        self.found.append(list(FOUND))


sys.path.insert(0, FOLDER)
train = importlib.import_module("train")
program, files, clock, world = (
    importlib.import_module(f"runtime.{name}") for name in ("program", "files", "clock", "world")
)
steps = train.Trace = Steps()
options = program.Options(steps=STEPS, quiet=True)
train.main(world.Serial(), clock.Clock(), files.Files(Path()), options)
print(json.dumps(steps.found[1:]))
