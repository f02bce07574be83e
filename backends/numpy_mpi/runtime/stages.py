"""What the ranks of one stage of a pipeline run: the tables of their arrays, their functions, and when these run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .arrays import Table
from .schedule import segments

Function = Callable[..., None]


@dataclass(frozen=True)
class Stage:
    """One stage, or the whole job where there is no pipeline.

    `tensors` has by its name in the network where each weight, state and summed gradient is, such as
    `w.conv1_weight`. `train`, `update`, `evaluate` and `predict` are schedules of `functions` (schedule.py). `slots`
    says by the number in a function's name in how many slots its microbatches take turns, `outputs` by function what
    it gives.
    """

    weights: Table
    states: Table
    gradients: Table
    activations: Table
    tensors: Mapping[str, str]
    functions: tuple[Function, ...]
    train: str
    update: str
    evaluate: str
    predict: str
    slots: Mapping[int, int] = field(default_factory=dict)
    outputs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def slot_count(self) -> int:
        """How many copies there are of what each microbatch in flight has its own of."""
        return max(self.slots.values(), default=1)

    def steps(self, schedule: str, microbatches: int) -> Iterator[tuple[Function, int, int]]:
        """(function, microbatch, slot) for each run: the i-th run of a function is of microbatch i.

        With gradients of several batches behind one update, microbatches count on from batch to batch.
        """
        by_name = {function.__name__: function for function in self.functions}
        runs: dict[str, int] = {}
        for name in segments(schedule):
            microbatch = runs.get(name, 0)
            runs[name] = microbatch + 1
            yield by_name[name], microbatch, microbatch % microbatches % self._slots(name)

    def _slots(self, name: str) -> int:
        stage = re.search(r"\d+", name)
        return self.slots.get(int(stage.group()), 1) if stage else 1


def arrays_of(tables: Mapping[str, Any], place: str) -> Any:
    """The array that `w.conv1_weight` names."""
    space, _, name = place.partition(".")
    return getattr(tables[space], name)
