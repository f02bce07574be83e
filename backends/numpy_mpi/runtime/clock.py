"""The clock of a run; a rehearsal has another one."""

from __future__ import annotations

import os
import time

CLOCK_VARIABLE = "DLC_CLOCK"


class Clock:
    """Real time; with DLC_CLOCK=processor the time of this process on processors, which no other program lengthens."""

    def __init__(self) -> None:
        self._read = time.process_time if os.environ.get(CLOCK_VARIABLE) == "processor" else time.perf_counter

    def now(self) -> float:
        """Seconds since some fixed moment; only differences mean something."""
        return self._read()

    def passed(self, function: str) -> None:
        """A function of a step has run; real time went on by itself."""
