"""From the choice of options to a whole step: stages, schedule, recomputation, what overlap hides, and memory.

J of cost-models.md §7: without a pipeline the seconds of all ops and moves, plus the sums of gradients that are left
exposed; with one the makespan of its schedule over its stages, plus the slowest stage's updates and exposed sums.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from passes.planning.search import Solved

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Parts:
    """J and what it is made of, in seconds a step on the slowest stage."""

    objective: float
    compute: float
    moves: float  # redistributions and conversions
    sums: float  # exposed sums of gradients
    update: float
    bubble: float
    recomputed: float


@dataclass(frozen=True, slots=True)
class Finished:
    """A solved strategy as a whole step; `ends` are where stages end on the line of ops, `peaks` bytes of each stage."""

    solved: Solved
    parts: Parts
    ends: tuple[int, ...]
    peaks: tuple[int, ...]
    recomputed: frozenset[int] = frozenset()
    fits: bool = True

    @property
    def objective(self) -> float:
        """J in seconds."""
        return self.parts.objective

    @property
    def peak(self) -> int:
        """Bytes of the stage with most."""
        return max(self.peaks)


def exposed(sums: float, backward: float, overlap: float) -> float:
    """What is left of the sums of gradients where the backward pass hides the share `overlap` of its own length."""
    return max(0.0, sums - overlap * backward)
