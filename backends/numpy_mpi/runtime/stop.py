"""When training ends before its time: `stop = loss(below)` and `stop = patience(over)`.

The loss that is judged is that of the test set, at the end of each epoch; where there is none, that of each step's own
samples. It is the same on all ranks, so that they decide alike without a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

Numbers = dict[str, float | int | None]


@dataclass(slots=True)
class Below:
    """Training ends at a loss below `bound`."""

    bound: float
    last: float | None = None

    names: ClassVar[tuple[str, ...]] = ("last",)

    @property
    def reached(self) -> bool:
        """Whether training ends here."""
        return self.last is not None and self.last < self.bound

    def heed(self, step: int, loss: float | None) -> None:
        """After so many steps the loss is this; None where there is no new one."""
        self.last = self.last if loss is None else loss


@dataclass(slots=True)
class Patience:
    """Training ends where the loss has not been lower than ever before for `over` steps."""

    over: int
    best: float | None = None
    since: int = 0  # steps that were done when the loss was lowest
    judged: int = 0  # and when it was judged last

    names: ClassVar[tuple[str, ...]] = ("best", "since", "judged")

    @property
    def reached(self) -> bool:
        """Whether training ends here."""
        return self.judged - self.since >= self.over

    def heed(self, step: int, loss: float | None) -> None:
        """After so many steps the loss is this; None where there is no new one."""
        if loss is None:
            return
        self.judged = step
        if self.best is None or loss < self.best:
            self.best, self.since = loss, step


Stop = Below | Patience


def numbers_of(stop: Stop | None) -> Numbers:
    """What a checkpoint keeps of it; whether training ends follows from that and the setting."""
    return {name: getattr(stop, name) for name in stop.names} if stop is not None else {}


def restore(stop: Stop | None, numbers: Mapping[str, float | int | None]) -> None:
    """Go on from what a checkpoint has kept of the same setting; of another one it is of no use."""
    if stop is not None and set(numbers) == set(stop.names):
        for name, value in numbers.items():
            setattr(stop, name, value)
