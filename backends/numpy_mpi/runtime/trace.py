"""What `dlc verify` compares: the state before each step, its loss and gradients, the weights and state after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from . import device
from .failures import ProgramError
from .files import save_npz
from .tables import Tables
from .tensors import Tensors

Arrays = dict[str, npt.NDArray[Any]]


class Recorded(Protocol):
    """The options that a trace obeys."""

    @property
    def record(self) -> str | None:
        """A folder to write each step to."""

    @property
    def replay(self) -> str | None:
        """A folder of recorded steps to start each step from."""

    @property
    def perturb(self) -> int | None:
        """The seed of the noise."""


class Trace:
    """Writes each step to `options.record`, and starts each from the state in `options.replay`, where they are given.

    Without them it does nothing. Tensors are whole, and named as the tables name their arrays. `options.perturb`
    shuffles samples within runs of `interchangeable` ones and moves each weight by at most one unit in the last place:
    the serial program's own spread under such noise is what its parallel forms are measured by. `unit` is the relative
    size of that unit where a program computes with narrower numbers than it keeps.
    """

    def __init__(
        self, tensors: Tensors, stages: Sequence[Tables], options: Recorded, *, interchangeable: int, unit: float = 0.0
    ) -> None:
        self._tensors, self._options, self._interchangeable = tensors, options, interchangeable
        self._unit = unit
        titles = {name: place for stage in reversed(stages) for name, place in stage.tensors.items()}
        self._state = {name: titles[name] for name in tensors.names()}
        self._gradients = {
            name: f"g.{titles[name.removesuffix('@grad')].partition('.')[2]}" for name in tensors.names(gradients=True)
        }
        self._step: Arrays = {}

    @property
    def watches(self) -> bool:
        """Whether it is told of anything for a purpose."""
        options = self._options
        return bool(options.record or options.replay) or options.perturb is not None

    def before(self, step: int, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Take the state that was recorded before this step; the batch's indices, shuffled where that is asked for."""
        world = self._tensors.place.world
        if self._options.replay:
            recorded: Mapping[str, Any] = {}
            if world.rank == 0:
                recorded = np.load(self._file(self._options.replay, step), allow_pickle=False)
            for name, title in self._state.items():
                self._tensors.scatter(name, recorded[f"before.{title}"] if world.rank == 0 else None)
        if self._options.perturb is not None:
            indices = self._moved(np.random.Generator(np.random.Philox(key=[self._options.perturb, step])), indices)
        if self._options.record:
            self._step = self._whole("before.", self._state)
        return indices

    def gradients(self, step: int, loss: float) -> None:
        """Keep the loss and the gradients, whole: summed over the ranks, not clipped yet."""
        if self._options.record:
            self._step["loss"] = np.array(loss)
            self._step.update(self._whole("", self._gradients))

    def after(self, step: int) -> None:
        """Write the step, once ranks that hold the same part of a tensor are known to hold the same numbers."""
        if not self._options.record:
            return
        self._require_alike(step)
        after = self._whole("after.", self._state)
        if self._tensors.place.world.rank == 0:
            save_npz(self._file(self._options.record, step), {**self._step, **after})

    def _moved(self, noise: np.random.Generator, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Noise on the weights of one rank; the samples of each run in another order."""
        indices = _shuffled(indices, self._interchangeable, noise)
        for name, title in self._state.items():
            own = self._tensors.own(name)
            if own is not None and title.startswith("w.") and own.dtype.kind == "f":
                known = device.host(own)
                moved = known * (1 + self._unit) if self._unit else np.nextafter(known, np.inf)
                device.copy(own, np.where(noise.random(own.shape) < 0.5, known, moved))
        return indices

    def _whole(self, prefix: str, names: Mapping[str, str]) -> Arrays:
        """The tensors on rank 0; none on others."""
        gathered = self._tensors.gathered(list(names))
        return {f"{prefix}{names[name]}": array for name, array in gathered if array is not None}

    def _require_alike(self, step: int) -> None:
        tensors = self._tensors
        found: dict[str, str] = {}
        for every in tensors.place.world.allgather({name: _digest(tensors, name) for name in self._state}):
            for name, (part, digest) in every.items():
                if digest and found.setdefault(f"{name} {part}", digest) != digest:
                    raise ProgramError(f"the ranks hold different values of `{name}` after step {step}")

    @staticmethod
    def _file(folder: str, step: int) -> str:
        return str(Path(folder) / f"step{step:06}.npz")


def _digest(tensors: Tensors, name: str) -> tuple[str, str]:
    """Which part of a tensor this rank holds, and a digest of it; "" where it has none."""
    own = tensors.own(name)
    return (str(tensors.part(name)), sha256(own.tobytes()).hexdigest()) if own is not None else ("", "")


def _shuffled(indices: npt.NDArray[np.int64], run: int, noise: np.random.Generator) -> npt.NDArray[np.int64]:
    """The samples of each run of `run` neighbours in another order."""
    parts = [noise.permutation(indices[start : start + run]) for start in range(0, len(indices), run)]
    return np.concatenate(parts)
