"""How long a pipeline's table takes, and what it holds: exact evaluation of its events.

The table says in which order each device computes its cells, so nothing is decided here: a cell starts when its device
is free and its operand has arrived.

* Sends that do not block (the default): a message leaves when the cell before it ends and the link is free, occupies
  the link for the boundary's seconds, and the receiving cell starts after it; sender and receiver compute meanwhile.
  A device has one link for activations to the next device and one for gradients to the previous one, so transfers over
  boundaries of several chunks of a device share a link, and the two directions do not disturb each other.
* Receives that block: the receiver computes nothing meanwhile (`occupied`). So it is in programs of today, which begin
  a receive where they need it; on devices that cannot overlap the sender waits as well.
* Sends that block (rendezvous): a cell is receive, compute, send, as the program says it. A message needs both devices
  to have come to it and holds both. Such a table may never end; its makespan is infinite then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from math import inf
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

Phase = Literal["F", "B", "W"]


class Cell(NamedTuple):
    """A phase of a microbatch in one chunk of a device: F forward, B backward (by inputs), W backward by weights."""

    phase: Phase
    microbatch: int
    chunk: int = 0


Rows = tuple[tuple[Cell, ...], ...]
"""A table: for each device its cells in order."""


@dataclass(frozen=True, slots=True)
class Work:
    """Seconds of one microbatch on one virtual stage; where a table has no W, its B takes `backward + weights`."""

    forward: float
    backward: float
    weights: float = 0.0

    @property
    def total(self) -> float:
        """Seconds of all three."""
        return self.forward + self.backward + self.weights


def occupied(works: Sequence[Work], sends: Sequence[float], ends: int) -> list[Work]:
    """The works with the seconds of the messages that keep their receivers (`ends` 1), or also their senders (2), busy.

    With these and sends that take no time, a makespan is that of receives that block. A virtual stage receives what the
    one before it sends, forward, and from the one behind it a gradient of as many bytes.
    """
    before, behind = (0.0, *sends), (*sends, 0.0)
    also = 1.0 if ends > 1 else 0.0
    return [
        Work(work.forward + one + also * other, work.backward + other + also * one, work.weights)
        for work, one, other in zip(works, before, behind, strict=True)
    ]


def separate(rows: Rows) -> bool:
    """Whether the backward pass by weights has cells of its own."""
    return any(cell.phase == "W" for cell in rows[0])


def makespan(rows: Rows, works: Sequence[Work], sends: Sequence[float], blocking: bool = False) -> float:
    """Seconds from the start of the first cell to the end of the last.

    `works` has one entry for each virtual stage, `sends` one for each boundary between stage i and i + 1: seconds of
    the activation forward, and the same for its gradient backward. Infinite where the table blocks itself.
    """
    if len(works) % len(rows) or len(sends) != len(works) - 1:
        raise ValueError(f"{len(works)} stages and {len(sends)} boundaries do not fit {len(rows)} devices")
    return max(_rendezvous(rows, works, sends) if blocking else _flow(rows, works, sends))


@dataclass(frozen=True, slots=True)
class Layers:
    """A table's cells, numbered from 1 by layers: all that a cell waits for is in earlier ones, which number 0 is in.

    `steps` has for each layer its cells, and of each of them the one before it on its device and the one whose result
    it reads; `kinds` of each cell is 3 · virtual stage + 0, 1 or 2 for F, B and W.
    """

    kinds: Integers
    steps: tuple[tuple[slice, Integers, Integers], ...]
    whole: bool  # B holds W

    def seconds(self, works: Sequence[Work]) -> float:
        """The makespan where sends take no time, bit for bit that of `makespan`: all cells of a layer at once."""
        import numpy as np

        taken = [(w.forward, w.backward + w.weights if self.whole else w.backward, w.weights) for w in works]
        seconds = np.array(taken, dtype=np.float64).ravel()[self.kinds]
        ends = np.zeros(len(seconds) + 1)
        for cells, before, read in self.steps:
            ends[cells] = np.maximum(ends[before], ends[read]) + seconds[cells.start - 1 : cells.stop - 1]
        return float(ends.max())


def layers(rows: Rows) -> Layers:
    """The layers of a table; ValueError where devices wait for ever."""
    import numpy as np

    p, length = len(rows), len(rows[0])
    phases, *numbers = zip(*chain.from_iterable(rows), strict=True)
    microbatches, chunks = (np.fromiter(column, np.int64, p * length) for column in numbers)
    count, m = p * length, int(microbatches.max()) + 1
    letters = np.frombuffer("".join(phases).encode(), dtype=np.uint8)
    stage, phase = chunks * p + np.arange(count) // length, np.searchsorted(np.frombuffer(b"BFW", np.uint8), letters)
    stages = int(stage.max()) + 1
    place = np.full((3, stages + 1, m), count)  # [B, F or W; virtual stage; microbatch]: the cell, `count` for none
    place[phase, stage, microbatches] = np.arange(count)
    last = np.where(stage + 1 == stages, place[1, stage, microbatches], place[0, stage + 1, microbatches])
    first = np.where(stage == 0, count, place[1, stage - 1, microbatches])
    reads = np.where(phase == 0, last, np.where(phase == 1, first, count))
    order = list(_in_layers(reads, p))
    if sum(map(len, order)) < count:
        raise ValueError("devices wait for each other for ever")
    cells, number = np.concatenate(order), np.zeros(count + 1, dtype=np.int64)
    number[cells] = np.arange(1, count + 1)
    before, read = np.where(cells % length == 0, 0, number[cells - 1]), number[reads[cells]]
    ends = np.cumsum([0, *map(len, order)]).tolist()
    steps = tuple((slice(a + 1, b + 1), before[a:b], read[a:b]) for a, b in pairwise(ends))
    return Layers(3 * stage[cells] + np.array([1, 0, 2])[phase[cells]], steps, not separate(rows))


def _in_layers(reads: Integers, devices: int) -> Iterator[Integers]:
    """Each device's next cell, wherever what it reads is done, again and again."""
    import numpy as np

    count = len(reads)
    length = count // devices
    done = np.zeros(count + 1, dtype=np.bool_)
    done[count] = True
    position = np.arange(devices) * length
    ends = position + length
    while True:
        waiting = position[position < ends]
        ready = waiting[done[reads[waiting]]]
        if not len(ready):
            return
        yield ready
        done[ready] = True
        position[ready // length] += 1


def needs_nonblocking(rows: Rows) -> bool:
    """Whether the devices would wait for each other for ever if each send waited for its receive."""
    stages = len(rows) * (1 + max(cell.chunk for cell in rows[0]))
    return max(_rendezvous(rows, [Work(0.0, 0.0)] * stages, [0.0] * (stages - 1))) == inf


def sends_under_way(rows: Rows) -> int:
    """How many messages of one phase of a chunk must be able to be on their way, or the devices wait for ever.

    A cell first waits until so many minus one are left of its phase and chunk, then receives, computes and sends. One
    is enough but for `interleaved` with microbatches that are no multiple of the stages.
    """
    most = 1
    while not _runs(rows, most):
        most += 1
        if most > len(rows[0]):
            raise ValueError("the table waits for ever, however many messages are on their way")
    return most


def _runs(rows: Rows, most: int) -> bool:
    """Whether every cell runs with at most so many unreceived messages of each phase and virtual stage."""
    p = len(rows)
    stages = p * (1 + max(cell.chunk for cell in rows[0]))
    sent: dict[tuple[Phase, int], set[int]] = {}
    position, moved = [0] * p, p > 1
    while moved:
        moved = False
        for d, row in enumerate(rows):
            while position[d] < len(row):
                phase, microbatch, part = row[position[d]]
                i, step = part * p + d, {"F": 1, "B": -1, "W": 0}[phase]
                own = sent.setdefault((phase, i), set())
                incoming = sent.setdefault((phase, i - step), set())
                receives = step != 0 and 0 <= i - step < stages
                if len(own) == most or (receives and microbatch not in incoming):
                    break
                if receives:
                    incoming.remove(microbatch)
                if step != 0 and 0 <= i + step < stages:
                    own.add(microbatch)
                position[d] += 1
                moved = True
    return p == 1 or all(at == len(row) for at, row in zip(position, rows, strict=True))


def in_flight(rows: Rows) -> tuple[int, ...]:
    """Per device, the most microbatches (times chunks) whose activations are held at once: from F to B, or to W."""
    return tuple(max(map(sum, counts)) for counts in occupancy(rows))


def occupancy(rows: Rows) -> tuple[tuple[tuple[int, ...], ...], ...]:
    """Per device, how many microbatches each chunk holds at the moments when memory may peak.

    Moments that another one exceeds or equals in every chunk are left out; with one chunk one moment is left.
    """
    last: Phase = "W" if separate(rows) else "B"
    return tuple(_maximal(_counts(row, last)) for row in rows)


def slots(row: tuple[Cell, ...]) -> tuple[int, ...]:
    """How many copies each chunk of a device has of what a microbatch needs from its F to its last cell.

    Microbatches take turns in them: for each F, how many the oldest that is not yet over lies before it, and one.
    """
    return tuple(
        max((held for held in _spans(row, chunk)), default=1) for chunk in range(1 + max(cell.chunk for cell in row))
    )


def _spans(row: tuple[Cell, ...], chunk: int) -> Iterator[int]:
    last = {cell.microbatch: at for at, cell in enumerate(row) if cell.chunk == chunk}
    oldest = 0
    for at, cell in enumerate(row):
        if cell.phase == "F" and cell.chunk == chunk:
            while oldest < cell.microbatch and last[oldest] <= at:
                oldest += 1
            yield max(cell.microbatch - oldest, 0) + 1


def _counts(row: tuple[Cell, ...], last: Phase) -> Iterator[tuple[int, ...]]:
    """What each chunk holds before each release that follows a growth."""
    held = [0] * (1 + max(cell.chunk for cell in row))
    grown = False
    for phase, _, at in row:
        if phase == "F":
            held[at] += 1
            grown = True
        elif phase == last:
            if grown:
                yield tuple(held)
            held[at] -= 1
            grown = False


def _maximal(vectors: Iterator[tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
    """The vectors that no other one equals or exceeds in every entry, in falling order."""
    import numpy as np

    found = sorted(set(vectors), reverse=True)
    rows = np.array(found, dtype=np.int64).reshape(len(found), -1)
    exceeded = [(rows[:i] >= row).all(axis=1).any() for i, row in enumerate(rows)]
    return tuple(vector for vector, out in zip(found, exceeded, strict=True) if not out)


def _flow(rows: Rows, works: Sequence[Work], sends: Sequence[float]) -> list[float]:
    """When each device ends, with sends that do not block; infinite for one that waits for ever."""
    p, stages = len(rows), len(works)
    microbatches = 1 + max(cell.microbatch for cell in rows[0])
    whole = not separate(rows)
    forward = [work.forward for work in works]
    backward = [work.backward + work.weights if whole else work.backward for work in works]
    # Arrivals by virtual stage and microbatch; None until the message is on its way.
    activations: list[list[float | None]] = [[0.0 if i == 0 else None] * microbatches for i in range(stages + 1)]
    gradients: list[list[float | None]] = [[None] * microbatches for _ in range(stages)]
    seconds = [0.0 if p == 1 else send for send in sends]
    position, free, next_link, previous_link = [0] * p, [0.0] * p, [0.0] * p, [0.0] * p
    waiting, ready = [False] * p, list(range(p - 1, -1, -1))
    while ready:
        d = ready.pop()
        row, now = rows[d], free[d]
        for at in range(position[d], len(row)):
            phase, microbatch, part = row[at]
            i = part * p + d
            if phase == "W":
                now += works[i].weights
                continue
            arrived = activations[i][microbatch] if phase == "F" else gradients[i][microbatch]
            if arrived is None:
                position[d], waiting[d] = at, True
                break
            start = now if now > arrived else arrived
            if phase == "F":
                now = start + forward[i]
                if i + 1 == stages:
                    gradients[i][microbatch] = now
                    continue
                left = now if now > next_link[d] else next_link[d]
                activations[i + 1][microbatch] = next_link[d] = left + seconds[i]
                receiver = d + 1 if d + 1 < p else 0
            else:
                now = start + backward[i]
                if i == 0:
                    continue
                left = now if now > previous_link[d] else previous_link[d]
                gradients[i - 1][microbatch] = previous_link[d] = left + seconds[i - 1]
                receiver = d - 1 if d else p - 1
            if waiting[receiver]:
                waiting[receiver] = False
                ready.append(receiver)
        free[d] = now
    return [inf if stuck else end for stuck, end in zip(waiting, free, strict=True)]


class _Step(NamedTuple):
    """A step of a device under rendezvous: it computes, or meets `peer` over `message`."""

    seconds: float
    peer: int = -1
    message: tuple[str, int, int] = ("", 0, 0)


def _rendezvous(rows: Rows, works: Sequence[Work], sends: Sequence[float]) -> list[float]:
    """When each device ends, if each send waits for its receive; infinite for one that waits for ever."""
    if inf in (ends := _flow(rows, works, sends)):
        return ends
    steps = [list(chain.from_iterable(_steps(rows, works, sends, d))) for d in range(len(rows))]
    position, free = [0] * len(rows), [0.0] * len(rows)
    ready = list(range(len(rows)))
    while ready:
        d = ready.pop()
        while position[d] < len(steps[d]):
            step = steps[d][position[d]]
            if step.peer < 0:
                free[d] += step.seconds
                position[d] += 1
                continue
            other = step.peer
            if position[other] == len(steps[other]) or steps[other][position[other]].message != step.message:
                break
            free[d] = free[other] = max(free[d], free[other]) + step.seconds
            position[d] += 1
            position[other] += 1
            ready.append(other)
    return [end if position[d] == len(steps[d]) else inf for d, end in enumerate(free)]


def _steps(rows: Rows, works: Sequence[Work], sends: Sequence[float], d: int) -> Iterator[list[_Step]]:
    """Receive, compute, send of each cell of a device. A message is named by its phase, boundary and microbatch."""
    p, stages, whole = len(rows), len(works), not separate(rows)
    for phase, microbatch, part in rows[d]:
        i, work = part * p + d, works[part * p + d]
        after = _Step(sends[i], (d + 1) % p, ("F", i, microbatch)) if i + 1 < stages and p > 1 else None
        before = _Step(sends[i - 1], (d - 1) % p, ("F", i - 1, microbatch)) if i and p > 1 else None
        if phase == "F":
            found = (before, _Step(work.forward), after)
        elif phase == "B":
            back = [step and step._replace(message=("B", *step.message[1:])) for step in (after, before)]
            found = (back[0], _Step(work.backward + work.weights * whole), back[1])
        else:
            found = (None, _Step(work.weights), None)
        yield [step for step in found if step]
