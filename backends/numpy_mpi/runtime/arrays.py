"""Every array of a program, allocated once: tables of them, and views for however many samples there are."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from math import prod
from types import SimpleNamespace
from typing import Any, Protocol
from weakref import finalize

import numpy as np
import numpy.typing as npt

from . import device
from .memory import Asked
from .spec import Box, Grid, N, Shape, Slices, Spec, extents, spec_of, together, view
from .tables import Array, Bucket, Member, Part, Saved, Scratch, Table, Temporary, View

__all__ = ["Array", "Arrays", "Bucket", "Member", "N", "Part", "Saved", "Scratch", "Temporary", "View"]

Values = npt.NDArray[Any]

ALIGNMENT = 64  # bytes: a cache line

_STEP = re.compile(r"[^.\[\]]+")


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


class Arrays:
    """The arrays of a table; `at(n)` has them all as attributes, for a microbatch of n samples.

    `where` is this rank's Place. Arrays with an N keep their samples together: those for fewer samples are the front of
    the same memory. What is in use for a while only shares memory (`memory.share`).
    """

    def __init__(
        self,
        table: Table,
        where: Where,
        dtype: npt.DTypeLike,
        slots: int = 1,
    ) -> None:
        self._table, self._where, self._dtype, self._slots = table, where, np.dtype(dtype), slots
        self._memory: dict[tuple[str, int], Values] = {}
        self._views: dict[tuple[int, int], Namespace] = {}
        self._members: dict[str, int] = {}
        self._sizes: dict[str, int] = {}
        for name, row in table.items():
            if isinstance(row, Member):
                self._members[name] = self._sizes.get(row.of, 0)
                self._sizes[row.of] = self._members[name] + self._largest(row)
        for name, row in table.items():
            if isinstance(row, Array) or (isinstance(row, Bucket) and row.lasting):
                self._allocate(name, row, slots)
        self._asked = dict(self._sharing())

    def at(self, samples: int = 0, slot: int = 0) -> Namespace:
        """All arrays for a microbatch of that many samples, in that slot; made once for each pair."""
        if (samples, slot) not in self._views:
            made: dict[str, Any] = {}
            for name in self._table:
                self._make(name, samples, slot, made)
            self._views[samples, slot] = nested(self._together(made))
        return self._views[samples, slot]

    def memory(self) -> Iterator[Values]:
        """What the arrays lie in that share no memory."""
        return (self._memory[name, slot] for name, slot in self._memory if name not in self._asked)

    def _together(self, made: Mapping[str, Any]) -> dict[str, Any]:
        """Arrays, and those called alike but for a last word together, in the order of the table.

        `w.bn` are w.bn_scale, w.bn_shift, w.bn_mean and w.bn_variance, if nothing else is called `bn`.
        """
        found: dict[str, tuple[Any, ...]] = {}
        blocks = {name[: at.start()] for name in self._table for at in re.finditer(r"[.\[]", name)}
        for name in self._table:
            head, _, word = name.rpartition("_")
            if head and "." not in word and head not in self._table and head not in blocks:
                found[head] = (*found.get(head, ()), made[name])
        return {**found, **made}

    # --- memory --------------------------------------------------------------------------------------------------

    def _allocate(self, name: str, row: Array | Bucket, slots: int) -> None:
        """Memory of its own: in each slot of an array, one for all of a bucket."""
        if isinstance(row, Bucket):
            size, dtype, several = self._sizes.get(name, 0), self._type(row.dtype), 1
        else:
            size, dtype, several = self._elements(row, self._where.number), self._type(row.dtype), slots
        for slot in range(several):
            self._memory[name, slot] = (
                self._where.shared_memory(name, size, dtype, row.shared)
                if row.shared and device.SHARED
                else device.zeros(size, dtype)
            )
        self._memory.update(((name, slot), self._memory[name, 0]) for slot in range(several, slots))

    def asked(self) -> dict[str, Asked]:
        """What shares memory, and so has it from `take` on."""
        return {
            name: Asked(-(-size * dtype.itemsize // ALIGNMENT) * ALIGNMENT, passing, shared, (size, dtype.str))
            for name, (size, dtype, passing, shared) in self._asked.items()
        }

    def take(self, name: str, memory: Values) -> None:
        """The memory of such an array, the same in all slots."""
        size, dtype, *_ = self._asked[name]
        own = memory[: size * dtype.itemsize].view(dtype)
        self._memory.update(((name, slot), own) for slot in range(self._slots))

    def _sharing(self) -> Iterator[tuple[str, tuple[int, np.dtype[Any], bool, str]]]:
        """(name, (elements, type, whether from function to function, over which axes)) of what shares memory."""
        for name, row in self._table.items():
            if isinstance(row, Temporary | Saved):
                yield name, (self._largest(row), self._type(row.dtype), isinstance(row, Saved), row.shared)
            elif isinstance(row, Bucket) and not row.lasting:
                yield name, (self._sizes.get(name, 0), self._type(row.dtype), not row.temporary, row.shared)
            elif isinstance(row, Scratch):
                for part, elements, dtype in row.sizes():
                    yield f"{name} {part}", (elements, self._type(dtype or None), False, "")

    def stand_ins(self, array: Callable[[str, bool], Any]) -> Namespace:
        """What stands for the arrays while functions tell when they use them: `array` is told which memory each lies
        in, and whether it is all of that."""
        made: dict[str, Any] = {}
        for name in self._table:
            root = self.root(name)
            row = self._table[root]
            if isinstance(row, Scratch):
                made[name] = _rooms(row, lambda part, name=name: array(f"{name} {part}", True))  # type: ignore[misc]
            else:
                made[name] = array(root, self._whole(name))
        return nested(self._together(made))

    def root(self, name: str) -> str:
        """The array whose memory one lies in."""
        row = self._table.get(name)
        while isinstance(row, View | Part | Member) and row.of in self._table:
            name, row = row.of, self._table[row.of]
        return name

    def _whole(self, name: str) -> bool:
        """Whether an array is all of the memory that it lies in, in its element type."""
        row = self._table[name]
        if not isinstance(row, View):
            return not isinstance(row, Part | Member)
        size, dtype, *_ = self._asked.get(self.root(name), (-1, self._dtype))
        same = row.offset == 0 and (row.dtype is None or self._type(row.dtype) == dtype)
        return same and size == self._largest(row) and (row.of not in self._table or self._whole(row.of))

    def _type(self, dtype: npt.DTypeLike | None) -> np.dtype[Any]:
        return self._dtype if dtype is None else np.dtype(dtype)

    def _elements(self, row: Array | Temporary | Saved | Member | View, number: int) -> int:
        grid = self._where.grid
        return prod(grid.shape(self._spec(row), number, grid.batch))

    def _largest(self, row: Temporary | Saved | Member | View) -> int:
        """The elements on the rank that has most of them, so that all ranks lay out their memory alike."""
        return max(self._elements(row, number) for number in range(self._where.grid.size))

    # --- views ---------------------------------------------------------------------------------------------------

    def _make(self, name: str, samples: int, slot: int, made: dict[str, Any]) -> Any:
        """One array, after what it is a part of."""
        if name in made:
            return made[name]
        row = self._table[name]
        parent = self._make(row.of, samples, slot, made) if isinstance(row, View | Part | Member) else None
        if isinstance(row, Scratch):
            made[name] = _rooms(row, lambda part: self._memory[f"{name} {part}", slot])
            return made[name]
        if isinstance(row, Bucket):
            array = self._memory[name, slot][:]  # a view of its own, as its members have
            spec = spec_of((array.size,))
        elif isinstance(row, Part):
            array, spec = self._part(name, row, samples, parent), spec_of(row.shape)
        else:
            spec = self._spec(row)
            shape, memory = self._shape(spec, samples), self._room(name, row, slot, parent)
            if prod(shape) > memory.size:
                raise ValueError(f"`{name}` has {prod(shape)} elements, there is room for {memory.size}")
            array = memory[: prod(shape)].reshape(shape)
        offset = row.offset if isinstance(row, View) else self._members.get(name, -1)
        self._where.know(name, array, spec, samples, parent, offset)
        made[name] = array
        return array

    def _part(self, name: str, part: Part, samples: int, parent: Any) -> Values:
        row = self._table[part.of]
        if isinstance(row, Bucket | Scratch):
            raise TypeError(f"`{name}` is a part of `{part.of}`, which is no tensor")
        at = inside(self._box(self._spec(row), samples), self._box(spec_of(part.shape), samples))
        if at is None:
            raise ValueError(f"`{name}` does not lie in one piece in what this rank holds of `{part.of}`")
        array: Values = parent[view(at)]
        return array

    def _room(self, name: str, row: object, slot: int, parent: Any) -> Values:
        """The memory that an array lies in; of a part's view, that of the part."""
        if not isinstance(row, View) or not isinstance(self._table[row.of], Part):
            return self._flat(name, slot)
        if not parent.flags.c_contiguous:
            raise ValueError(f"`{name}` shows `{row.of}`, which does not lie in one piece")
        memory: Values = parent.reshape(-1)[row.offset :]
        return memory if row.dtype is None else _cast(memory, np.dtype(row.dtype))

    def _flat(self, name: str, slot: int) -> Values:
        """The memory from where an array starts on, in its element type."""
        row = self._table[name]
        if not isinstance(row, View | Member):
            return self._memory[name, slot]
        if isinstance(row, Member):
            return self._flat(row.of, slot)[self._members[name] :]
        memory = self._flat(row.of, slot)[row.offset :]
        return memory if row.dtype is None else _cast(memory, np.dtype(row.dtype))

    @staticmethod
    def _spec(row: Array | Temporary | Saved | View | Part | Member) -> Spec:
        return spec_of(row.shape, () if isinstance(row, Part | Member) else row.halo)

    def _box(self, spec: Spec, samples: int) -> Box:
        return self._where.grid.box(spec, self._where.number, samples)

    def _shape(self, spec: Spec, samples: int) -> Shape:
        return extents(self._box(spec, samples))


