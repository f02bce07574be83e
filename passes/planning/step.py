"""A whole step under one strategy: what it costs and holds, stage by stage, and what is computed again in it."""

from __future__ import annotations

from dataclasses import dataclass

from passes.planning.evaluate import Line
from passes.planning.segments import Segments
from passes.planning.solve import Solved
from passes.planning.strategies import Strategy


@dataclass(frozen=True, slots=True)
class Parts:
    """J in seconds a step and what it is made of, each on the stage where it takes longest.

    `moves` are redistributions and conversions, `sums` those of gradients that computing does not hide.
    """

    objective: float
    compute: float
    moves: float
    sums: float
    update: float
    bubble: float = 0.0
    recomputed: float = 0.0


@dataclass(frozen=True, slots=True)
class Finished:
    """A whole step. Stage i has the ops bounds[i] to bounds[i + 1] - 1; `peaks` are the bytes of each device, `again`
    the stretches of ops that are computed again.

    No plan under the same outer choice, cuts included, has a J below `bound`.
    """

    solved: Solved
    strategy: Strategy
    parts: Parts
    bounds: tuple[int, ...]
    peaks: tuple[int, ...]
    sends: tuple[float, ...] = ()  # behind each stage, for one microbatch
    again: Segments = ()
    bound: float = 0.0
    own: tuple[Line, ...] = ()  # the line as each stage takes it, where devices are unlike
    idle: float = 0.0  # share of the pipeline's time in which its devices wait: what `limit bubble` bounds
    repeated: Line | None = None  # of a pipeline: the line with what is computed again in it

    @property
    def objective(self) -> float:
        """J in seconds."""
        return self.parts.objective

    @property
    def recomputed(self) -> frozenset[int]:
        """The ops that are computed again."""
        return frozenset(op for first, end in self.again for op in range(first, end))

    @property
    def peak(self) -> int:
        """Bytes of the device with most."""
        return max(self.peaks)
