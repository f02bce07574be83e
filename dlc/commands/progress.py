"""A line on a terminal that says what is going on, and for how long, while something takes more than a second."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 1.0
"""Seconds before anything is said, and between two updates."""


@contextmanager
def progress(what: str) -> Iterator[None]:
    """Show `what … 3 s` on the standard error while the body runs, where that is a terminal; leave nothing behind."""
    if not sys.stderr.isatty():
        yield
        return
    done = threading.Event()
    teller = threading.Thread(target=_tell, args=(what, done), daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()


def _tell(what: str, done: threading.Event) -> None:
    begin, width = time.monotonic(), 0
    while not done.wait(PATIENCE):
        text = f"{what} ... {time.monotonic() - begin:.0f} s"
        width = max(width, len(text))
        print(f"\r{text:<{width}}", end="", file=sys.stderr, flush=True)
    if width:
        print(f"\r{'':<{width}}\r", end="", file=sys.stderr, flush=True)


class Line:
    """A line on a terminal that is written again and again, and gone at the end."""

    def __init__(self) -> None:
        self._width = 0

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        if self._width:
            print(f"\r{'':<{self._width}}\r", end="", file=sys.stderr, flush=True)

    def show(self, text: str) -> None:
        """Write the line; nothing where the standard error is no terminal."""
        if sys.stderr.isatty():
            self._width = max(self._width, len(text))
            print(f"\r{text:<{self._width}}", end="", file=sys.stderr, flush=True)