class Namespace(SimpleNamespace):
    """Arrays and further namespaces as attributes; those of repeats have numbers: `a.stage1[0].main.relu`."""

    def __getitem__(self, number: int) -> Any:
        return self.__dict__[number]  # type: ignore[index]


class Rooms(SimpleNamespace):
    """Arrays for kernels to work in, by passes: none where none is said."""

    def __getattr__(self, name: str) -> tuple[()]:
        return ()


def _rooms(row: Scratch, array: Callable[[str], Any]) -> Rooms:
    """The arrays of a row; `array` makes each."""
    found: dict[str, list[Any]] = {}
    for part, *_ in row.sizes():
        found.setdefault(part.partition(" ")[0], []).append(array(part))
    return Rooms(**{room: tuple(arrays) for room, arrays in found.items()})


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


def each(*spaces: tuple[Namespace, str]) -> tuple[tuple[Values, ...], ...]:
    """The arrays in several namespaces with one name but for how it ends in each: `each((w, ""), (s, "_velocity"))`.

    They are looked for once: a namespace has all its arrays from the beginning.
    """
    key = (*[(id(space), ending) for space, ending in spaces],)
    if key not in _EACH:
        known = [dict(_named(space, ending)) for space, ending in spaces]
        names = [name for name in known[0] if all(name in arrays for arrays in known)]
        _EACH[key] = tuple(tuple(arrays[name] for arrays in known) for name in names)
        for space, _ in spaces:
            finalize(space, _EACH.pop, key, None)
    return _EACH[key]


