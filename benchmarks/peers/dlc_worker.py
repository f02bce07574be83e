"""An emitted program that makes one step of its training a turn.

    python -m benchmarks.peers.dlc_worker FOLDER ROOT [--batches FILE.npz] [--profile]

Its own main() runs: all that it does in a step is counted, but no time that it waits. `--batches` keeps the samples of
the first steps; with `--profile` each answer has the kernels that were called, in order, with their seconds and whether
they went to C.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np

from backends.numpy_mpi.timing.inside import Call, Watch, time_kernels, watch_dispatch
from benchmarks.peers.turns import Turns

BATCHES = 2
"""So many steps are compared."""


class Observer:
    """Stands where the program keeps its trace."""

    def __init__(self, turns: Turns, batches: str, calls: list[Call]) -> None:
        self.turns, self.batches, self.calls = turns, batches, calls
        self.samples: Any = None
        self.loss = 0.0
        self._kept: dict[str, np.ndarray] = {}

    def __call__(self, *_: Any, **__: Any) -> Observer:
        return self

    def before(self, step: int, indices: np.ndarray) -> np.ndarray:
        """The step before this one ends here, and this one begins when its turn comes."""
        if step:
            self.turns.answer(loss=self.loss, calls=self.calls)
        if self.batches and step <= BATCHES:
            self._keep(step, indices)
        self.turns.wait()
        self.calls.clear()
        return indices

    def gradients(self, step: int, loss: float) -> None:
        """Is told the loss."""
        self.loss = float(loss)

    def after(self, step: int) -> None:
        """Nothing is kept of a step."""

    def _keep(self, step: int, indices: np.ndarray) -> None:
        for name, column in self.samples.rows(indices).columns.items():
            values = column.values if column.divisor == 1.0 else column.values / np.float32(column.divisor)
            self._kept[f"{step}.{name}"] = values
        if step == BATCHES - 1:
            np.savez(self.batches, **self._kept)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("root")
    parser.add_argument("--batches", default="")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    turns, calls = Turns(), list[Call]()
    sys.path.insert(0, options.folder)
    fallen = watch_dispatch() if options.profile and Path(options.folder, "kernels.c").exists() else []
    train = importlib.import_module("train")
    program, files, clock, world = (
        importlib.import_module(f"runtime.{name}") for name in ("program", "files", "clock", "world")
    )
    observer = Observer(turns, options.batches, calls)
    train.Trace = observer
    loader = train.Loader

    def loading(samples: Any, *arguments: Any, **settings: Any) -> Any:
        observer.samples = samples
        return loader(samples, *arguments, **settings)

    train.Loader = loading
    if options.profile:
        time_kernels(train, calls, fallen, Watch())
    given = program.Options(steps=10**9, quiet=True, root=options.root)
    train.main(world.Serial(), clock.Clock(), files.Files(Path(options.root)), given)


if __name__ == "__main__":
    main()
