"""The rows of a role's entries: which segment runs when, for which microbatch, in which slot of buffers."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from dlc.cost.makespan import Cell, Phase, Rows, Work, slots
from dlc.cost.schedules import occupied, table
from dlc.ir.plan import Plan
from dlc.ir.program import TRAIN_STEP, Entry, Row


def cells(plan: Plan, devices: int, overlap: bool = True) -> Rows:
    """The cells of each device: the plan's schedule, or, without a pipeline, one microbatch after another.

    `overlap` says whether devices compute while they send.
    """
    if devices == 1:
        phases: tuple[Phase, ...] = ("F", "B")
        return (tuple(Cell(phase, i) for i in range(plan.microbatches) for phase in phases),)
    works = [Work(stage.forward, stage.backward, stage.weights) for stage in plan.stages]
    timed = works if plan.schedule == "zero_bubble" and any(work.total for work in works) else None
    if timed is not None:
        timed = occupied(timed, [stage.send for stage in plan.stages[:-1]], 1 if overlap else 2)
    return table(plan.schedule, devices, plan.microbatches, plan.chunks, timed)  # type: ignore[arg-type]


@dataclass(slots=True)
class Making:
    """Makes the rows of one device. `segments` are the names that it has; a segment that sends without blocking has
    one called `NAME.sent`, which waits: that comes before the segment runs again in the same slot, and at the end."""

    segments: Collection[str]
    chunks: int
    staged: bool
    rows: list[Row] = field(default_factory=list)
    begun: dict[tuple[str, int], Row] = field(default_factory=dict)  # by segment and slot, oldest first

    def title(self, segment: str, chunk: int) -> str:
        """The name of a chunk's segment."""
        return f"{segment}{chunk}" if self.staged else segment

    def run(self, segment: str, chunk: int = -1, microbatch: int = 0, slot: int = 0) -> None:
        """Run a segment if there is one; a chunk of -1 stands for the whole device."""
        name = segment if chunk < 0 else self.title(segment, chunk)
        if name not in self.segments:
            return
        self._settle(name, slot)
        row = Row(name, microbatch, slot)
        self.rows.append(row)
        if f"{name}.sent" in self.segments:
            self.begun[name, slot] = row

    def sent(self, segment: str, chunk: int, microbatch: int, slot: int) -> None:
        """Wait for what a chunk sent of a microbatch: that has arrived where an answer to it is awaited."""
        name = self.title(segment, chunk)
        begun = self.begun.get((name, slot))
        if begun is not None and begun.microbatch == microbatch:
            self._settle(name, slot)

    def settle(self, segments: Iterable[str] | None = None) -> None:
        """Wait for all that was sent, or for what these segments have sent."""
        names = None if segments is None else frozenset(segments)
        for name, slot in list(self.begun):
            if names is None or name in names:
                self._settle(name, slot)

    def _settle(self, name: str, slot: int) -> None:
        row = self.begun.pop((name, slot), None)
        if row is not None:
            self.rows.append(Row(f"{name}.sent", row.microbatch, row.slot))


def train(device: tuple[Cell, ...], names: Collection[str], chunks: int, staged: bool, batches: int = 1) -> Entry:
    """A step of training on one device: all microbatches of so many batches, one batch after another."""
    made, copies = Making(names, chunks, staged), slots(device)
    made.run("begin")
    for _ in range(batches):
        for phase, microbatch, chunk in device:
            slot = microbatch % copies[chunk]
            if phase == "F":
                made.run("load", chunk, microbatch, slot)
            if phase == "B":
                made.sent("forward", chunk, microbatch, slot)
            made.run({"F": "forward", "B": "backward", "W": "weights"}[phase], chunk, microbatch, slot)
        made.settle()
    made.run("reduce")
    made.run("unscale")
    made.run("update")
    return Entry(TRAIN_STEP, tuple(made.rows))


def infer(
    name: str, steps: tuple[str, ...], names: Collection[str], microbatches: int, chunks: int, staged: bool
) -> Entry:
    """Forward passes of all microbatches, one after another, each through all chunks."""
    made = Making(names, chunks, staged)
    for microbatch in range(microbatches):
        for chunk in range(chunks):
            if made.title(steps[0], chunk) in names:  # what is sent may be a view of what it loads
                made.settle(made.title(step, chunk) for step in steps)
            for step in steps:
                made.run(step, chunk, microbatch)
    made.settle()
    return Entry(name, tuple(made.rows))
