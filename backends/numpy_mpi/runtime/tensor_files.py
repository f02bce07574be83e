"""Weight files of tensors that lie in parts on many ranks."""

from __future__ import annotations

import os

import numpy as np

from .collectives import Array
from .files import load_arrays, on_rank_0, require_match, save_arrays
from .tensors import Tensors


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
