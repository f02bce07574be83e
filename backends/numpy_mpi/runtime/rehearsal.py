"""A rehearsal: all ranks of a program in this one process, by turns, with real numbers and on a predicted clock.

`--rehearse` runs the very same `main` that mpiexec starts on each rank. Messages are rendezvous: nobody sends before
the other one receives, so that a program which waits for ever does so at once, and says who waits for what. What
`seconds.json` beside the program says its functions take is what the clock shows; without that file time is real.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .clock import Clock
from .files import Files
from .thread_world import run_threads
from .world import World

if TYPE_CHECKING:
    from .program import Main, Options, Result

SECONDS = "seconds.json"
"""For each stage of the pipeline, how long a run of each of its functions takes."""


class PredictedClock(Clock):
    """Stands still but for the functions that the program runs."""

    def __init__(self, seconds: Mapping[str, float]) -> None:
        self._seconds, self._now = seconds, 0.0

    def now(self) -> float:
        """The seconds of all that has run."""
        return self._now

    def passed(self, function: str) -> None:
        """It takes as long as was predicted."""
        self._now += self._seconds.get(function, 0.0)


def rehearse(main: Main, folder: Path, ranks: int, options: Options) -> Result:
    """main on that many virtual ranks; the result of rank 0. The first failure of a rank is raised."""
    stages: list[dict[str, float]] = []
    if (folder / SECONDS).exists():
        stages = json.loads((folder / SECONDS).read_text(encoding="utf-8"))

    def rank(world: World) -> Result:
        clock = PredictedClock(stages[world.rank * len(stages) // ranks]) if stages else Clock()
        return main(world, clock, Files(Path(options.root)), options)

    return run_threads(rank, ranks, rendezvous=True)[0]
