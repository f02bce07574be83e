"""What a run shows while it goes: rank 0 prints, in plain text."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping

from .clock import Clock
from .program import Options
from .times import Times
from .world import World

_WARM = 3  # first steps that do not count, where there are more than twice as many: arrays are touched, calls prepared
_REFRESH = 0.2  # seconds between updates of a terminal's line


class Progress:
    """Times the steps and prints an epoch a line; on a terminal the line of the running epoch is kept up to date.

    With `--json` there is none: the one object is all that is printed, wherever the streams go.
    """

    def __init__(self, world: World, clock: Clock, options: Options, *, steps: int, steps_per_epoch: int) -> None:
        self._clock = clock
        self._prints = world.rank == 0 and not (options.quiet or options.json)
        # mpiexec stands between ranks and the terminal, Open MPI's in the guise of one: `dlc run` says what there is.
        alone = str(int(world.size == 1 and sys.stdout.isatty()))
        self._live = os.environ.get("DLC_TERMINAL", alone) == "1"
        self._steps = steps
        self._steps_per_epoch = max(1, steps_per_epoch)
        self._times = Times()
        self._last = self._shown = clock.now()

    def step(self, step: int, loss: float | None = None) -> None:
        """A training step has ended."""
        now = self._clock.now()
        self._times.add(now - self._last)
        self._last = now
        if self._prints and self._live and now - self._shown > _REFRESH:
            self._shown = now
            epoch, place = divmod(step, self._steps_per_epoch)
            loss_text = "" if loss is None else f"  loss {_figure(float(loss))}"
            self._show(
                f"epoch {epoch + 1}  step {place + 1}/{self._steps_per_epoch}{loss_text}  {self._pace(step)}", ""
            )

    def epoch(self, epoch: int, loss: float, metrics: Mapping[str, float]) -> None:
        """An epoch (counted from 0) has ended, evaluation included; without a step before, it is evaluation alone."""
        values = "".join(f"  {name} {_figure(value)}" for name, value in metrics.items())
        if len(self._times):
            self.note(f"epoch {epoch + 1:3d}  loss {_figure(loss)}{values}  {self.step_seconds * 1e3:.2f} ms a step")
        else:
            self.note(f"test set  loss {_figure(loss)}{values}")
        self.skip()

    def predicted(self, count: int, total: int) -> None:
        """So many samples of all have their outputs: on a terminal the line is kept up to date."""
        now = self._clock.now()
        if self._prints and self._live and now - self._shown > _REFRESH:
            self._shown = now
            self._show(f"predicted {count} of {total} samples", "")

    def skip(self) -> None:
        """What happened since the last step (evaluation, saving) does not count as a step's time."""
        self._last = self._clock.now()

    def note(self, text: str) -> None:
        """A line of its own; none for no text."""
        if text and self._prints:
            self._show(text, "\n")

    @property
    def step_seconds(self) -> float:
        """The median time of a step so far, 0 before the first."""
        return self._times.median(_WARM if len(self._times) > 2 * _WARM else 0)

    def _pace(self, step: int) -> str:
        seconds = self.step_seconds
        left = (self._steps - step - 1) * seconds
        return f"{1 / seconds:.1f} steps/s  {_minutes(left)} left" if seconds > 0 else ""

    def _show(self, text: str, end: str) -> None:
        start = "\r\033[K" if self._live else ""
        sys.stdout.write(f"{start}{text}{end}")
        sys.stdout.flush()


class Profile:
    """Times of named segments of a step: `start`, then `lap` behind each segment."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = clock.now()
        self._times: dict[str, Times] = {}
        self._made = 0
        self.watch: Callable[[int], None] = lambda made: None

    def start(self) -> None:
        """A step begins here, and its first segment; `watch` is told how many were made before."""
        self.watch(self._made)
        self._made += 1
        self._last = self._clock.now()

    def lap(self, segment: str) -> None:
        """The segment ends here, and the next begins."""
        self._clock.passed(segment)
        now = self._clock.now()
        if segment not in self._times:
            self._times[segment] = Times()
        self._times[segment].add(now - self._last)
        self._last = now

    def medians(self) -> dict[str, float]:
        """The median seconds of each segment, in the order of their first lap."""
        return {segment: times.median() for segment, times in self._times.items()}


def _figure(value: float) -> str:
    """Four places behind the point, or four digits of a number that has many before it."""
    return f"{value:.4f}" if abs(value) < 1e5 else f"{value:.4g}"


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
