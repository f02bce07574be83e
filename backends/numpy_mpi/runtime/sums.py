"""Sums over the ranks along mesh axes: which algorithm runs how, and in which memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from . import device
from .collectives import ALGORITHMS, HIERARCHICAL, Array, Step, Steps, hierarchical, scratch_elements
from .exchange import Pool
from .world import World

_ALIASES = {"embedded_ring": "ring"}

Axes = tuple[str, ...]


class Sums:
    """Allreduce along any axes of the mesh of a stage; `levels` says how groups along some of them are nested.

    Hierarchical sums along others are Rabenseifner's.
    """

    def __init__(self, groups: Mapping[Axes, World], levels: Mapping[Axes, tuple[int, ...]], pool: Pool) -> None:
        self._groups, self._levels, self.pool = groups, levels, pool
        self._host = Pool(np.zeros)
        self._windows: dict[Axes, list[Array]] = {}
        self._rooms: dict[tuple[Axes, int, int], Array] = {}

    def memory(self, name: str, elements: int, dtype: npt.DTypeLike, axes: Axes) -> Array:
        """Zeroed flat memory for `shared` along these axes; all ranks of the group call it."""
        group = self._groups[axes]
        if group.size == 1:
            return np.zeros(elements, dtype)
        line = 64 // np.dtype(dtype).itemsize  # rows begin on cache lines
        rows = group.shared_array((group.size, max(1, -(-elements // line)) * line), dtype, name)
        self._windows.setdefault(axes, []).append(rows.view(np.uint8))
        values: Array = rows[group.rank, :elements]
        return values

    def _rows(self, axes: Axes, values: Array) -> Array | None:
        """What each rank along these axes has where this one has these values; None where they share no memory."""
        rank, start = self._groups[axes].rank, device.pointer(values)
        for rows in self._windows.get(axes, ()):
            first = start - device.pointer(rows[rank])
            if 0 <= first < rows.shape[1]:
                found: Array = rows[:, first : first + values.nbytes].view(values.dtype)
                return found
        return None

    def steps(self, sources: Sequence[Array], targets: Sequence[Array], axes: tuple[str, ...], algorithm: str) -> Steps:
        """The sum of all sources, in the targets, over the group along these axes."""
        for source, target in zip(sources, targets, strict=True):
            if source is not target:
                device.copy(target, source)
        group = self._groups[axes]
        size = sum(target.size for target in targets)
        if group.size == 1 or not size:
            return
        if len(targets) == 1 and targets[0].flags.c_contiguous:
            yield from self._allreduce(group, axes, targets[0].reshape(-1), algorithm)
            return
        memory = self.pool.take(size * targets[0].itemsize)
        values = memory[: size * targets[0].itemsize].view(targets[0].dtype)
        for target, place in _one_behind_the_other(targets, values):
            device.copy(place, target)
        yield from self._allreduce(group, axes, values, algorithm)
        for target, place in _one_behind_the_other(targets, values):
            device.copy(target, place)
        self.pool.give(memory)

    def largest(self, values: Array, axes: tuple[str, ...]) -> Steps:
        """The largest of each element, by one message to each other rank."""
        group = self._groups[axes]
        room = self.pool.take(2 * values.nbytes)
        own, memory = (room[at : at + values.nbytes].view(values.dtype) for at in (0, values.nbytes))
        device.copy(own, values)
        for distance in range(1, group.size):
            yield Step(own, (group.rank + distance) % group.size, memory, (group.rank - distance) % group.size)
            np.maximum(values, memory, out=values)
        self.pool.give(room)

    def _allreduce(self, group: World, axes: tuple[str, ...], values: Array, algorithm: str) -> Steps:
        if device.summed(group, values):
            return
        algorithm = _ALIASES.get(algorithm, algorithm)
        levels = self._levels.get(axes, ()) if algorithm in HIERARCHICAL else ()
        if algorithm in HIERARCHICAL and not levels:
            algorithm = "rabenseifner"
        if algorithm == "mpi":
            yield from self._by_library(group, values)
            return
        size = scratch_elements(algorithm, group.size, values.size) * values.itemsize
        pool = self._host if algorithm == "shared" else self.pool
        memory = pool.take(size)
        scratch = memory[:size].view(values.dtype)
        if levels:
            yield from hierarchical(group.rank, levels, values, scratch, *HIERARCHICAL[algorithm])
        elif algorithm == "shared":
            yield from self._in_shared_memory(group, axes, values, scratch)
        else:
            yield from ALGORITHMS[algorithm](group, values, scratch)
        pool.give(memory)

    def _by_library(self, group: World, values: Array) -> Steps:
        """The library's sum, of values that it reaches."""
        reached = device.staging(values)
        if reached is not values:
            device.copy(reached, values)
        yield from group.library(reached)
        if reached is not values:
            device.copy(values, reached)

    def _in_shared_memory(self, group: World, axes: tuple[str, ...], values: Array, scratch: Array) -> Steps:
        """The sum where the values lie, or, where that is no shared memory, in a copy there."""
        rows = self._rows(axes, values)
        if rows is not None:
            yield from ALGORITHMS["shared"](group, rows, scratch)
            return
        key = (axes, device.pointer(values), values.size)
        if key not in self._rooms:
            number = sum(known[0] == axes for known in self._rooms)  # the same on all ranks of the group
            self._rooms[key] = self.memory(f"room {number} over {'+'.join(axes)}", values.size, values.dtype, axes)
        room = self._rooms[key]
        device.copy(room, values)
        rows = self._rows(axes, room)
        assert rows is not None
        yield from ALGORITHMS["shared"](group, rows, scratch)
        device.copy(values, room)


def _one_behind_the_other(arrays: Sequence[Array], values: Array) -> Iterator[tuple[Array, Array]]:
    start = 0
    for array in arrays:
        yield array, values[start : start + array.size].reshape(array.shape)
        start += array.size
