"""What the ranks of one stage of a pipeline run: the tables of their arrays, their functions, and when these run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from .place import At
from .schedule import segments
from .tables import Nested, Tables, tables

Function = Callable[..., None]


@dataclass(frozen=True)
class Stage:
    """One stage, or the whole job where there is no pipeline.

    `arrays` has the rows of all its arrays (tables.py), `states` what the optimizer keeps for each trained weight,
    `scratch` what the kernels of ops work in.
    `train`, `update`, `evaluate`, `predict` and `copies` (of weights in half precision) are schedules of `functions`
    (schedule.py). `slots` says by the number in a function's name in how many slots its microbatches take turns,
    `outputs` by function what it gives, `layouts` in which order images are read.
    """

    arrays: Nested
    functions: tuple[Function, ...]
    train: str
    update: str
    evaluate: str
    predict: str
    copies: str = ""
    states: tuple[str, ...] = ()
    scratch: Mapping[str, str] = field(default_factory=dict)
    slots: Mapping[int, int] = field(default_factory=dict)
    outputs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    layouts: Mapping[str, str] = field(default_factory=dict)

    def tables(self) -> Tables:
        """The tables of its arrays."""
        return tables(self.arrays, self.states, self.scratch)

    @property
    def slot_count(self) -> int:
        """How many copies there are of what each microbatch in flight has its own of."""
        return max(self.slots.values(), default=1)

    def steps(self, schedule: str, batch: Sequence[At]) -> Iterator[tuple[Function, At, int]]:
        """(function, microbatch, slot) for each run: the i-th run of a function is of microbatch i of these."""
        by_name = {function.__name__: function for function in self.functions}
        runs: dict[str, int] = {}
        for name in segments(schedule):
            number = runs.get(name, 0)
            runs[name] = number + 1
            at = batch[number]
            yield by_name[name], at, at.microbatch % self._slots(name)

    def _slots(self, name: str) -> int:
        stage = re.search(r"\d+", name)
        return self.slots.get(int(stage.group()), 1) if stage else 1
