"""Every array of a program, allocated once: tables of them, and views for however many samples a rank holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

N = -1
"""Stands in a shape for the number of samples that this rank holds of a batch."""

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Array:
    """Memory of its own, in this shape; `dtype` None is the program's own."""

    shape: Shape
    dtype: npt.DTypeLike | None = None


@dataclass(frozen=True, slots=True)
class View:
    """The same elements as another array, in another shape; `offset` counts the parent's elements."""

    of: str
    shape: Shape
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Scratch:
    """Flat arrays of so many elements for one kernel, back to back in the arena that all kernels share.

    `dtypes` are those of the arrays, the program's own where it is empty.
    """

    sizes: Shape
    dtypes: tuple[npt.DTypeLike, ...] = ()


ALIGNMENT = 64  # bytes: a cache line
ARENA = "arena"

Table = Mapping[str, Array | View | Scratch]


class Arrays:
    """The arrays of a table for at most `capacity` samples; `at(n)` has them all as attributes, for n samples.

    `given` are flat parents allocated elsewhere, such as buckets that MPI shares. Arrays with an N keep their samples
    together: those for fewer samples are the front of the same memory.
    """

    def __init__(
        self, table: Table, capacity: int, dtype: npt.DTypeLike, given: Mapping[str, npt.NDArray[Any]] | None = None
    ) -> None:
        self._table, self._dtype = table, np.dtype(dtype)
        self._given = dict(given or {})
        self._memory: dict[str, npt.NDArray[Any]] = dict(self._given)
        self._views: dict[int, SimpleNamespace] = {}
        for name, array in table.items():
            if isinstance(array, Array):
                self._memory[name] = np.zeros(prod(_sized(array.shape, capacity)), array.dtype or dtype)

    def at(self, samples: int = 0) -> SimpleNamespace:
        """All arrays for that many samples; made once for each number."""
        if samples not in self._views:
            views = {name: self._view(name, samples) for name in self._table}
            self._views[samples] = SimpleNamespace(**views, **self._given)
        return self._views[samples]

    def _view(self, name: str, samples: int) -> npt.NDArray[Any] | tuple[npt.NDArray[Any], ...]:
        array = self._table[name]
        if isinstance(array, Scratch):
            return self._scratch(array)
        shape = _sized(array.shape, samples)
        memory, start = self._parent(name)
        return memory[start : start + prod(shape)].reshape(shape)

    def _scratch(self, scratch: Scratch) -> tuple[npt.NDArray[Any], ...]:
        arena, start, found = self._memory[ARENA], 0, list[npt.NDArray[Any]]()
        for place, size in enumerate(scratch.sizes):
            dtype = np.dtype(scratch.dtypes[place]) if scratch.dtypes else self._dtype
            found.append(arena[start : start + size * dtype.itemsize].view(dtype))
            start += -(-size * dtype.itemsize // ALIGNMENT) * ALIGNMENT
        return tuple(found)

    def _parent(self, name: str) -> tuple[npt.NDArray[Any], int]:
        """The memory behind an array and where the array starts in it."""
        array = self._table.get(name)
        if not isinstance(array, View):
            return self._memory[name], 0
        memory, start = self._parent(array.of)
        return memory, start + array.offset


def _sized(shape: Shape, samples: int) -> Shape:
    return tuple(samples if extent == N else extent for extent in shape)
