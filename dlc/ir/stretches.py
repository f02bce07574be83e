"""Segments cut into stretches that a class of ranks runs by itself, so that an execution takes them in one step.

In a stretch a class computes, copies and communicates within itself only, and whatever it begins there it also waits
for. How long that takes, and what is busy when, depends on nothing outside the stretch, as long as nothing that began
before it is still under way on its streams: it is found once for each number of samples.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from dlc.ir.program import Instruction, Wait
from dlc.ir.storage import begins, title


@dataclass(slots=True, eq=False)
class History:
    """What happened on the streams of a class, compactly: columns, with a whole stretch in one entry.

    `streams` has the index of a name, or -1 - the index of a run. `peers` says which class the messages of a stream go
    to or come from.
    """

    names: list[str] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    streams: array[int] = field(default_factory=lambda: array("i"))
    starts: array[float] = field(default_factory=lambda: array("d"))
    ends: array[float] = field(default_factory=lambda: array("d"))
    steps: array[int] = field(default_factory=lambda: array("q"))
    busy: dict[str, float] = field(default_factory=dict)
    peers: dict[str, int] = field(default_factory=dict)
    _numbers: dict[str, int] = field(default_factory=dict)
    _run_numbers: dict[Run, int] = field(default_factory=dict)

    def add(self, stream: str, start: float, end: float, step: int) -> None:
        """Note one event."""
        number = self._numbers.get(stream)
        if number is None:
            number = self._numbers[stream] = len(self.names)
            self.names.append(stream)
        self._append(number, start, end, step)
        self.busy[stream] = self.busy.get(stream, 0.0) + (end - start)

    def add_run(self, run: Run, start: float, step: int) -> None:
        """Note a stretch that begins now, at that step."""
        number = self._run_numbers.get(run)
        if number is None:
            number = self._run_numbers[run] = len(self.runs)
            self.runs.append(run)
        self._append(-1 - number, start, start + run.seconds, step)
        for stream, seconds in run.history.busy.items():
            self.busy[stream] = self.busy.get(stream, 0.0) + seconds

    def events(self, shift: float = 0.0, first: int = 0) -> Iterator[tuple[str, float, float, int]]:
        """(stream, start, end, step) of every event, stretches expanded, all later by `shift` and `first` steps."""
        for number, start, end, step in zip(self.streams, self.starts, self.ends, self.steps, strict=True):
            if number < 0:
                yield from self.runs[-1 - number].history.events(shift + start, first + step)
            else:
                yield self.names[number], shift + start, shift + end, first + step

    def _append(self, number: int, start: float, end: float, step: int) -> None:
        self.streams.append(number)
        self.starts.append(start)
        self.ends.append(end)
        self.steps.append(step)


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """A stretch as it goes for some number of samples: times count from its start.

    `idle` has the intervals in which nothing computed, `exposed` the seconds of them that a transfer took.
    """

    seconds: float
    idle: tuple[tuple[float, float], ...]
    exposed: float
    history: History


@dataclass(frozen=True, slots=True)
class Single:
    """One instruction, the `at`-th of its segment."""

    at: int
    instruction: Instruction


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """Instructions from the `at`-th of a segment on, in which the class meets nobody else.

    `streams` are those that it communicates on; where one of them is not free, `pieces` are run in its place.
    """

    at: int
    instructions: tuple[Instruction, ...]
    streams: tuple[str, ...] = ()
    pieces: tuple[Part, ...] = ()
    runs: dict[int, Run] = field(default_factory=dict)  # by samples


Part = Single | Stretch

OwnStream = Callable[[Instruction], str | None]
"""The stream of an instruction that takes the class alone, "" where it computes; None where others are needed."""


def singles(instructions: Iterable[Instruction], at: int = 0) -> tuple[Part, ...]:
    """Every instruction by itself."""
    return tuple(Single(at + index, instruction) for index, instruction in enumerate(instructions))


def parts(instructions: tuple[Instruction, ...], own: OwnStream) -> tuple[Part, ...]:
    """The instructions of a segment cut into the longest stretches, and what stands between them."""
    found, start = list[Part](), 0
    for at, inside in enumerate((*_inside(instructions, own), False)):
        if inside:
            continue
        if start < at:
            found.append(_stretch(instructions[start:at], start, own))
        found += singles(instructions[at : at + 1], at)
        start = at + 1
    return tuple(found)


def _inside(instructions: tuple[Instruction, ...], own: OwnStream) -> list[bool]:
    """Whether each instruction can stand in a stretch: it takes the class alone, and its begin or wait is in there too.

    What stands outside may part others from their waits, which stand outside then: repeated until none is parted.
    """
    inside = [isinstance(i, Wait) or own(i) is not None for i in instructions]
    while True:
        begun, paired = dict[str, int](), list(inside)
        for at, instruction in enumerate(instructions):
            if not inside[at]:
                begun.clear()
            elif begins(instruction):
                begun[title(instruction)] = at
                paired[at] = False
            elif isinstance(instruction, Wait):
                paired[at] = instruction.name in begun
                if paired[at]:
                    paired[begun.pop(instruction.name)] = True
        if paired == inside:
            return inside
        inside = paired


def _stretch(instructions: tuple[Instruction, ...], at: int, own: OwnStream) -> Stretch:
    streams = tuple(dict.fromkeys(stream for i in instructions if (stream := own(i))))
    return Stretch(at, instructions, streams, tuple(_pieces(instructions, at, own)) if streams else ())


def _pieces(instructions: tuple[Instruction, ...], at: int, own: OwnStream) -> Iterator[Part]:
    """Kernels that follow each other as one, all else one by one."""
    start = 0
    for index, instruction in enumerate(instructions):
        if own(instruction) != "":
            if start < index:
                yield Stretch(at + start, instructions[start:index])
            yield Single(at + index, instruction)
            start = index + 1
    if start < len(instructions):
        yield Stretch(at + start, instructions[start:])
