"""What is written of tensors that lie in parts on many ranks: weight files, and steps that `dlc verify` compares."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .collectives import Array
from .failures import ProgramError
from .files import load_arrays, on_rank_0, require_match, save_arrays, save_npz
from .tensors import Tables, Tensors
from .trace import Recorded


def save_tensors(tensors: Tensors, path: str) -> None:
    """Rank 0 writes weights and running averages, each whole; where it cannot, all ranks raise its ProgramError."""
    whole = {name: array for name, array in tensors.gathered(_weights(tensors)) if array is not None}
    on_rank_0(tensors.place.world, lambda: save_arrays(path, whole))


def load_tensors(tensors: Tensors, path: str) -> None:
    """Rank 0 reads the file, all ranks get their parts, cast to their type; ProgramError as of `load_weights`."""
    names = _weights(tensors)
    expected = {name: np.broadcast_to(tensors.dtype(name).type(0), tensors.shape(name)) for name in names}
    stored: dict[str, Array] = {}

    def read() -> None:
        stored.update(load_arrays(path))
        require_match(os.fspath(path), stored, expected)

    on_rank_0(tensors.place.world, read)
    for name in names:
        tensors.scatter(name, stored.get(name))


def _weights(tensors: Tensors) -> list[str]:
    """What weight files hold."""
    return [name for name in tensors.names() if "@" not in name]


class MeshTrace:
    """As `Trace`: writes each step to `options.record`, starts each from the state in `options.replay`; tensors whole.

    Without these it does nothing. Tensors are named as in the serial program.
    """

    def __init__(self, tensors: Tensors, stages: Sequence[Tables], options: Recorded) -> None:
        self._tensors, self._options = tensors, options
        titles = {name: place for stage in reversed(stages) for name, place in stage.tensors.items()}
        self._state = {name: titles[name] for name in tensors.names()}
        self._gradients = {
            name: f"g.{titles[name.removesuffix('@grad')].partition('.')[2]}" for name in tensors.names(gradients=True)
        }
        self._step: dict[str, npt.NDArray[Any]] = {}

    def before(self, step: int, indices: Array) -> Array:
        """Take the state that was recorded before this step; the batch's indices."""
        world = self._tensors.place.world
        if self._options.replay:
            recorded: Mapping[str, Any] = {}
            if world.rank == 0:
                recorded = np.load(self._file(self._options.replay, step), allow_pickle=False)
            for name, title in self._state.items():
                self._tensors.scatter(name, recorded[f"before.{title}"] if world.rank == 0 else None)
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

    def _whole(self, prefix: str, names: Mapping[str, str]) -> dict[str, npt.NDArray[Any]]:
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
