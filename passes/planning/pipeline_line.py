"""A line of units to be cut into pipeline stages: what a stage would take, hold and finish at the earliest.

Units between which no cut can be are merged, so that every inner position is a place for a cut. Positions run from 0 to
`blocks`; stage (b, e) holds the blocks b to e − 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import accumulate, pairwise
from math import inf
from typing import TYPE_CHECKING, Any

from dlc.cost.schedules import Schedule, Work, occupied, slots, step_seconds, table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

ASTRAY = 1e30
"""Counts as so many bytes too many: a cut one block from where it may be."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A step of the topological line: seconds of one microbatch at speed 1, and bytes.

    `backward` is by inputs and `weights` by weights; `saved` bytes are held for each microbatch from its forward to
    its backward pass, `fixed` always, `transient` while the unit computes. `send` is what the value behind the unit
    costs at a cut, forward, and its gradient backward again; infinite where no cut can be.
    """

    forward: float
    backward: float
    weights: float = 0.0
    saved: float = 0.0
    fixed: float = 0.0
    send: float = 0.0
    transient: float = 0.0


@dataclass(frozen=True)
class Line:
    """Sums over the blocks up to each position; `send` is that of a cut at the position, `units` the unit behind it."""

    units: tuple[int, ...]
    forward: tuple[float, ...]
    backward: tuple[float, ...]
    weights: tuple[float, ...]
    total: tuple[float, ...]
    saved: tuple[float, ...]
    fixed: tuple[float, ...]
    send: tuple[float, ...]
    transient: tuple[float, ...]  # of each block, not summed
    least: dict[object, float] = field(default_factory=dict, compare=False)  # bounds on stages (`cut_candidates`)
    windows: dict[object, tuple[int, ...] | None] = field(default_factory=dict, compare=False)  # cuts by bound
    arrays: dict[str, Floats] = field(default_factory=dict, compare=False)

    @property
    def blocks(self) -> int:
        """How many blocks there are."""
        return len(self.units) - 1

    def array(self, name: str) -> Floats:
        """A column."""
        import numpy as np

        if name not in self.arrays:
            self.arrays[name] = np.array(getattr(self, name), dtype=np.float64)
        return self.arrays[name]

    @cached_property
    def cheapest(self) -> float:
        """The cheapest cut."""
        return min(self.send[1:-1], default=0.0)

    @cached_property
    def sent(self) -> tuple[float, ...]:
        """Entry k is what k cuts at different places cost at least."""
        return tuple(accumulate(sorted(self.send[1:-1]), initial=0.0))

    @cached_property
    def _peaks(self) -> tuple[tuple[float, ...], ...]:
        """Entry [k][i] is the largest transient of the 2^k blocks from i on."""
        levels = [self.transient]
        while (step := 2 ** (len(levels) - 1)) * 2 <= self.blocks:
            last = levels[-1]
            levels.append(tuple(max(last[i], last[i + step]) for i in range(len(last) - step)))
        return tuple(levels)

    def peak(self, b: int, e: int) -> float:
        """The largest transient of the blocks b to e − 1."""
        level = (e - b).bit_length() - 1
        largest = self._peaks[level]
        return max(largest[b], largest[e - (1 << level)])


def line(units: Sequence[Unit]) -> Line:
    """The units as blocks between possible cuts."""
    places = [0, *(i for i in range(1, len(units)) if units[i - 1].send < inf), len(units)]

    def sums(name: str) -> tuple[float, ...]:
        running: list[float] = list(accumulate((getattr(unit, name) for unit in units), initial=0.0))
        return tuple(running[i] for i in places)

    parts: dict[str, Any] = {name: sums(name) for name in ("forward", "backward", "weights", "saved", "fixed")}
    total = tuple(f + b + w for f, b, w in zip(parts["forward"], parts["backward"], parts["weights"], strict=True))
    send = (0.0, *(units[i - 1].send for i in places[1:-1]), 0.0)
    transient = tuple(max(unit.transient for unit in units[b:e]) for b, e in pairwise(places))
    return Line(tuple(places), total=total, send=send, transient=transient, **parts)


@dataclass(frozen=True)
class Pipeline:
    """What is to be cut: `stages` devices of some speeds and memories, and a schedule of microbatches and chunks."""

    line: Line
    schedule: Schedule
    stages: int
    microbatches: int
    chunks: int
    speeds: tuple[float, ...]
    limits: tuple[float, ...]
    ranks: tuple[int, ...] = ()  # that share each microbatch of a stage, where stages are replicated
    after: Callable[[int, int, int], float] | None = None  # seconds of stage, b and e that follow the makespan
    windows: tuple[tuple[int, int], ...] = ()  # the first and last position of each inner cut, where they are confined
    barred: tuple[tuple[int, int], ...] = ()  # (block, a virtual stage that must not have it)
    own: tuple[Line, ...] = ()  # the line as each device takes it, where speeds say too little
    ends: int = 0  # of a message that do nothing else meanwhile: none, its receiver (1), its sender as well (2)

    @property
    def parts(self) -> int:
        """How many virtual stages there are."""
        return self.stages * self.chunks

    @cached_property
    def held(self) -> tuple[tuple[int, ...], ...]:
        """Per device, how many microbatches each chunk has memory for."""
        p, m = self.stages, self.microbatches
        match self.schedule:
            case "interleaved":
                return _interleaved(p, m, self.chunks)
            case "gpipe":
                return ((m,),) * p
            case "one_f_one_b":
                return tuple((min(m, p - d),) for d in range(p))
            case "zero_bubble":
                return ((min(m, p),),) * p

    def ahead(self, part: int) -> int:
        """How many forward passes virtual stage `part` does before its first backward one, with one chunk a device."""
        p, m = self.stages, self.microbatches
        behind = {"gpipe": m, "interleaved": 2 * (p - part) - 1}.get(self.schedule, p - part)
        return min(m, behind)

    def work(self, part: int, b: int, e: int) -> Work:
        """What virtual stage `part` computes for a microbatch."""
        device = part % self.stages
        at, speed = (self.own[device], 1.0) if self.own else (self.line, self.speeds[device])
        return Work(
            (at.forward[e] - at.forward[b]) / speed,
            (at.backward[e] - at.backward[b]) / speed,
            (at.weights[e] - at.weights[b]) / speed,
        )

    def bytes(self, device: int, stages: Sequence[tuple[int, int]]) -> float:
        """The peak of a device that holds these blocks, one pair (b, e) for each of its first chunks."""
        at, ranks = self.line, self.ranks[device] if self.ranks else 1
        if self.chunks == 1:
            ((b, e),), (held,) = stages, self.held[device]
            return at.fixed[e] - at.fixed[b] + (held * (at.saved[e] - at.saved[b]) + at.peak(b, e)) / ranks
        fixed = sum(at.fixed[e] - at.fixed[b] for b, e in stages)
        saved = [at.saved[e] - at.saved[b] for b, e in stages]
        most = sum(n * size for n, size in zip(self.held[device], saved, strict=False))
        return fixed + (most + max(at.peak(b, e) for b, e in stages)) / ranks

    def all_bytes(self, bounds: Sequence[int]) -> tuple[float, ...]:
        """The peak of each device."""
        pairs = list(pairwise(bounds))
        return tuple(self.bytes(d, pairs[d :: self.stages]) for d in range(self.stages))

    @property
    def possible(self) -> bool:
        """Whether every cut has a position to be at."""
        return all(low <= high for low, high in self.windows)

    def astray(self, bounds: Sequence[int]) -> int:
        """How far cuts are from where they may be, together, and how many blocks are where they must not be."""
        far = sum(max(low - b, b - high, 0) for b, (low, high) in zip(bounds[1:-1], self.windows, strict=False))
        return far + sum(
            bounds[stage] <= block < bounds[stage + 1] for block, stage in self.barred if stage < self.parts
        )

    def excess(self, bounds: Sequence[int]) -> float:
        """Bytes by which the devices' peaks exceed their memories, together; more than any for cuts that are astray."""
        if (self.windows or self.barred) and (astray := self.astray(bounds)):
            return ASTRAY * astray
        if max(self.limits) == inf == min(self.limits):
            return 0.0
        return sum(max(0.0, size - limit) for size, limit in zip(self.all_bytes(bounds), self.limits, strict=True))

    def cells(self, bounds: Sequence[int]) -> tuple[Sequence[Work], Sequence[float]]:
        """What each virtual stage does for a microbatch, and the seconds of messages in which no device is busy."""
        works = [self.work(part, b, e) for part, (b, e) in enumerate(pairwise(bounds))]
        sends = [self.line.send[i] for i in bounds[1:-1]]
        return (occupied(works, sends, self.ends), [0.0] * len(sends)) if self.ends else (works, sends)

    def seconds(self, bounds: Sequence[int]) -> float:
        """The exact makespan, and what follows it."""
        works, sends = self.cells(bounds)
        seconds = step_seconds(self.schedule, self.stages, self.microbatches, works, sends)
        if self.after is None:
            return seconds
        return seconds + max(self.after(part, b, e) for part, (b, e) in enumerate(pairwise(bounds)))


def fastest(slow: Line, own: Line) -> float:
    """No block is computed more times as fast by a device that takes `own` as by one that takes `slow`."""
    columns = ((slow.forward, own.forward), (slow.backward, own.backward), (slow.weights, own.weights))
    pairs = (
        (b - a, d - c)
        for before, after in columns
        for (a, b), (c, d) in zip(pairwise(before), pairwise(after), strict=True)
    )
    return max((one / other for one, other in pairs if other > 0), default=1.0)


@lru_cache(maxsize=32)
def _interleaved(stages: int, microbatches: int, chunks: int) -> tuple[tuple[int, ...], ...]:
    return tuple(map(slots, table("interleaved", stages, microbatches, chunks)))
