"""What each device of a pipeline computes again: runs of ops within its stages (`runs.py`), and cuts that suit them.

The first stages hold most microbatches, so they compute more again, and should have fewer ops. First a few choices of
runs are made for the whole line, each for a price on bytes and a limit on what a run may need. With the best of these
for each stage, stages that go as far as a time lets them reach the end of the line for the least such time. Then the
runs of each device are chosen anew within its own stages, the line with them is cut again, and so forth; the best is
kept.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING

from passes.planning.evaluate import BUBBLE, Line
from passes.planning.pipeline_line import Pipeline
from passes.planning.runs import Choice, Part, Runs, best_runs, part_of, paths, repeated_line
from passes.planning.segments import Segments

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

LONGEST = 64
"""Ops of a run in a stage at most: many microbatches are held beside the one whose run is computed again."""

NEEDS = (0.25, 0.125, 0.0625, 0.03125, 0.015625)
"""Limits on what a run may need, as shares of the memory."""

PRICES = 7
"""Prices of a byte beside each of them."""

HALVINGS = 12
"""Times that are tried for a stage."""


@dataclass(frozen=True)
class Choices:
    """Choices of what a line computes again, for rising prices of a byte; `most` is what a run may need, the same for
    choices that may be mixed.

    [choice, place]: `seconds` and `saved` bytes of a microbatch, summed up before a place; [choice, op]: what it needs.
    """

    fixed: Array
    most: Array
    seconds: Array
    saved: Array
    needs: Array


def _choices(costs: Line, most: Array, lines: Sequence[Line]) -> Choices:
    import numpy as np

    def sums(found: Array) -> Array:
        return np.concatenate([np.zeros((len(found), 1)), found.cumsum(axis=1)], axis=1)

    return Choices(
        np.append(0.0, costs.fixed.cumsum()),
        most,
        sums(np.stack([each.forward + each.backward + each.weights for each in lines])),
        sums(np.stack([each.saved for each in lines])),
        np.stack([each.transient for each in lines]),
    )


def free_choices(costs: Line, barred: Collection[int]) -> Choices:
    """As if every op could be computed again by itself, and held nothing then: no runs do better."""
    import numpy as np

    may = np.ones(len(costs.forward), dtype=bool)
    may[list(barred)] = False
    some = may & (costs.saved > 0.0)
    rates = np.divide(costs.forward, costs.saved, out=np.full(len(may), np.inf), where=some)
    prices = np.append(-1.0, np.quantile(rates[some], np.linspace(0.0, 1.0, PRICES)) if some.any() else [])
    lines = []
    for price in prices.tolist():
        again = rates <= price
        saved, backward = np.where(again, 0.0, costs.saved), costs.backward + again * costs.forward
        lines.append(replace(costs, saved=saved, backward=backward))
    return _choices(costs, np.zeros(len(lines)), lines)


def run_choices(runs: Runs, limit: float) -> Choices:
    """Runs for the whole line, for some prices and limits on what a run may need."""
    import numpy as np

    costs = runs.costs
    part = part_of(runs, [(0, len(costs.forward))], [1])
    room = max(limit - part.least, 0.0)
    needs = [part.least + share * room for share in NEEDS]
    allowed = (part.needs <= max(needs)) & (part.freed > 0.0)
    if not allowed.any():
        return _choices(costs, np.zeros(1), [costs])
    rates = part.seconds[allowed] / part.freed[allowed]
    prices = np.quantile(rates, np.linspace(0.0, 1.0, PRICES)) * (1 + 1e-9)
    lines: list[Line] = []
    for need in needs:
        chosen = paths(part, np.full(PRICES, need), prices)
        lines += [costs, *(repeated_line(runs, part.segments(each)) for each in chosen)]
    return _choices(costs, np.repeat(needs, PRICES + 1), lines)


def balanced(choices: Choices, pipe: Pipeline, most: float = inf) -> tuple[float, tuple[int, ...]] | None:
    """The least seconds of a microbatch, up to `most`, within which stages that fit can reach the end of the line, and
    their bounds.

    Every stage has the best choice for it, and memory as if all chunks of its device were like it. None where no
    stages fit.
    """
    held = _held_by(pipe)
    bounds = _reached(choices, pipe, held, most)
    if bounds is None:
        return None
    whole = choices.seconds[:, -1]
    low, high = float(whole[0]) / pipe.parts, min(most, float(whole.max()))
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        reached = _reached(choices, pipe, held, middle)
        low, high, bounds = (middle, high, bounds) if reached is None else (low, middle, reached)
    return high, bounds


def fit(choices: Choices, pipe: Pipeline) -> bool:
    """Whether there are stages that fit, however long they take."""
    return _reached(choices, pipe, _held_by(pipe), inf) is not None


def _held_by(pipe: Pipeline) -> list[float]:
    """About how many microbatches each stage holds, of as many chunks as its device has."""
    return [sum(pipe.held[part % pipe.stages]) for part in range(pipe.parts)]


def _reached(choices: Choices, pipe: Pipeline, most: Sequence[float], seconds: float) -> tuple[int, ...] | None:
    """The bounds of stages that each go as far as so many seconds, and the memory, let them; None where they do not
    reach the end."""
    import numpy as np

    at, count, bounds = 0, len(choices.fixed) - 1, [0]
    mixed = np.flatnonzero(np.diff(choices.most) == 0.0)
    for part, held in enumerate(most):
        end = count - (pipe.parts - part - 1)
        if seconds < inf:
            end = min(end, int(np.searchsorted(choices.seconds[0], choices.seconds[0, at] + seconds, side="right")))
        if end <= at:
            return None
        places = slice(at + 1, end + 1)
        bytes_ = (
            pipe.chunks * (choices.fixed[places] - choices.fixed[at])
            + held * (choices.saved[:, places] - choices.saved[:, at : at + 1])
            + np.maximum.accumulate(choices.needs[:, at:end], axis=1)
        )
        over = bytes_ - pipe.limits[part % pipe.stages]
        taken = np.where(over <= 0.0, choices.seconds[:, places] - choices.seconds[:, at : at + 1], np.inf)
        # between two choices, as much of the second one as must be
        more, less = over[mixed], over[mixed + 1]
        share = np.divide(more, more - less, out=np.full(more.shape, np.inf), where=(more > 0.0) & (less <= 0.0))
        first = choices.seconds[mixed][:, places] - choices.seconds[mixed, at : at + 1]
        second = choices.seconds[mixed + 1][:, places] - choices.seconds[mixed + 1, at : at + 1]
        between = np.where(share < np.inf, first + np.where(share < np.inf, share, 0.0) * (second - first), np.inf)
        some = np.flatnonzero(np.minimum(taken.min(axis=0), between.min(axis=0, initial=np.inf)) <= seconds)
        if not len(some) or (seconds == inf and not np.isfinite(taken).any()):
            return None
        at += int(some[-1]) + 1
        bounds.append(at)
    return tuple(bounds) if at == count else None


def estimate(choices: Choices, pipe: Pipeline, below: float = inf) -> tuple[float, tuple[int, ...]] | None:
    """About how long a pipeline takes, and bounds of its stages; None where none fits that takes less than `below`."""
    import numpy as np

    message = 2 * pipe.ends * float(np.median(pipe.line.send[1:-1])) if pipe.line.blocks > 1 else 0.0
    bubble = BUBBLE[pipe.schedule] if pipe.schedule != "interleaved" else 1.0 / pipe.chunks
    often = (pipe.microbatches + bubble * (pipe.stages - 1)) * pipe.chunks
    found = balanced(choices, pipe, below / often - message)
    return None if found is None else (often * (found[0] + message), found[1])


def repeated(runs: Runs, choices: Choices, pipe: Pipeline, bounds: Sequence[int]) -> tuple[Line, Segments] | None:
    """The line with the runs that each device computes again, within these stages; None where one does not fit."""
    segments: list[tuple[int, int]] = []
    for device, limit in enumerate(pipe.limits):
        stretches = list(pairwise(bounds))[device :: pipe.stages]
        mine = _of_device(runs, choices, stretches, pipe.held[device], limit)
        if mine is None:
            return None
        segments.extend(mine)
    again = tuple(sorted(segments))
    return repeated_line(runs, again), again


def _of_device(
    runs: Runs, choices: Choices, stretches: Sequence[tuple[int, int]], held: Sequence[int], limit: float
) -> Segments | None:
    """The runs that one device computes again."""
    costs = runs.costs
    room, part = (
        limit - sum(float(costs.fixed[first:end].sum()) for first, end in stretches),
        part_of(runs, stretches, held),
    )
    if part.kept + part.least <= room:
        return ()
    chosen = _cheapest(choices, part, stretches, held, room)
    return None if chosen is None else part.segments(chosen)


def _cheapest(
    choices: Choices, part: Part, stretches: Sequence[tuple[int, int]], counts: Sequence[float], room: float
) -> Choice | None:
    """The runs of a part that take least: with what the best choice for the whole line that fits lets a run need, or
    any other."""
    import numpy as np

    taken = sum(choices.seconds[:, end] - choices.seconds[:, first] for first, end in stretches)
    bytes_ = sum(
        n * (choices.saved[:, end] - choices.saved[:, first]) for n, (first, end) in zip(counts, stretches, strict=True)
    )
    needs = [choices.needs[:, first:end].max(axis=1) for first, end in stretches]
    fits = bytes_ + np.max(needs, axis=0) <= room
    best = [float(choices.most[np.where(fits, taken, np.inf).argmin()])] if fits.any() else []
    for most in (*best, *np.unique(choices.most).tolist()):
        found = best_runs(part, most, room)
        if found is not None:
            return found[1]
    return None