_EACH: dict[tuple[tuple[int, str], ...], tuple[tuple[Values, ...], ...]] = {}
"""What `each` has found, by the identities of namespaces that there are."""


def _named(space: Namespace, ending: str) -> Iterator[tuple[tuple[Any, ...], Values]]:
    """Names without an ending, and the arrays that have it."""
    for step, value in vars(space).items():
        if isinstance(value, Namespace):
            yield from (((step, *name), array) for name, array in _named(value, ending))
        elif device.is_array(value) and step.endswith(ending):
            yield (step[: len(step) - len(ending)],), value


def _steps(name: str) -> list[Any]:
    return [int(step) if step.isdigit() else step for step in _STEP.findall(name)]


def inside(held: Box, wanted: Box) -> Slices | None:
    """Where a box lies in the array of another one; None where that does not have it, or not in one piece."""
    if not prod(extents(wanted)):
        return tuple(slice(0, extent) for extent in extents(wanted))
    found = [each for each in map(together, held, wanted) if each is not None]
    return tuple(found) if len(found) == len(wanted) else None


def _cast(memory: Values, dtype: np.dtype[Any]) -> Values:
    """The same bytes as elements of another type, as far as they make whole ones."""
    size = memory.nbytes // dtype.itemsize * dtype.itemsize // memory.itemsize
    return memory[:size].view(dtype)
