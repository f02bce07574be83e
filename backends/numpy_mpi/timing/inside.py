"""Runs an emitted program with a stopwatch around each kernel: `python inside.py FOLDER ROOT STEPS`, by steps.py.

The program is that of one rank; its own main() runs, so a step is all that it does. When it has ended, a line of JSON
has for each step its seconds, and the calls of kernels and of what loads samples, in order: name, seconds, and whether
they went to C. With one thread all seconds are the processor's, which other programs do not disturb; what the
stopwatches take is counted nowhere. Nothing of dlc is needed.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple

LOAD = "load"
"""How what loads samples is called."""

STOPPED = 1000
"""Calls of nothing that tell what a stopwatch takes."""


class Call(NamedTuple):
    """A kernel that a step called: its seconds, and whether it was compiled C or NumPy's."""

    name: str
    seconds: float
    compiled: bool


class Steps:
    """Stands where the program keeps its trace, and parts its calls into steps."""

    def __init__(self, calls: list[Call], now: Callable[[], float], stopwatch: tuple[float, float]) -> None:
        self.found: list[tuple[float, list[Call]]] = []
        self._calls, self._now, self._begin = calls, now, 0.0
        self._inside, self._whole = stopwatch

    def __call__(self, *_: Any, **__: Any) -> Steps:
        """The program makes its trace: it is given this one."""
        return self

    def before(self, step: int, indices: Any) -> Any:
        """The step before this one ends here."""
        if step:
            self._end()
        self._calls.clear()
        self._begin = self._now()
        return indices

    def _end(self) -> None:
        taken = self._now() - self._begin - len(self._calls) * self._whole
        self.found.append((taken, [call._replace(seconds=call.seconds - self._inside) for call in self._calls]))

    def gradients(self, step: int, loss: float) -> None:
        """Nothing is kept of a step's gradients."""

    def after(self, step: int) -> None:
        """Nor of its weights."""


def main() -> None:
    """One step more than was asked for, since a step ends where the next one begins."""
    folder, root, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
    sys.path.insert(0, folder)
    calls, now = list[Call](), clock()
    fallen = watch_dispatch() if Path(folder, "kernels.c").exists() else []
    train = importlib.import_module("train")
    program, files, clocks, world, place = (
        importlib.import_module(f"runtime.{name}") for name in ("program", "files", "clock", "world", "place")
    )
    time_kernels(train, calls, fallen)
    place.Place.fill = timed(LOAD, place.Place.fill, calls, fallen, dispatched=False)
    observer = Steps(calls, now, stopwatch(now))
    train.Trace = observer  # type: ignore[attr-defined]
    given = program.Options(steps=steps + 1, quiet=True, root=root)
    train.main(world.Serial(), clocks.Clock(), files.Files(Path(root)), given)
    print(json.dumps(observer.found))


def clock() -> Callable[[], float]:
    """The processor's time of this process with one thread; with more, what a clock on the wall tells."""
    return time.process_time if os.environ.get("OMP_NUM_THREADS") == "1" else time.perf_counter


def stopwatch(now: Callable[[], float]) -> tuple[float, float]:
    """Seconds that a stopwatch takes: those that it counts itself, and all."""
    calls = list[Call]()
    nothing = timed("", lambda: None, calls, [], dispatched=False)
    begin = now()
    for _ in range(STOPPED):
        nothing()
    whole = (now() - begin) / STOPPED
    return sorted(call.seconds for call in calls)[STOPPED // 2], whole


def watch_dispatch() -> list[str]:
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
    known: dict[int, Any] = {}
    for name, function in list(vars(train).items()):
        if isinstance(function, FunctionType) and _is_kernel(function):
            dispatched = function.__module__ == "kernels.dispatch"
            known[id(function)] = timed(name, function, calls, fallen, dispatched=dispatched)
            setattr(train, name, known[id(function)])
    for function in vars(train).values():  # functions of blocks are given kernels as defaults
        if isinstance(function, FunctionType) and function.__module__ == "train" and function.__defaults__:
            function.__defaults__ = tuple(known.get(id(each), each) for each in function.__defaults__)


def _is_kernel(function: FunctionType) -> bool:
    """Whether it is of the folder's kernels, or one that `watch_dispatch` has put in the place of one."""
    return function.__module__.partition(".")[0] == "kernels" or function.__module__ == __name__


def timed(
    name: str, function: Callable[..., Any], calls: list[Call], fallen: list[str], *, dispatched: bool
) -> Callable[..., Any]:
    """The function with a stopwatch around it."""
    now = clock()

    def call(*arguments: Any, **told: Any) -> Any:
        fallen.clear()
        begin = now()
        result = function(*arguments, **told)
        calls.append(Call(name, now() - begin, dispatched and not fallen))
        return result

    return call


if __name__ == "__main__":
    main()
