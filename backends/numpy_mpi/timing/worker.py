"""The process that times kernels: `python worker.py FOLDER`, run by process.py; it needs nothing of dlc.

FOLDER has the modules of the kernels and calls.pickle. Rounds go over all calls, so that each finds the caches as other
kernels leave them and a busy machine slows all alike; short kernels are called several times in a round. Of those that
a cache has room for the first call counts by itself: it finds them cold, the others what it left there. After each
round a line of JSON says of each call how long one took in it, and the first one. With one thread the seconds are the
processor's, which other programs do not disturb; with more they are the clock's.
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

WATCHED = 200
"""Readings of the clock that tell what one takes."""

LITTLE, MIDDLING, BRIEF = 2**19, 2**23, 2e-3
"""Bytes of all arrays of a call that networks of such calls find in a core's own cache, or in one that cores share;
the seconds that calls on so much take which are made once more."""


def main() -> None:
    """Times until it has made as many rounds as it is told, or its time is over."""
    folder, threads, rounds, budget = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    sys.path.insert(0, folder)
    calls = pickle.loads(Path(folder, "calls.pickle").read_bytes())
    now = time.thread_time if threads == 1 else time.perf_counter
    rng = np.random.default_rng(0)
    with np.errstate(all="ignore"):
        ready = [_prepared(call, rng) for call in calls]
        found = [_count(call) for call in ready]
        counts, sizes = [count for count, _ in found], [sum(_bytes(spec) for spec in call[2]) for call in calls]
        warm = [size <= LITTLE or (size <= MIDDLING and each < BRIEF)
                for size, (_, each) in zip(sizes, found, strict=True)]  # fmt: skip
        watch = min(-now() + now() for _ in range(WATCHED))
        begin, made = time.perf_counter(), 0
        while made < rounds and (made < 3 or time.perf_counter() - begin < budget):
            print(json.dumps([_turn(*each, now, watch) for each in zip(ready, counts, warm, strict=True)]), flush=True)
            made += 1


def _prepared(call: Any, rng: np.random.Generator) -> Callable[[], None]:
    """The call with its arrays; it has been made once."""
    module, function, specs, told = call
    kernel = getattr(import_module(module), function)
    arrays = [_array(rng, *spec) for spec in specs]

    def run() -> None:
        kernel(*arrays, **told)

    try:
        run()
    except Exception as error:
        raise RuntimeError(f"{function} of {[spec[:2] for spec in specs]}, told {told}: {error}") from error
    return run


def _count(run: Callable[[], None]) -> tuple[int, float]:
    """How many calls a turn has, and about the seconds of one."""
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
    raw = np.ones(size + ALIGNED, np.uint8)
    start = -raw.ctypes.data % ALIGNED
    array = raw[start : start + size].view(type_).reshape(shape)
    if kind == "normal":
        array[...] = rng.standard_normal(shape, np.float32)
    elif kind == "above zero":
        array[...] = rng.random(shape, np.float32) + np.float32(0.5)
    else:
        array[...] = rng.integers(0, below, shape) if kind == "integers" and below > 1 else 0
    return array


if __name__ == "__main__":
    main()
