"""The worker's side of taking turns: a line on standard input is one step, a line of JSON says what it took."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from typing import IO


@dataclass
class Turns:
    """Answers on what standard output was; whatever else is printed goes to standard error."""

    wall: float = 0.0
    cpu: float = 0.0
    _answers: IO[str] = field(init=False)

    def __post_init__(self) -> None:
        self._answers, sys.stdout = sys.stdout, sys.stderr

    def wait(self) -> None:
        """Until it is this process's turn; an end of the input ends the process."""
        if not sys.stdin.readline():
            raise SystemExit(0)
        self.cpu, self.wall = time.process_time(), time.perf_counter()

    def answer(self, **told: object) -> None:
        """What passed since the turn began: seconds by the clock, and of the processor in all threads."""
        wall, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
        print(json.dumps({"wall": wall, "cpu": cpu, **told}), file=self._answers, flush=True)
