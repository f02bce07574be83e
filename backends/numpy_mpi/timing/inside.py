"""Runs an emitted program with a stopwatch around each kernel: `python inside.py FOLDER ROOT STEPS`, by steps.py.

The program is that of one rank; its own main() runs, so a step is all that it does. When it has ended, a line of JSON
has for each step its seconds, and the calls of kernels and of what loads samples, in order: name, seconds, and whether
they went to C. With one thread all seconds of long steps are the processor's, which other programs do not disturb.
Reading that clock takes a microsecond, which is much for calls of a few: the stopwatches of short steps go by the
clock on the wall, and steps that waited for the processor do not count. What the stopwatches take is counted nowhere.
Nothing of dlc is needed.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import FunctionType
from typing import Any, NamedTuple

FIRST = 3
"""Steps that whoever reads this leaves out (`steps.WARM`)."""

LOAD = "load"
"""How what loads samples is called."""

STOPPED, TIMES = 50, 20
"""Calls of nothing that tell what a stopwatch takes, and how often they do."""

SHORT = 0.002
"""Seconds of a step up to which stopwatches go by the clock on the wall."""

WAITED, LEFT = 1.02, 1 / 4
"""A step waited for the processor that took so many times its own seconds on the wall; the share of all steps that
counts at least, those that waited least."""


class Call(NamedTuple):
    """A kernel that a step called: its seconds, and whether it was compiled C or NumPy's."""

    name: str
    seconds: float
    compiled: bool


class Steps:
    """Stands where the program keeps its trace, and parts its calls into steps."""

    def __init__(self, calls: list[Call], watch: Watch) -> None:
        self.found: list[tuple[float, list[Call]]] = []
        self.waited: list[float] = []
        self._calls, self._watch, self._begin, self._own = calls, watch, 0.0, 0.0

    def __call__(self, *_: Any, **__: Any) -> Steps:
        """The program makes its trace: it is given this one."""
        return self

    def before(self, step: int, indices: Any) -> Any:
        """The step before this one ends here."""
        if step:
            self._end()
        self._calls.clear()
        self._own, self._begin = time.process_time(), self._watch.now()
        return indices

    def _end(self) -> None:
        watch, taken = self._watch, self._watch.now() - self._begin
        self.waited.append(taken / max(time.process_time() - self._own, 1e-9))
        calls = [call._replace(seconds=call.seconds - watch.inside) for call in self._calls]
        self.found.append((taken - len(calls) * watch.whole, calls))
        if len(self.found) == 1 and taken < SHORT:
            watch.go_by_the_wall()

    @property
    def counted(self) -> list[tuple[float, list[Call]]]:
        """The first steps, which are never counted, and those that did not wait for the processor."""
        limit = max(WAITED, sorted(self.waited)[int(LEFT * len(self.waited))])
        first, others = self.found[:FIRST], zip(self.found[FIRST:], self.waited[FIRST:], strict=True)
        return [*first, *(each for each, waited in others if waited <= limit)]

    def gradients(self, step: int, loss: float) -> None:
        """Nothing is kept of a step's gradients."""

    def after(self, step: int) -> None:
        """Nor of its weights."""


def main() -> None:
    """One step more than was asked for, since a step ends where the next one begins."""
    folder, root, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
    sys.path.insert(0, folder)
    calls, watch = list[Call](), Watch()
    fallen = watch_dispatch() if Path(folder, "kernels.c").exists() else []
    train = importlib.import_module("train")
    program, files, clocks, world, place = (
        importlib.import_module(f"runtime.{name}") for name in ("program", "files", "clock", "world", "place")
    )
    time_kernels(train, calls, fallen, watch)
    place.Place.fill = timed(LOAD, place.Place.fill, calls, fallen, watch, dispatched=False)
    observer = Steps(calls, watch)
    train.Trace = observer  # type: ignore[attr-defined]
    given = program.Options(steps=steps + 1, quiet=True, root=root)
    train.main(world.Serial(), clocks.Clock(), files.Files(Path(root)), given)
    print(json.dumps(observer.counted if watch.alone else observer.found))


class Watch:
    """A clock, and the seconds that a stopwatch by it takes: those that it counts itself, `inside`, and the `whole`.

    It is the processor's time of this process with one thread; with more, what a clock on the wall tells.
    """

    def __init__(self) -> None:
        self.alone = os.environ.get("OMP_NUM_THREADS") == "1"
        self.now: Callable[[], float] = time.process_time if self.alone else time.perf_counter
        self.inside, self.whole = self._taken()

    def go_by_the_wall(self) -> None:
        """From now on it is the clock on the wall."""
        self.now = time.perf_counter
        self.inside, self.whole = self._taken()

    def _taken(self) -> tuple[float, float]:
        calls = list[Call]()
        nothing = timed("", lambda: None, calls, [], self, dispatched=False)
        wholes = list[float]()
        for _ in range(TIMES):
            begin = self.now()
            for _ in range(STOPPED):
                nothing()
            wholes.append((self.now() - begin) / STOPPED)
        return median(call.seconds for call in calls), median(wholes)


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


def time_kernels(train: Any, calls: list[Call], fallen: list[str], watch: Watch) -> None:
    """Puts a stopwatch around each kernel that the program calls, whatever family it is of."""
    known: dict[int, Any] = {}
    for name, function in list(vars(train).items()):
        if isinstance(function, FunctionType) and _is_kernel(function):
            dispatched = function.__module__ == "kernels.dispatch"
            known[id(function)] = timed(name, function, calls, fallen, watch, dispatched=dispatched)
            setattr(train, name, known[id(function)])
    for function in vars(train).values():  # functions of blocks are given kernels as defaults
        if isinstance(function, FunctionType) and function.__module__ == "train" and function.__defaults__:
            function.__defaults__ = tuple(known.get(id(each), each) for each in function.__defaults__)


def _is_kernel(function: FunctionType) -> bool:
    """Whether it is of the folder's kernels, or one that `watch_dispatch` has put in the place of one."""
    return function.__module__.partition(".")[0] == "kernels" or function.__module__ == __name__


def timed(
    name: str, function: Callable[..., Any], calls: list[Call], fallen: list[str], watch: Watch, *, dispatched: bool
) -> Callable[..., Any]:
    """The function with a stopwatch around it."""

    def call(*arguments: Any, **told: Any) -> Any:
        fallen.clear()
        now = watch.now
        begin = now()
        result = function(*arguments, **told)
        calls.append(Call(name, now() - begin, dispatched and not fallen))
        return result

    return call


if __name__ == "__main__":
    main()
