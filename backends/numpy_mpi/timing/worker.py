"""The process that times kernels: `python worker.py FOLDER THREADS`, run by process.py; it needs nothing of dlc.

FOLDER has the modules of the kernels, calls.pickle and reference.py. A round is made for each line that is read. Rounds
go over all calls, so that each finds the caches as other kernels leave them and a busy machine slows all alike; short
kernels are called several times in a round. Of those that a cache has room for the first call counts by itself: it
finds them cold, the others what it left there. After each round a line of JSON says of each call how long one took in
it, the first one, which of the round's readings of the machine's speed was the last before it, and what share of its
time the threads waited for a core; and these. With one thread the seconds are the processor's, which other programs do
not disturb; with more they are the clock's, and there are no readings.
"""

from __future__ import annotations

import json
import pickle
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

TYPES = {"f16": "float16", "bf16": "float32", "f32": "float32", "f64": "float64", "i32": "int32", "u8": "uint8"}
ALIGNED = 64
AT_ONCE = 1e-4
"""Seconds that a turn lasts at least: shorter kernels are called several times in it."""

MOST_CALLS = 100

TASKS = Path("/proc/self/task")
"""Where Linux tells of this process' threads."""

WATCHED = 200
"""Readings of the clock that tell what one takes."""

LONG = 4e-3
"""Seconds that a call takes once when there is no need to know them better."""

DRAWN = 2**20
"""Values that are drawn for an array; larger ones repeat them, as drawing takes longer than many a kernel."""

LITTLE, MIDDLING, BRIEF = 2**19, 2**23, 2e-3
"""Bytes of all arrays of a call that networks of such calls find in a core's own cache, or in one that cores share;
the seconds that calls on so much take which are made once more."""


def main() -> None:
    """Says when it is ready, then makes a round for each line, to the end of the input."""
    folder, threads = sys.argv[1], int(sys.argv[2])
    sys.path.insert(0, folder)
    calls = pickle.loads(Path(folder, "calls.pickle").read_bytes())
    now = time.thread_time if threads == 1 else time.perf_counter
    rng = np.random.default_rng(0)
    with np.errstate(all="ignore"):
        prepared = [_prepared(call, rng) for call in calls]
        ready, found = [run for run, _ in prepared], [_count(*each) for each in prepared]
        counts, sizes = [count for count, _ in found], [sum(_bytes(spec) for spec in call[2]) for call in calls]
        warm = [size <= LITTLE or (size <= MIDDLING and each < BRIEF)
                for size, (_, each) in zip(sizes, found, strict=True)]  # fmt: skip
        turns = list(zip(ready, counts, warm, strict=True))
        watch = min(-now() + now() for _ in range(WATCHED))
        reading = import_module("reference")
        reference = reading.Reference() if threads == 1 else None
        print(json.dumps("ready"), flush=True)
        for _ in sys.stdin:
            print(json.dumps(_round(turns, reference, reading.APART, now, watch, threads)), flush=True)


def _round(turns: Any, reference: Any, apart: float, now: Callable[[], float], watch: float, threads: int) -> Any:
    """(rows, readings): of each call its seconds, those of the first one, the number of the reading before it, and the
    share of the time that its threads waited."""
    readings, rows, last = list[Any](), list[Any](), -apart
    for run, count, warm in turns:
        if reference is not None and now() - last > apart:
            readings.append(reference.read(now))
            last = now()
        before, begin = _waited(threads), time.perf_counter()
        seconds = _turn(run, count, warm, now, watch)
        taken = time.perf_counter() - begin
        rows.append((*seconds, len(readings) - 1, (_waited(threads) - before) / (threads * taken)))
    return rows, readings


def _waited(threads: int) -> float:
    """Seconds that this process' threads were ready and had no core; 0 of one thread, whose clock does not count them,
    and where the system does not tell."""
    if threads == 1:
        return 0.0
    try:
        return 1e-9 * sum(int(Path(task, "schedstat").read_text("ascii").split()[1]) for task in TASKS.iterdir())
    except (OSError, ValueError, IndexError):
        return 0.0


def _prepared(call: Any, rng: np.random.Generator) -> tuple[Callable[[], None], float]:
    """The call with its arrays; it has been made once, in so many seconds."""
    module, function, specs, told = call
    kernel = getattr(import_module(module), function)
    arrays = [_array(rng, *spec) for spec in specs]

    def run() -> None:
        kernel(*arrays, **told)

    begin = time.perf_counter()
    try:
        run()
    except Exception as error:
        raise RuntimeError(f"{function} of {[spec[:2] for spec in specs]}, told {told}: {error}") from error
    return run, time.perf_counter() - begin


def _count(run: Callable[[], None], first: float) -> tuple[int, float]:
    """How many calls a turn has, and about the seconds of one; what took long at `first` is not called again for it."""
    if first > LONG:
        return 1, first
    run()
    begin = time.perf_counter()
    run()
    each = max(time.perf_counter() - begin, 1e-7)
    return max(1, min(MOST_CALLS, int(AT_ONCE / each))), each


def _turn(
    run: Callable[[], None], count: int, warm: bool, now: Callable[[], float], watch: float
) -> tuple[float, float]:
    """Seconds of one call of a turn, and of the first one, which is one like the others where it works on much.

    Reading the clock takes `watch` seconds.
    """
    first = 0.0
    if warm:
        begin = now()
        run()
        first = now() - begin - watch
    begin = now()
    for _ in range(count):
        run()
    each = (now() - begin - watch) / count
    return each, max(each, first)


def _bytes(spec: Any) -> int:
    """Of an array."""
    return int(np.prod(spec[1], dtype=np.int64)) * np.dtype(TYPES[spec[0]]).itemsize


def _array(rng: np.random.Generator, dtype: str, shape: tuple[int, ...], kind: str, below: int) -> Any:
    """An array whose pages are there, where a cache line begins."""
    type_, size = np.dtype(TYPES[dtype]), _bytes((dtype, shape))
    raw = np.empty(size + ALIGNED, np.uint8)
    start = -raw.ctypes.data % ALIGNED
    array = raw[start : start + size].view(type_)
    count = min(array.size, DRAWN)
    drawn: Any = 0
    if kind == "normal":
        drawn = rng.standard_normal(count, np.float32)
    elif kind == "above zero":
        drawn = rng.random(count, np.float32) + np.float32(0.5)
    elif kind == "integers" and below > 1:
        drawn = rng.integers(0, below, count)
    for begin in range(0, array.size, DRAWN):
        part = array[begin : begin + DRAWN]
        part[...] = drawn if np.isscalar(drawn) else drawn[: part.size]
    return array.reshape(shape)


if __name__ == "__main__":
    main()
