"""Runs an emitted program and prints what Python's allocator has given out before and behind some steps, on rank 0.

    [mpiexec -n RANKS] python traced_steps.py FOLDER RANKS FIRST STEPS

One line of JSON: the bytes when step FIRST begins and when all STEPS are done. Nothing is collected in between, since
that empties Python's lists of freed tuples too.
"""

import gc
import importlib
import json
import sys
import tracemalloc
from typing import Any

FOLDER, (RANKS, FIRST, STEPS) = sys.argv[1], map(int, sys.argv[2:])


class Steps:
    """Stands where the program keeps its trace, and reads what there is between two steps."""

    def __init__(self) -> None:
        self.found: list[int] = []
        self.rank = -1

    def __call__(self, tensors: Any, *_: object, **__: object) -> "Steps":
        self.rank = tensors.place.world.rank
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
steps = train.Trace = Steps()
status = train.run(train.main, name="traced", ranks=RANKS, arguments=["--steps", str(STEPS), "--quiet"])
if steps.rank == 0:
    print(json.dumps(steps.found))
sys.exit(status)
