"""How much Python does, by the functions it calls: the same on each machine, however busy it is, as seconds are not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


class TooMuchWorkError(AssertionError):
    """More functions were called than the work at hand needs."""


@dataclass(slots=True)
class Work:
    """The functions called so far, those of C as well."""

    calls: int = 0


@contextmanager
def counted(limit: float = float("inf")) -> Iterator[Work]:
    """Count the calls made inside; the one beyond ``limit`` raises TooMuchWorkError, so that what runs away ends."""
    work = Work()

    def called(_frame: object, event: str, _argument: object) -> None:
        if event in ("call", "c_call"):
            work.calls += 1
            if work.calls > limit:
                raise TooMuchWorkError(f"more than {limit:,} calls")

    before = sys.getprofile()
    sys.setprofile(called)
    try:
        yield work
    finally:
        sys.setprofile(before)
