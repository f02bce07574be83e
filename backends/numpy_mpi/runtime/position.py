"""Where a rank is: its step and what it does or waits for, in memory that its supervisor can read at any time.

The other way round a supervisor leaves word there of what a signal asks of the rank (requests.py).
"""

from __future__ import annotations

import mmap
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

_LAYOUT = struct.Struct("=qd80s")  # step, start of the waiting (0: it does not wait), what it does
_HEEDS, _ASKED = _LAYOUT.size, _LAYOUT.size + 1  # bytes behind it: whether requests are heeded, and what was asked
_SIZE = _LAYOUT.size + 2
BEFORE = -1
AFTER = -2


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading of a position. `waiting` is the time in seconds that it has spent in `what`, 0 if it computes."""

    step: int = BEFORE
    what: str = "starting"
    waiting: float = 0.0

    def __str__(self) -> str:
        step = {BEFORE: "before the first step", AFTER: "behind the last step"}.get(self.step, f"in step {self.step}")
        return f"{step}, waiting in {self.what}" if self.waiting else f"{step}, {self.what}"


class Position:
    """Written by the rank, read by whoever shares the memory; a torn reading costs a wrong word in a message."""

    def __init__(self, memory: bytearray | mmap.mmap | None = None) -> None:
        self._memory = bytearray(_SIZE) if memory is None else memory
        self._listen: Callable[[bool], None] = lambda heeds: None
        self._step = BEFORE
        self._what = b"starting"
        self._depth = 0  # of collectives in one another
        self._write(0.0, self._what)

    @staticmethod
    def shared() -> Position:
        """A position in memory that a forked process shares."""
        return Position(mmap.mmap(-1, _SIZE))

    def at(self, step: int, what: str) -> None:
        """The rank begins `step`, or another part of it."""
        self._step, self._what = step, what.encode()
        self._write(0.0, self._what)

    def end(self) -> None:
        """The work is done; the rank waits for MPI to end."""
        self._step, self._what = AFTER, b"the end of MPI"
        self._write(time.monotonic(), self._what)

    def waiting(self, what: str) -> Position:
        """For `with`: the rank is inside a collective or a message named `what`; nested ones keep the outer name.

        It is on the way of each message, so no generator makes the context: that would cost a microsecond more.
        """
        if not self._depth:
            self._write(time.monotonic(), what.encode())
        self._depth += 1
        return self

    def __enter__(self) -> None:
        """`waiting` has begun."""

    def __exit__(self, *_: object) -> None:
        """The rank computes again, once the outermost collective is over."""
        self._depth -= 1
        if not self._depth:
            self._write(0.0, self._what)

    def read(self) -> Reading:
        """Where the rank is now."""
        step, since, what = _LAYOUT.unpack_from(self._memory)
        waiting = max(time.monotonic() - since, 1e-9) if since else 0.0
        return Reading(step, what.rstrip(b"\0").decode(errors="replace"), waiting)

    # --- requests ------------------------------------------------------------------------------------------------

    def tell(self, listen: Callable[[bool], None]) -> None:
        """Call this whenever the rank begins to heed requests, or ceases to."""
        self._listen = listen

    def heed(self, heeds: bool) -> None:
        """Whether what is asked from here on will be done."""
        self._memory[_HEEDS] = heeds
        self._listen(heeds)

    @property
    def heeds(self) -> bool:
        """Whether the rank does what it is asked, at the end of a step."""
        return bool(self._memory[_HEEDS])

    def ask(self, request: int) -> None:
        """Ask the rank for something; the largest of several requests counts."""
        self._memory[_ASKED] = max(self._memory[_ASKED], request)

    def asked(self) -> int:
        """What was asked since the last call, 0 for nothing."""
        request, self._memory[_ASKED] = self._memory[_ASKED], 0
        return int(request)

    def _write(self, since: float, what: bytes) -> None:
        _LAYOUT.pack_into(self._memory, 0, self._step, since, what)
