"""Every array of a program, allocated once: tables of them, and views for however many samples there are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .spec import Box, Grid, Halo, N, Shape, Slices, Spec, blocks, extents, spec_of, view

__all__ = ["Array", "Arrays", "Bytes", "N", "Part", "Scratch", "View"]

Values = npt.NDArray[Any]
Shaped = str | Shape
"""A spec such as "N/data 64/model 7 7" (spec.py), or extents, N among them, that nothing splits."""

Halos = Halo | tuple[Halo, ...]


@dataclass(frozen=True, slots=True)
class Array:
    """Memory of its own, in this shape, one for each slot; `dtype` None is the program's own.

    With `shared` it lies in memory that the ranks along these mesh axes share, as allreduce by `shared` wants it.
    """

    shape: Shaped
    dtype: npt.DTypeLike | None = None
    halo: Halos = ()
    shared: str = ""


@dataclass(frozen=True, slots=True)
class Bytes:
    """So many bytes for views to lie in; all slots have the same."""

    size: int


@dataclass(frozen=True, slots=True)
class View:
    """Elements of another array, in another shape; `offset` counts the parent's elements, of `Bytes` the bytes.

    `dtype` None is the parent's, the program's own in `Bytes`.
    """

    of: str
    shape: Shaped
    offset: int = 0
    dtype: npt.DTypeLike | None = None
    halo: Halos = ()


@dataclass(frozen=True, slots=True)
class Part:
    """This rank's part, by this spec, of what it holds of the same tensor in another array; may have gaps."""

    of: str
    shape: str


@dataclass(frozen=True, slots=True)
class Scratch:
    """Flat arrays of so many elements for one kernel, back to back in an arena that all kernels share.

    `dtypes` are those of the arrays, the program's own where it is empty. They begin `offset` bytes into array `of`.
    """

    sizes: Shape
    dtypes: tuple[npt.DTypeLike, ...] = ()
    of: str = "arena"
    offset: int = 0


ALIGNMENT = 64  # bytes: a cache line

_STEP = re.compile(r"[^.\[\]]+")

Row = Array | Bytes | View | Part | Scratch
Table = Mapping[str, Row]


class Where(Protocol):
    """The rank whose arrays these are (place.py)."""

    @property
    def grid(self) -> Grid:
        """The mesh of its stage."""

    @property
    def number(self) -> int:
        """Its number in this mesh."""

    def know(
        self, name: str, array: Values, spec: Spec, samples: int, parent: Values | None = None, offset: int = -1
    ) -> None:
        """Remember what an array holds, and where it lies."""

    def shared_memory(self, name: str, elements: int, dtype: npt.DTypeLike, over: str) -> Values:
        """Zeroed flat memory for allreduce by `shared`."""


class _Alone:
    """A rank that need not know what others hold."""

    def __init__(self, capacity: int) -> None:
        self.grid, self.number = Grid((), capacity), 0

    def know(
        self, name: str, array: Values, spec: Spec, samples: int, parent: Values | None = None, offset: int = -1
    ) -> None:
        """Nobody asks."""

    def shared_memory(self, name: str, elements: int, dtype: npt.DTypeLike, over: str) -> Values:
        """Shared with nobody."""
        return np.zeros(elements, dtype)


