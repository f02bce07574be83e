"""Sums over the ranks along mesh axes: which algorithm runs how, and in which memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from .collectives import ALGORITHMS, Array, Step, Steps, hierarchical, scratch_elements
from .exchange import Pool
from .spec import Grid
from .world import World

_HIERARCHICAL = {"hierarchical": False, "hierarchical_ring": True, "hierarchical_halving": False}
"""Whether a ring sums across nodes. Where a group has no nodes alike, all are Rabenseifner's."""

_ALIASES = {"embedded_ring": "ring"}

Axes = tuple[str, ...]


class Sums:
    """Allreduce along any axes of the mesh of a stage, whose number 0 is rank `first` of the job."""

    def __init__(self, grid: Grid, first: int, node: int, groups: Mapping[Axes, World], pool: Pool) -> None:
        self.grid, self.first, self.node, self.pool = grid, first, node, pool
        self._groups = groups
        self._shared: dict[int, Array] = {}
        self._rooms: dict[tuple[Axes, int, int], Array] = {}

    def memory(self, name: str, elements: int, dtype: npt.DTypeLike, axes: Axes) -> Array:
        """Zeroed flat memory for `shared` along these axes; all ranks of the group call it."""
        group = self._groups[axes]
        if group.size == 1:
            return np.zeros(elements, dtype)
        line = 64 // np.dtype(dtype).itemsize  # rows begin on cache lines
        rows = group.shared_array((group.size, max(1, -(-elements // line)) * line), dtype, name)
        values: Array = rows[group.rank, :elements]
        self._shared[_pointer(values)] = rows
        return values

    def steps(self, sources: Sequence[Array], targets: Sequence[Array], axes: tuple[str, ...], algorithm: str) -> Steps:
        """The sum of all sources, in the targets, over the group along these axes."""
        for source, target in zip(sources, targets, strict=True):
            if source is not target:
                np.copyto(target, source)
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
            np.copyto(place, target)
        yield from self._allreduce(group, axes, values, algorithm)
        for target, place in _one_behind_the_other(targets, values):
            np.copyto(target, place)
        self.pool.give(memory)

    def largest(self, values: Array, axes: tuple[str, ...]) -> Steps:
        """The largest of each element, by one message to each other rank."""
        group = self._groups[axes]
        own, memory = values.copy(), np.empty_like(values)
        for distance in range(1, group.size):
            yield Step(own, (group.rank + distance) % group.size, memory, (group.rank - distance) % group.size)
            np.maximum(values, memory, out=values)

    def _allreduce(self, group: World, axes: tuple[str, ...], values: Array, algorithm: str) -> Steps:
        algorithm = _ALIASES.get(algorithm, algorithm)
        nodes = self._nodes(axes) if algorithm in _HIERARCHICAL else None
        if algorithm in _HIERARCHICAL and nodes is None:
            algorithm = "rabenseifner"
        size = scratch_elements(algorithm, group.size, values.size) * values.itemsize
        memory = self.pool.take(size)
        scratch = memory[:size].view(values.dtype)
        if nodes is not None:
            within, across = nodes[group.rank // len(nodes[0])], [node[group.rank % len(nodes[0])] for node in nodes]
            place = (group.rank % len(within), group.rank // len(within))
            yield from hierarchical(values, scratch, within, across, place, _HIERARCHICAL[algorithm])
        elif algorithm == "shared":
            yield from self._in_shared_memory(group, axes, values, scratch)
        else:
            yield from ALGORITHMS[algorithm](group, values, scratch)
        self.pool.give(memory)

    def _in_shared_memory(self, group: World, axes: tuple[str, ...], values: Array, scratch: Array) -> Steps:
        """The sum where the values lie, or, where that is no shared memory, in a copy there."""
        rows = self._shared.get(_pointer(values))
        if rows is not None:
            yield from ALGORITHMS["shared"](group, rows[:, : values.size], scratch)
            return
        key = (axes, _pointer(values), values.size)
        if key not in self._rooms:
            number = sum(known[0] == axes for known in self._rooms)  # the same on all ranks of the group
            self._rooms[key] = self.memory(f"room {number} over {'+'.join(axes)}", values.size, values.dtype, axes)
        room = self._rooms[key]
        np.copyto(room, values)
        yield from ALGORITHMS["shared"](group, self._shared[_pointer(room)][:, : values.size], scratch)
        np.copyto(values, room)

    def _nodes(self, axes: tuple[str, ...]) -> list[list[int]] | None:
        """The ranks of a group by node; None where not all groups along these axes lie on nodes alike, as many on each.

        They have to, for what ranks of several groups hold alike to stay so.
        """
        if not self.node:
            return None
        patterns = set[tuple[int, ...]]()
        for rank in range(self.grid.size):
            on = [(self.first + member) // self.node for member in self.grid.group(axes, rank)]
            patterns.add(tuple(sorted(set(on)).index(each) for each in on))
        (pattern, *others) = patterns
        size = pattern.count(0)
        even = 1 < size < len(pattern) and not len(pattern) % size
        if others or not even or pattern != tuple(at // size for at in range(len(pattern))):
            return None
        return [list(range(at, at + size)) for at in range(0, len(pattern), size)]


def _one_behind_the_other(arrays: Sequence[Array], values: Array) -> Iterator[tuple[Array, Array]]:
    start = 0
    for array in arrays:
        yield array, values[start : start + array.size].reshape(array.shape)
        start += array.size


def _pointer(array: Array) -> int:
    """Where an array's memory begins."""
    return int(array.__array_interface__["data"][0])
