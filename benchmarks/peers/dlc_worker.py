"""An emitted program that makes one step of its training a turn.

    python -m benchmarks.peers.dlc_worker FOLDER ROOT [--batches FILE.npz] [--profile]

Its own main() runs: all that it does in a step is counted, but no time that it waits. `--batches` keeps the samples of
the first steps; with `--profile` each answer has the kernels that were called, in order, with their seconds and whether
they went to C.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np

from benchmarks.peers.turns import Turns

BATCHES = 2
"""So many steps are compared."""


class Call(NamedTuple):
    """A kernel that a step called: its seconds, and whether it was compiled C or NumPy's.

    With one thread they are the processor's, which other programs do not disturb; with more they are by the clock.
    """

    name: str
    seconds: float
    compiled: bool


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
    fallen = _watch_dispatch() if options.profile and Path(options.folder, "kernels.c").exists() else []
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
        time_kernels(train, calls, fallen)
    given = program.Options(steps=10**9, quiet=True, root=options.root)
    train.main(world.Serial(), clock.Clock(), files.Files(Path(options.root)), given)


def _watch_dispatch() -> list[str]:
    """Of kernels that have C functions: the names of those whose last call went to NumPy nevertheless, as they do."""
    dispatch, fallen = importlib.import_module("kernels.dispatch"), list[str]()
    replace = dispatch.Kernels.replace

    def watched(kernels: Any, otherwise: Callable[..., None], binding: Any) -> Any:
        def numpys(*arrays: Any, **told: Any) -> None:
            fallen.append(otherwise.__name__)
            otherwise(*arrays, **told)

        numpys.__name__ = otherwise.__name__
        return replace(kernels, numpys, binding)

    dispatch.Kernels.replace = watched
    return fallen


def time_kernels(train: Any, calls: list[Call], fallen: list[str]) -> None:
    """Puts a stopwatch around each kernel that the program calls, whatever family it is of."""
    timed: dict[int, Any] = {}
    for name, function in list(vars(train).items()):
        if isinstance(function, FunctionType) and function.__module__.partition(".")[0] in ("kernels", __name__):
            timed[id(function)] = _timed(name, function, calls, fallen)
            setattr(train, name, timed[id(function)])
    for function in vars(train).values():  # functions of blocks are given kernels as defaults
        if isinstance(function, FunctionType) and function.__module__ == "train" and function.__defaults__:
            function.__defaults__ = tuple(timed.get(id(each), each) for each in function.__defaults__)


def _timed(name: str, function: FunctionType, calls: list[Call], fallen: list[str]) -> Callable[..., Any]:
    dispatched = function.__module__ == "kernels.dispatch"
    now = time.process_time if os.environ.get("OMP_NUM_THREADS") == "1" else time.perf_counter

    def call(*arguments: Any, **told: Any) -> Any:
        fallen.clear()
        begin = now()
        result = function(*arguments, **told)
        calls.append(Call(name, now() - begin, dispatched and not fallen))
        return result

    return call


if __name__ == "__main__":
    main()
