"""What the process grows by in steps of training, beside what its arrays were placed in, and what it has before.

The system gives memory to pages that are touched. The base is all that the process has when its third step begins but
for the pages of its arrays: interpreter, libraries, compiled kernels, MPI, the samples, and what the first two steps
have prepared for all others. Memory that ranks share counts by the share that each has in it. Where Linux's /proc does
not tell, nothing is measured.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .collectives import Array

PROCESS = Path("/proc/self")

PREPARING = 2
"""Steps in which calls are prepared for their arrays; where there are no more the base is that before the first."""

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
    """Measures these blocks of memory of the arrays: it is told of each `step` that begins, then `end`."""

    blocks: list[Array]
    before: int = 0
    base: int | None = None
    found: Footprint | None = None

    def step(self, made: int) -> None:
        """A step begins, so many were made: the first and the third begin to measure."""
        if made in (0, PREPARING) and self.found is None:
            self._begin()

    def _begin(self) -> None:
        """The base; the peak is that of what comes from here on."""
        with suppress(OSError, ValueError, KeyError):
            ones = np.ones((512, 512), np.float32)
            np.dot(ones, ones)  # libraries of matrices take memory of their own at their first call
            del ones
            (PROCESS / "clear_refs").write_text("5", encoding="ascii")  # the peak is what there is now
            touched = sum(map(_touched, self.blocks))
            status, shared = _status(), _shared()
            self.before = status["RssAnon"] + shared - touched
            self.base = status["VmRSS"] - touched

    def end(self) -> Footprint | None:
        """What the process had grown by when this was first asked; None where that is not known."""
        if self.base is not None and self.found is None:
            status, shared = _status(), _shared()
            peak = status["VmHWM"] - status["RssFile"] - status["RssShmem"] + shared
            self.found = Footprint(sum(block.nbytes for block in self.blocks), peak - self.before, self.base)
        return self.found


def blocks_of(arrays: Iterable[Array]) -> list[Array]:
    """Those that are the processor's memory, each once."""
    return [*{id(array): array for array in arrays if isinstance(array, np.ndarray)}.values()]


def _status() -> dict[str, int]:
    """Bytes by the names of the kernel: the peak, and what there is by kinds."""
    lines = (PROCESS / "status").read_text(encoding="ascii").splitlines()
    pairs = (line.split(":", 1) for line in lines if line.startswith(("VmHWM", "VmRSS", "Rss")))
    return {name: int(value.split()[0]) * 1024 for name, value in pairs}


def _shared() -> int:
    """Bytes of shared memory, each page divided by the processes that have it."""
    for line in (PROCESS / "smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss_Shmem:"):
            return int(line.split()[1]) * 1024
    raise KeyError("Pss_Shmem")


def _touched(block: Array) -> int:
    """Bytes of the pages of a block that are in memory."""
    if not block.nbytes:
        return 0
    page = os.sysconf("SC_PAGESIZE")
    first, last = block.ctypes.data // page, (block.ctypes.data + block.nbytes - 1) // page
    with open(PROCESS / "pagemap", "rb") as entries:
        entries.seek(first * 8)
        found = np.frombuffer(entries.read((last - first + 1) * 8), np.uint64)
    return int(np.count_nonzero(found & PRESENT)) * page
