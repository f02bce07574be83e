"""What `dlc verify` compares: the state before each step, its loss and gradients, the weights and state after it."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .failures import ProgramError
from .files import save_npz
from .world import World

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

    Without them it does nothing. `options.perturb` shuffles samples within runs of `interchangeable` ones and moves
    each weight by at most one unit in the last place: the serial program's own spread under such noise is what its
    parallel forms are measured by.
    """

    def __init__(
        self,
        world: World,
        options: Recorded,
        w: SimpleNamespace,
        s: SimpleNamespace,
        g: SimpleNamespace,
        *,
        interchangeable: int,
    ) -> None:
        self._world, self._options, self._interchangeable = world, options, interchangeable
        self._state = {f"w.{name}": a for name, a in vars(w).items()} | {f"s.{name}": a for name, a in vars(s).items()}
        # A rank's own parts of a gradient, where a weight has several uses, are left out.
        self._gradients = {f"g.{name}": a for name, a in vars(g).items() if hasattr(w, name)}
        self._step: Arrays = {}

    def before(self, step: int, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Take the state that was recorded before this step; the batch's indices, shuffled where that is asked for."""
        if self._options.replay:
            recorded = np.load(self._file(self._options.replay, step), allow_pickle=False)
            for name, array in self._state.items():
                array[...] = recorded[f"before.{name}"]
        noise = self._noise(step)
        if noise is not None:
            indices = _shuffled(indices, self._interchangeable, noise)
            for name, array in self._state.items():
                if name.startswith("w.") and array.dtype.kind == "f":
                    array[...] = np.where(noise.random(array.shape) < 0.5, array, np.nextafter(array, np.inf))
        if self._options.record:
            self._step = {f"before.{name}": array.copy() for name, array in self._state.items()}
        return indices

    def gradients(self, step: int, loss: float) -> None:
        """Keep the loss and the gradients, whole: summed over the ranks, not clipped yet."""
        if self._options.record:
            self._step["loss"] = np.array(loss)
            self._step.update({name: array.copy() for name, array in self._gradients.items()})

    def after(self, step: int) -> None:
        """Write the step, once all ranks hold the same weights."""
        if not self._options.record:
            return
        after = {f"after.{name}": array for name, array in self._state.items()}
        digest = sha256(b"".join(array.tobytes() for array in after.values())).hexdigest()
        if len(set(self._world.allgather(digest))) > 1:
            raise ProgramError(f"the ranks hold different weights after step {step}")
        if self._world.rank == 0:
            save_npz(self._file(self._options.record, step), {**self._step, **after})

    def _noise(self, step: int) -> np.random.Generator | None:
        if self._options.perturb is None:
            return None
        return np.random.Generator(np.random.Philox(key=[self._options.perturb, step]))

    @staticmethod
    def _file(folder: str, step: int) -> str:
        return str(Path(folder) / f"step{step:06}.npz")


def _shuffled(indices: npt.NDArray[np.int64], run: int, noise: np.random.Generator) -> npt.NDArray[np.int64]:
    """The samples of each run of `run` neighbours in another order."""
    parts = [noise.permutation(indices[start : start + run]) for start in range(0, len(indices), run)]
    return np.concatenate(parts)
