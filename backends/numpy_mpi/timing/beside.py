"""Runs an emitted program with readings of the machine's speed beside it: `python beside.py OUT FOLDER WORDS…`.

The program of one rank runs as it does by itself. Its clock is another one: where the last reading is `APART` seconds
old it makes one before it tells the time, and does not count what that takes. All readings are written to the file OUT
as JSON. Nothing of dlc is needed.
"""

from __future__ import annotations

import atexit
import importlib
import json
import runpy
import sys
import time
from pathlib import Path
from typing import Any

APART = 0.1
"""Seconds between two readings; they drive a step's values out of the caches, and should not do so in each."""

FEWEST = 5
"""Readings that are there at the end."""


def main() -> None:
    """Puts the clock in its place and runs train.py."""
    out, folder, *words = sys.argv[1:]
    sys.path.append(str(Path(__file__).parent))
    reference = importlib.import_module("reference").Reference()
    sys.path[-1:] = []
    sys.path.insert(0, folder)
    clock = importlib.import_module("runtime.clock")
    readings = list[Any]()

    class Clock(clock.Clock):  # type: ignore[name-defined, misc]
        """The program's, with readings."""

        def __init__(self) -> None:
            super().__init__()
            self._apart, self._last = 0.0, time.perf_counter() - APART

        def now(self) -> float:
            """As if there were no readings."""
            if time.perf_counter() - self._last > APART:
                begin = self._read()
                readings.append(reference.read(time.thread_time))
                self._last = time.perf_counter()
                self._apart += self._read() - begin
            return float(self._read() - self._apart)

    importlib.import_module("runtime.program").Clock = Clock  # type: ignore[attr-defined]

    def written() -> None:
        while len(readings) < FEWEST:
            readings.append(reference.read(time.thread_time))
        Path(out).write_text(json.dumps(readings), encoding="utf-8")

    atexit.register(written)
    sys.argv = [str(Path(folder, "train.py")), *words]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
