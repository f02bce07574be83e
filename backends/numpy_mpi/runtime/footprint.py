"""What the process grows by in steps of training, beside what its arrays were placed in, and what it has before.

The system gives memory to pages that are touched. The base is all that the process has when its third step begins, or
its 33rd where there is one before an evaluation, but for the bytes of its arrays that are in memory: interpreter,
libraries, compiled kernels, MPI with what it keeps for messages, the samples, what the steps before have prepared for
all others, and what else lies in the pages where arrays begin and end. Memory that ranks share counts by the share that
each has in it. Where Linux's /proc does not tell, nothing is measured.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .collectives import Array

PROCESS = Path("/proc/self")

PREPARING = 0, 2, 32
"""So many steps made, what is there counts as prepared for all others: in two calls are prepared for their arrays, in
thirty Python's memory."""

MEETINGS = 64
"""The small messages for which MPICH keeps room; they take turns in it, and its pages come as they are first used."""

PRESENT = np.uint64(3 << 62)
"""Of an entry of the page map: that the page is in memory, or swapped."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of one process: those its `arrays` are placed in, what it has `grown` by at the peak, its `base`."""

    arrays: int
    grown: int
    base: int

    def __str__(self) -> str:
        ratio = f" ({self.grown / self.arrays - 1:+.1%})" if self.arrays else ""
        return (
            f"{'memory':>16} {self.arrays / 1e6:10.1f} MB of arrays placed, grown by {self.grown / 1e6:.1f} MB{ratio}, "
            f"on a base of {self.base / 1e6:.1f} MB"
        )


@dataclass(slots=True)
class Gauge:
    """Measures these blocks of memory of the arrays: it is told of each `step` that begins, then `end`, by all ranks,
    which `meet` in between."""

    blocks: list[Array]
    meet: Callable[[], None]
    before: int = 0
    base: int | None = None
    found: Footprint | None = None
    over: bool = False

    def step(self, made: int) -> None:
        """A step begins, so many were made: behind some it is measured anew."""
        if made in PREPARING and not self.over:
            for _ in range(MEETINGS):
                self.meet()
            self._begin()

    def _begin(self) -> None:
        """The base; the peak is that of what comes from here on."""
        with suppress(OSError, ValueError, KeyError):
            ones = np.ones((512, 512), np.float32)
            np.dot(ones, ones)  # libraries of matrices take memory of their own at their first call
            del ones
            _ = _status(), _rollup()  # so does reading
            (PROCESS / "clear_refs").write_text("5", encoding="ascii")  # the peak is what there is now
            touched = sum(map(_touched, self.blocks))
            rollup = _rollup()
            self.before = rollup["Anonymous"] + rollup["Pss_Shmem"] - touched
            self.base = rollup["Rss"] - touched

    def end(self) -> Footprint | None:
        """What the process had grown by when this was first asked; None where that is not known."""
        if self.base is not None and not self.over:
            status, rollup = _status(), _rollup()
            peak = max(status["VmHWM"] - status["RssFile"] - status["RssShmem"], rollup["Anonymous"])
            grown = peak + rollup["Pss_Shmem"] - self.before
            self.found = Footprint(sum(block.nbytes for block in self.blocks), grown, self.base)
        self.over = True
        return self.found


def blocks_of(arrays: Iterable[Array]) -> list[Array]:
    """Those that are the processor's memory, each once."""
    return [*{id(array): array for array in arrays if isinstance(array, np.ndarray)}.values()]


def _status() -> dict[str, int]:
    """Bytes by the names of the kernel: the peak, and what there is by kinds; some kernels are late by some pages."""
    return _read("status", "VmHWM", "RssFile", "RssShmem")


def _rollup() -> dict[str, int]:
    """Bytes of all that there is, of what no file stands behind, and of shared memory, each page of it divided by the
    processes that have it."""
    return _read("smaps_rollup", "Rss", "Anonymous", "Pss_Shmem")


def _read(file: str, *names: str) -> dict[str, int]:
    """What a file of the process says of these: KeyError where it is silent of one."""
    pairs = (line.split(":", 1) for line in (PROCESS / file).read_text(encoding="ascii").splitlines() if ":" in line)
    told = {name: value.split() for name, value in pairs}
    return {name: int(told[name][0]) * 1024 for name in names}


def _touched(block: Array) -> int:
    """Bytes of a block whose pages are in memory."""
    if not block.nbytes:
        return 0
    page, start = os.sysconf("SC_PAGESIZE"), block.ctypes.data
    stop = start + block.nbytes
    first, last = start // page, (stop - 1) // page
    with open(PROCESS / "pagemap", "rb") as entries:
        entries.seek(first * 8)
        found = np.frombuffer(entries.read((last - first + 1) * 8), np.uint64) & PRESENT
    around = (start - first * page) * bool(found[0]) + ((last + 1) * page - stop) * bool(found[-1])
    return int(np.count_nonzero(found)) * page - around
