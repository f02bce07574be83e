"""Predictions beside what was measured: a row for each plan that was run, errors, and whether they rank alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from statistics import fmean

from dlc.inspect.op_times import OpTime
from dlc.inspect.tables import percent
from dlc.units import format_bytes, format_seconds

CHOSEN = "chosen"
"""The way of a network that is the planner's own."""

NEAR_BEST = 0.05
"""A choice within so much of the best that was measured counts as the best."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One plan that was run: seconds of a step, bytes that the worst rank's process grows by.

    `low` and `high` are the interval of the prediction. `way` says what was asked of the plan, `CHOSEN` for nothing.
    `measured` is None where it could not be run; `why` says why. `speed` is how long a small matrix product took beside
    the program, over what it took in the median while the machine was calibrated: above 1 the machine was slower.
    """

    spec: str
    network: str
    ranks: int
    threads: int
    kernels: str
    way: str
    predicted: float = 0.0
    low: float = 0.0
    high: float = 0.0
    predicted_bytes: int = 0
    measured: float | None = None
    steps: int = 0
    measured_bytes: int | None = None
    base_bytes: int | None = None
    why: str = ""
    speed: float | None = None
    ops: tuple[OpTime, ...] = ()

    @property
    def error(self) -> float | None:
        """How far the prediction is from what was measured, relative to that; above 0 it is too long."""
        return None if self.measured is None else self.predicted / self.measured - 1.0

    @property
    def error_at_speed(self) -> float | None:
        """The error that there is where all of the prediction takes as many times longer as the product did."""
        if self.measured is None or self.speed is None:
            return None
        return self.predicted * self.speed / self.measured - 1.0

    @property
    def within(self) -> bool | None:
        """Whether what was measured lies in the interval of the prediction."""
        return None if self.measured is None else self.low <= self.measured <= self.high

    @property
    def memory_error(self) -> float | None:
        """As `error`, of the memory."""
        return None if not self.measured_bytes else self.predicted_bytes / self.measured_bytes - 1.0


@dataclass(frozen=True, slots=True)
class Choice:
    """Of one network the planner's choice against the best of all its ways that were run."""

    network: str
    ranks: int
    chosen: float
    best: float
    way: str
    agreement: float | None

    @property
    def times(self) -> float:
        """So many times the best step does the chosen one take."""
        return self.chosen / self.best


