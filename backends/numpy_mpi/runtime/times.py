"""Seconds of the steps of a run, in memory that is there from the beginning however long it runs."""

from __future__ import annotations

from statistics import median

import numpy as np

ROOM = 1024


class Times:
    """All of them, in order; of more than there is room for each second, then each fourth, and so on.

    What is kept is so spread evenly over the run, at least half of the room.
    """

    def __init__(self) -> None:
        self._kept = np.full(ROOM, 0.0)  # pages that are written are there
        self._count, self._made, self._each = 0, 0, 1

    def add(self, seconds: float) -> None:
        """That of the next step."""
        if self._made % self._each == 0:
            if self._count == ROOM:
                self._kept[: ROOM // 2] = self._kept[::2]
                self._count, self._each = ROOM // 2, 2 * self._each
            self._kept[self._count] = seconds
            self._count += 1
        self._made += 1

    def __len__(self) -> int:
        """How many were added."""
        return self._made

    def median(self, warm: int = 0) -> float:
        """That of all but the first `warm` steps, 0 where there is none."""
        counted = self._kept[-(-warm // self._each) : self._count].tolist()
        return median(counted) if counted else 0.0
