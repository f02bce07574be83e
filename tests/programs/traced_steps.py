"""Runs an emitted program of one rank and prints what Python's allocator has given out before and behind some steps.

    python traced_steps.py FOLDER FIRST STEPS

One line of JSON: the bytes when step FIRST begins and when all STEPS are done. Nothing is collected in between, since
that empties Python's lists of freed tuples too.
"""

import gc
import importlib
import json
import sys
import tracemalloc
from pathlib import Path

FOLDER, FIRST, STEPS = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


class Steps:
    """Stands where the program keeps its trace, and reads what there is between two steps."""

    def __init__(self) -> None:
        self.found: list[int] = []

    def __call__(self, *_: object, **__: object) -> "Steps":
        return self

    def before(self, step: int, indices: object) -> object:
        if step == FIRST // 2:
            gc.collect()
            gc.disable()
        if step == FIRST:
            self.read()
        return indices

    def gradients(self, step: int, loss: float) -> None:
        """Nothing is kept of it."""

    def after(self, step: int) -> None:
        if step == STEPS - 1:
            self.read()

    def read(self) -> None:
        """Remember what there is now."""
        self.found.append(tracemalloc.get_traced_memory()[0])


sys.path.insert(0, FOLDER)
tracemalloc.start()
train = importlib.import_module("train")
program, files, clock, world = (
    importlib.import_module(f"runtime.{name}") for name in ("program", "files", "clock", "world")
)
steps = train.Trace = Steps()
options = program.Options(steps=STEPS, quiet=True)
train.main(world.Serial(), clock.Clock(), files.Files(Path()), options)
print(json.dumps(steps.found))
