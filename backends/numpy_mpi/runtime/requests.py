"""What a user asks of a run while it goes: a checkpoint by SIGUSR1; a checkpoint and the end by SIGTERM.

A process that gets such a signal leaves word in the rank's position, where the rank finds it at the end of its step.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

from .position import Position

CHECKPOINT, END = 1, 2  # what may be asked; the end comes with a checkpoint
SUSPENDED = 75
"""The exit status of a run that was asked to end and has left a checkpoint: EX_TEMPFAIL of sysexits.h, "try again"."""

_INSISTS = 1.0  # seconds behind the first SIGTERM, after which another one ends the process at once


class Suspended(Exception):
    """The run ends on request, its checkpoint is whole; raised on all ranks alike, `text` is for the user."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class Requests:
    """Turns the signals of one process into requests to a rank."""

    def __init__(self, position: Position) -> None:
        self._position = position
        self._first: float | None = None

    def checkpoint(self) -> None:
        """SIGUSR1 has come."""
        if self._position.heeds:
            self._position.ask(CHECKPOINT)

    def end(self) -> bool:
        """SIGTERM has come; whether the rank will end by itself. It does not where it heeds none, or one insists.

        Launchers may hand a signal on to who has had it already: what comes within a second is the same request.
        """
        now = time.monotonic()
        if not self._position.heeds:
            return False
        self._first = now if self._first is None else self._first
        if now - self._first > _INSISTS:
            return False
        self._position.ask(END)
        return True


def listen_to(position: Position) -> None:
    """Handles the signals of this process, the rank itself, as long as it heeds requests."""
    requests, before = Requests(position), dict[int, Any]()

    def terminated(number: int, _: object) -> None:
        if not requests.end():
            signal.signal(number, before.get(number, signal.SIG_DFL))
            signal.raise_signal(number)

    handlers: dict[int, Callable[..., Any]] = {
        signal.SIGUSR1: lambda *_: requests.checkpoint(),
        signal.SIGTERM: terminated,
    }

    def listen(heeds: bool) -> None:
        for number, handler in handlers.items():
            if heeds:
                before.setdefault(number, signal.signal(number, handler))
            elif number in before:
                signal.signal(number, before.pop(number))

    position.tell(listen)
