"""The clock of a run; a rehearsal has another one."""

from __future__ import annotations

import time


class Clock:
    """Real time."""

    def now(self) -> float:
        """Seconds since some fixed moment; only differences mean something."""
        return time.perf_counter()

    def passed(self, function: str) -> None:
        """A function of a step has run; real time went on by itself."""
