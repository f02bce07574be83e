"""A rank's part of a job: its stage with the arrays that its functions work on; evaluation and prediction with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from . import device
from .arrays import Arrays, found
from .clock import Clock
from .collectives import Array
from .data import Loader, Samples
from .files import save_arrays
from .footprint import Footprint, Gauge, blocks_of
from .guard import require_finite
from .memory import share
from .place import At, Place
from .program import Options
from .progress import Profile, Progress
from .schedule import segments
from .stages import Stage
from .tensor_files import load_tensors, save_tensors
from .tensors import Tensors
from .trace import Trace

Show = Callable[[float, int], float]
"""A metric's total over so many samples -> what is shown of it."""


class Job:
    """The functions of this rank's stage and their arrays, which are allocated here, once.

    The number of the stage that has the loss and the totals of an evaluation is `last`; `outputs` has by the network's
    names where outputs are, such as `logits.linear` among activations. `w`, `s` and `g` are weights, optimizer state
    and gradients of weights; `tensors` has what is kept from step to step by its name in the network.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        place: Place,
        clock: Clock,
        *,
        dtype: npt.DTypeLike,
        last: int,
        outputs: Mapping[str, str],
    ) -> None:
        self.place, self.profile = place, Profile(clock)
        self.tables = [stage.tables() for stage in stages]
        self.stage, held = stages[place.stage], self.tables[place.stage]
        kept = [Arrays(each, place, dtype) for each in (held.weights, held.states, held.gradients)]
        self._arrays = Arrays(held.activations, place, dtype, self.stage.slot_count)
        lasting = [memory for each in (*kept, self._arrays) for memory in each.memory()]
        blocks = blocks_of((*lasting, *self._share(kept[-1], outputs)))
        self._gauge = Gauge(blocks, lambda: place.world.barrier("measuring memory"))
        self.w, self.s, self.g = (each.at() for each in kept)
        self.tensors = Tensors(place, self.tables, self.w, self.s, self.g, dtype)
        self.last = place.stage == last
        self._apart = False
        self._last, self._outputs = last, outputs

    def _share(self, gradients: Arrays, outputs: Mapping[str, str]) -> Sequence[npt.NDArray[np.uint8]]:
        """Memory for what is in use for a while only."""
        stage, place = self.stage, self.place
        return share(
            {"a": self._arrays, "g": gradients},
            lambda name, size, over: place.shared_memory(name, size, np.uint8, over),
            stage.functions,
            [*segments(stage.train), *segments(stage.update)],
            [segments(stage.evaluate), segments(stage.predict)],
            [self._arrays.root(name) for name in outputs.values()],
        )

    def run(self, schedule: str, batch: Sequence[At]) -> None:
        """The functions of a schedule on a batch's microbatches, and how long each took."""
        calls = [
            (function, (self._arrays.at(at.samples, slot), self.w, self.g, self.s), at, self.place)
            for function, at, slot in self.stage.steps(schedule, batch)
        ]
        device.run(calls, self.profile.lap, self._apart)

    def step(self, batch: Sequence[At], loss: Array, trace: Trace) -> float:
        """One step of training on a rank that is alone, and its loss, which a device may still be computing.

        A loss that is infinite or not a number is said (`require_finite`) where it is wanted, or some steps later, and
        before anything of the device is read; nothing is written of what was made of it.
        """
        step = batch[0].step
        if trace.watches:
            self.run(self.stage.train, batch)
            require_finite(self.place.world, float(loss), step)
            trace.gradients(step, float(loss))
            self.run(self.stage.update, batch)
            trace.after(step)
            return float(loss)
        self.run(f"{self.stage.train} {self.stage.update}", batch)
        found = device.later(loss, lambda value: require_finite(self.place.world, value, step))
        trace.gradients(step, found)
        trace.after(step)
        return found

    def measure(self, options: Options) -> None:
        """Begin to measure what the process grows by, where that is asked for: in steps, up to an evaluation."""
        self._apart = options.profile
        if options.profile:
            self.profile.watch = self._gauge.step

    def footprint(self, options: Options) -> Footprint | None:
        """What the process of the rank that grew most grew by since, where that is asked for: all ranks call it."""
        if not options.profile:
            return None
        own = self._gauge.end()
        found = self.place.world.allgather(asdict(own) if own else {})
        return max((Footprint(**each) for each in found if each), key=lambda each: each.grown, default=None)

    def load(self, file: str) -> None:
        """Take the weights of a file."""
        load_tensors(self.tensors, file)

    def save(self, file: str) -> None:
        """Write the weights, whole and under their names in the network."""
        save_tensors(self.tensors, file)

    def evaluation(self, samples: Samples, metrics: Mapping[str, Show]) -> tuple[float, dict[str, float]]:
        """Loss and metrics over a whole set, every sample once."""
        self._gauge.end()
        device.catch_up()
        if self.last:
            self.g.totals.fill(0)
        self._copy_weights()
        loader = self._in_order(samples)
        for number in range(loader.steps_per_epoch):
            self._steps(self.stage.evaluate, self.place.batch(loader, loader.indices(number), step=number))
        loss, *sums = self.place.share(self.g.totals.tolist() if self.last else None, self._last)
        count = len(samples)
        shown = zip(metrics.items(), sums, strict=True)
        return loss / count, {name: show(total, count) for (name, show), total in shown}

    def write_outputs(self, samples: Samples, file: str, progress: Progress) -> None:
        """Write the network's outputs for a whole set, in order: rank 0 does, all others send it what they have."""
        self._copy_weights()
        loader, place = self._in_order(samples), self.place
        rows: dict[str, list[Any]] = {name: [] for name in self._outputs}
        for number in range(loader.steps_per_epoch):
            indices = loader.indices(number)
            for function, at, slot in self.stage.steps(self.stage.predict, place.batch(loader, indices, step=number)):
                arrays = self._arrays.at(at.samples, slot)
                function(arrays, self.w, self.g, None, at, place)
                for name in self.stage.outputs.get(function.__name__, ()):
                    rows[name].append(place.gather(found(arrays, self._outputs[name])))
            progress.predicted(int(indices[-1]) + 1, len(samples))
        outputs = place.collect(rows)
        if outputs is not None:
            save_arrays(file, outputs)
        progress.note(f"wrote {file}: {', '.join(self._outputs)} of {len(samples)} samples")

    def _steps(self, schedule: str, batch: Sequence[At]) -> None:
        """As `run`, without the optimizer's state and without taking times."""
        for function, at, slot in self.stage.steps(schedule, batch):
            function(self._arrays.at(at.samples, slot), self.w, self.g, None, at, self.place)

    def _copy_weights(self) -> None:
        """The weights that the network computes with, in half precision, are made of those that are trained, in f32."""
        self._steps(self.stage.copies, self.place.batch(None, np.empty(0, np.int64)))

    def _in_order(self, samples: Samples) -> Loader:
        return Loader(samples, self.place.batch_size, shuffle=False, last="keep", layouts=dict(self.stage.layouts))