class Arrays:
    """The arrays of a table; `at(n)` has them all as attributes, for a microbatch of n samples.

    `where` is this rank's Place, or, where nothing but samples is split, the largest number of samples that it holds.
    `given` are flat parents allocated elsewhere, such as buckets that MPI shares. Arrays with an N keep their samples
    together: those for fewer samples are the front of the same memory.
    """

    def __init__(
        self,
        table: Table,
        where: Where | int,
        dtype: npt.DTypeLike,
        given: Mapping[str, Values] | None = None,
        slots: int = 1,
    ) -> None:
        self._table, self._dtype = table, np.dtype(dtype)
        self._where: Where = _Alone(where) if isinstance(where, int) else where
        self._given = dict(given or {})
        self._memory: dict[tuple[str, int], Values] = {}
        self._views: dict[tuple[int, int], SimpleNamespace] = {}
        self._slots = slots
        for name, row in table.items():
            if isinstance(row, Array | Bytes):
                self._allocate(name, row)

    def at(self, samples: int = 0, slot: int = 0) -> SimpleNamespace:
        """All arrays for a microbatch of that many samples, in that slot; made once for each pair."""
        if (samples, slot) not in self._views:
            made: dict[str, Values | tuple[Values, ...]] = {}
            for name in self._table:
                made[name] = self._view(name, samples, slot, made)
            self._views[samples, slot] = nested({**made, **self._given})
        return self._views[samples, slot]

    def _allocate(self, name: str, row: Array | Bytes) -> None:
        if isinstance(row, Bytes):
            memory = np.zeros(row.size, np.uint8)
            self._memory.update(((name, slot), memory) for slot in range(self._slots))
            return
        size, dtype = prod(self._shape(self._spec(row), self._where.grid.batch)), row.dtype or self._dtype
        for slot in range(self._slots):
            self._memory[name, slot] = (
                self._where.shared_memory(name, size, dtype, row.shared) if row.shared else np.zeros(size, dtype)
            )

    def _view(
        self, name: str, samples: int, slot: int, made: Mapping[str, Values | tuple[Values, ...]]
    ) -> Values | tuple[Values, ...]:
        row = self._table[name]
        if isinstance(row, Scratch):
            return self._scratch(row, slot)
        if isinstance(row, Bytes):
            return self._memory[name, slot]
        if isinstance(row, Part):
            array = self._part(name, row, samples, made)
        else:
            shape = self._shape(self._spec(row), samples)
            memory = self._flat(name, slot)
            if prod(shape) > memory.size:
                raise ValueError(f"`{name}` has {prod(shape)} elements, there is room for {memory.size}")
            array = memory[: prod(shape)].reshape(shape)
        parent = made.get(row.of, self._given.get(row.of)) if isinstance(row, View | Part) else None
        offset = row.offset if isinstance(row, View) else -1
        self._where.know(name, array, self._spec(row), samples, parent, offset)  # type: ignore[arg-type]
        return array

    def _part(self, name: str, part: Part, samples: int, made: Mapping[str, Values | tuple[Values, ...]]) -> Values:
        parent: Any = made[part.of]
        row = self._table[part.of]
        if not isinstance(parent, np.ndarray) or isinstance(row, Bytes | Scratch):
            raise TypeError(f"`{name}` is a part of `{part.of}`, which is no tensor")
        at = inside(self._box(self._spec(row), samples), self._box(spec_of(part.shape), samples))
        if at is None:
            raise ValueError(f"`{name}` does not lie in one piece in what this rank holds of `{part.of}`")
        array: Values = parent[view(at)]
        return array

    def _flat(self, name: str, slot: int) -> Values:
        """The memory from where an array starts on, in its element type."""
        row = self._table.get(name)
        if not isinstance(row, View):
            return self._given[name] if name in self._given else self._memory[name, slot]
        memory = self._flat(row.of, slot)[row.offset :]
        plain = isinstance(self._table.get(row.of), Bytes)
        dtype = np.dtype(row.dtype) if row.dtype is not None else self._dtype if plain else memory.dtype
        return memory if dtype == memory.dtype else _cast(memory, dtype)

    def _scratch(self, scratch: Scratch, slot: int) -> tuple[Values, ...]:
        arena, start, found = self._memory[scratch.of, slot], scratch.offset, list[Values]()
        for place, size in enumerate(scratch.sizes):
            dtype = np.dtype(scratch.dtypes[place]) if scratch.dtypes else self._dtype
            found.append(arena[start : start + size * dtype.itemsize].view(dtype))
            start += -(-size * dtype.itemsize // ALIGNMENT) * ALIGNMENT
        return tuple(found)

    @staticmethod
    def _spec(row: Array | View | Part) -> Spec:
        return spec_of(row.shape, () if isinstance(row, Part) else row.halo)

    def _box(self, spec: Spec, samples: int) -> Box:
        return self._where.grid.box(spec, self._where.number, samples)

    def _shape(self, spec: Spec, samples: int) -> Shape:
        return extents(self._box(spec, samples))


class Namespace(SimpleNamespace):
    """Arrays and further namespaces as attributes; those of repeats have numbers: `a.stage1[0].main.relu`."""

    def __getitem__(self, number: int) -> Any:
        return self.__dict__[number]  # type: ignore[index]


def nested(named: Mapping[str, Any]) -> Namespace:
    """What has names such as `stage1[0].main.relu`, by these names."""
    made = Namespace()
    for name, value in named.items():
        *path, last = _steps(name)
        within = made.__dict__
        for step in path:
            within = within.setdefault(step, Namespace()).__dict__
        within[last] = value
    return made


def found(arrays: Any, name: str) -> Any:
    """The array of such a name."""
    for step in _steps(name):
        arrays = vars(arrays)[step]
    return arrays


def _steps(name: str) -> list[Any]:
    return [int(step) if step.isdigit() else step for step in _STEP.findall(name)]


def inside(held: Box, wanted: Box) -> Slices | None:
    """Where a box lies in the array of another one; None where that does not have it, or not in one piece."""
    found = list(blocks(held, wanted))
    if not prod(extents(wanted)):
        return tuple(slice(0, extent) for extent in extents(wanted))
    whole = len(found) == 1 and all(at.stop - at.start == n for at, n in zip(found[0][0], extents(wanted), strict=True))
    return found[0][0] if whole else None


def _cast(memory: Values, dtype: np.dtype[Any]) -> Values:
    """The same bytes as elements of another type, as far as they make whole ones."""
    size = memory.nbytes // dtype.itemsize * dtype.itemsize // memory.itemsize
    return memory[:size].view(dtype)