def agreement(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Kendall's tau: the share of pairs that both orders rank alike less the share that they rank otherwise.

    1 where predictions order all plans as measurements do, -1 where they reverse them; None of fewer than two.
    """
    both = list(combinations(pairs, 2))
    if not both:
        return None
    signs = [(a - c) * (b - d) for (a, b), (c, d) in both]
    return (sum(sign > 0 for sign in signs) - sum(sign < 0 for sign in signs)) / len(both)


def choices(trials: Sequence[Trial]) -> tuple[Choice, ...]:
    """The choice of each network of which more than one way was measured."""
    groups: dict[tuple[str, int, int, str], list[Trial]] = {}
    for trial in trials:
        if trial.measured is not None:
            groups.setdefault((trial.spec, trial.ranks, trial.threads, trial.kernels), []).append(trial)
    found = list[Choice]()
    for ways in groups.values():
        chosen = next((trial for trial in ways if trial.way == CHOSEN), None)
        if chosen is not None and len(ways) > 1:
            best = min(ways, key=lambda trial: trial.measured or 0.0)
            ranks = agreement([(trial.predicted, trial.measured or 0.0) for trial in ways])
            seconds = (chosen.measured or 0.0, best.measured or 0.0)
            found.append(Choice(chosen.network, chosen.ranks, *seconds, best.way, ranks))
    return tuple(found)


# --- text ----------------------------------------------------------------------------------------------------------

COLUMNS: tuple[tuple[str, int], ...] = (
    ("network", -20),
    ("ranks", 5),
    ("threads", 7),
    ("kernels", -7),
    ("plan", -18),
    ("predicted", 9),
    ("from … to", -18),
    ("measured", 9),
    ("error", 7),
    ("machine", 7),
    ("at that", 7),
    ("inside", 6),
    ("memory", 9),
    ("measured", 9),
    ("error", 7),
)
"""Heads of columns and their widths, below 0 where cells begin at the left: rows are shown as they are measured."""


def head() -> str:
    """The heads of all columns above a rule."""
    rule = "  ".join("-" * abs(width) for _, width in COLUMNS)
    return f"{_aligned([name for name, _ in COLUMNS])}\n{rule}"


def line(trial: Trial) -> str:
    """The row of a plan; where it could not be run, why."""
    cells = [trial.network, str(trial.ranks), str(trial.threads), trial.kernels, trial.way]
    if trial.measured is None:
        return f"{_aligned(cells)}  {trial.why}"
    cells += [
        format_seconds(trial.predicted),
        f"{format_seconds(trial.low)} … {format_seconds(trial.high)}",
        format_seconds(trial.measured),
        _signed(trial.error),
        "-" if trial.speed is None else f"{trial.speed:.2f}",
        _signed(trial.error_at_speed),
        "yes" if trial.within else "no",
        format_bytes(trial.predicted_bytes),
        "-" if trial.measured_bytes is None else format_bytes(trial.measured_bytes),
        _signed(trial.memory_error),
    ]
    return _aligned(cells)


def _aligned(cells: Sequence[str]) -> str:
    columns = zip(cells, COLUMNS, strict=False)
    texts = (cell.ljust(-width) if width < 0 else cell.rjust(width) for cell, (_, width) in columns)
    return "  ".join(texts).rstrip()


def _signed(error: float | None) -> str:
    return "-" if error is None else f"{100 * error:+.0f} %"


def summary(trials: Sequence[Trial]) -> str:
    """Mean and largest errors, rank agreement, and what the planner's choices were worth."""
    run = [trial for trial in trials if trial.measured is not None]
    lines = [f"{len(run)} of {len(trials)} plans were measured"]
    if run:
        inside = sum(bool(trial.within) for trial in run)
        lines.append(
            f"step time  {_errors(run, lambda trial: trial.error)}; {inside} of {len(run)} inside the interval"
        )
        if any(trial.speed is not None for trial in run):
            lines.append(f"at the speed of the machine meanwhile  {_errors(run, lambda trial: trial.error_at_speed)}")
        lines.append(f"memory     {_errors(run, lambda trial: trial.memory_error)}")
    tau = agreement([(trial.predicted, trial.measured or 0.0) for trial in run if trial.way == CHOSEN])
    if tau is not None:
        lines.append(f"rank agreement of the networks (Kendall's tau)  {tau:.2f}")
    lines += [_worth(choice) for choice in choices(trials)]
    return "\n".join(lines)


def _worth(choice: Choice) -> str:
    """What the choice of one network comes to."""
    best = "the chosen one" if choice.way == CHOSEN else f"`{choice.way}`"
    near = "within 5 % of it" if choice.times <= 1 + NEAR_BEST else "more than 5 % longer"
    taken = "" if choice.way == CHOSEN else f"; the chosen one takes {choice.times:.2f} times as long, {near}"
    on = f"{choice.ranks} rank{'s' * (choice.ranks > 1)}"
    return (
        f"{choice.network} on {on}: the best plan is {best}{taken}; Kendall's tau of its plans {choice.agreement:.2f}"
    )


def _errors(trials: Sequence[Trial], error: Callable[[Trial], float | None]) -> str:
    """`mean error 8 %, largest 21 % (lstm)`."""
    known = [(abs(found), trial) for trial in trials if (found := error(trial)) is not None]
    if not known:
        return "not measured"
    largest, trial = max(known, key=lambda pair: pair[0])
    return f"mean error {percent(fmean(found for found, _ in known))}, largest {percent(largest)} ({trial.network})"


# --- document ------------------------------------------------------------------------------------------------------


def document(trials: Sequence[Trial], *, interrupted: bool = False) -> dict[str, object]:
    """All of it as JSON: seconds and bytes; errors as shares."""
    run = [trial for trial in trials if trial.measured is not None]
    errors = [abs(trial.error or 0.0) for trial in run]
    memory = [abs(trial.memory_error) for trial in run if trial.memory_error is not None]
    return {
        "interrupted": interrupted,
        "trials": [
            {
                **asdict(trial),
                "error": trial.error,
                "error_at_speed": trial.error_at_speed,
                "within": trial.within,
                "memory_error": trial.memory_error,
            }
            for trial in trials
        ],
        "mean_error": fmean(errors) if errors else None,
        "largest_error": max(errors, default=None),
        "mean_memory_error": fmean(memory) if memory else None,
        "largest_memory_error": max(memory, default=None),
        "agreement": agreement([(trial.predicted, trial.measured or 0.0) for trial in run if trial.way == CHOSEN]),
        "choices": [{**asdict(choice), "times": choice.times} for choice in choices(trials)],
    }
