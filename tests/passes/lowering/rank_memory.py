"""What a virtual rank holds: of each buffer the part that its placement says, in arrays that overlap as it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.numpy_mpi.kernels.layout import logical, physical
from dlc.ir.mesh import Mesh, shards
from dlc.ir.program import Buffer, Collective, Role
from dlc.ir.storage import Storage, of_microbatch
from dlc.ir.tensor import DTYPE_BYTES
from dlc.ops.indexing import Halo
from passes.layouts import is_image

Array = NDArray[Any]
Box = tuple[tuple[int, int], ...]
"""(start, stop) along each axis."""

DTYPES = {"f64": np.float64, "f32": np.float32, "f16": np.float16}
DTYPES |= {"i32": np.int32, "i64": np.int64, "u8": np.uint8, "bool": np.bool_}
JUNK = 7.25


def box(buffer: Buffer, mesh: Mesh, rank: int, microbatches: int) -> Box:
    """Which part of a microbatch's value a rank holds."""
    found = []
    for axis in of_microbatch(buffer.type, microbatches).axes:
        extent, count, index = axis.extent, 1, 0
        for name, at in zip(mesh.names, buffer.placement or ("",) * len(mesh.names), strict=True):
            if at == axis.name:
                count, index = count * mesh.extent(name), index * mesh.extent(name) + mesh.coordinate(rank, name)
        found.append(shards(extent, count)[index])
    return tuple(found)


@dataclass
class Memory:
    """The arrays of one rank."""

    role: Role
    rank: int
    mesh: Mesh
    microbatches: int
    arrays: dict[tuple[str, int], Array] = field(default_factory=dict)
    raw: dict[tuple[str, int], Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.storage = Storage(self.role, self.role.largest_shard)

        self.halos: dict[str, tuple[str, dict[str, Any]]] = {}  # wide buffer -> the narrow one, and what it reads
        for segment in self.role.segments:
            for made in segment.instructions:
                if isinstance(made, Collective) and made.kind == "halo":
                    facts = dict(made.attrs)
                    wide, narrow = (made.buffer, made.target) if facts["add"] else (made.target, made.buffer)
                    self.halos[wide] = (narrow, facts)

    def box(self, name: str) -> Box:
        """Which part of a microbatch's value the rank holds in a buffer; rows of halos are those of neighbours."""
        if name not in self.halos:
            return box(self.role.buffer(name), self.mesh, self.rank, self.microbatches)
        narrow, facts = self.halos[name]
        held, buffer = list(self.box(narrow)), self.role.buffer(narrow)
        at = buffer.type.names.index(facts["axis"])
        held[at] = self.reads(narrow, facts)
        return tuple(held)

    def reads(self, narrow: str, facts: Mapping[str, Any]) -> tuple[int, int]:
        """The rows of an axis that the rank's windows read, clipped to the axis."""
        buffer = self.role.buffer(narrow)
        count, index = 1, 0
        for name, at in zip(self.mesh.names, buffer.placement, strict=True):
            if at == facts["axis"]:
                count, index = (
                    count * self.mesh.extent(name),
                    index * self.mesh.extent(name) + self.mesh.coordinate(self.rank, name),
                )
        assert count == facts["parts"]
        halo = Halo(facts["before"], facts["after"], facts["stride"], facts["step"])
        first, last = halo.reads(*shards(facts["results"], count)[index])
        return max(0, first), min(last, buffer.type.extent(facts["axis"]))

    def array(self, name: str, slot: int) -> Array:
        """A buffer's array, in the order in memory."""
        place = self.storage.places[name]
        slot = slot if self.storage.by_slot(place.storage) else 0
        if (name, slot) not in self.arrays:
            self.arrays[name, slot] = self._array(self.role.buffer(name), slot)
        return self.arrays[name, slot]

    def logical(self, name: str, slot: int) -> Array:
        """The same with the axes in logical order."""
        buffer, found = self.role.buffer(name), self.array(name, slot)
        return logical(found, buffer.layout) if buffer.layout and is_image(buffer.type) else found

    def _array(self, buffer: Buffer, slot: int) -> Array:
        held = self.box(buffer.name)
        if self._is_shard(buffer):
            assert buffer.view_of is not None
            around = self.box(buffer.view_of)
            at = tuple(slice(a - o, b - o) for (a, b), (o, _) in zip(held, around, strict=True))
            part = self.logical(buffer.view_of, slot)[at]
            return physical(part, buffer.layout) if buffer.layout and is_image(buffer.type) else part
        shape = tuple(stop - start for start, stop in held)
        if buffer.layout and is_image(buffer.type):
            shape = tuple(shape["NCHW".index(letter)] for letter in buffer.layout)
        place = self.storage.places[buffer.name]
        raw = self._raw(place.storage, slot)
        size = int(np.prod(shape)) * DTYPE_BYTES[buffer.type.dtype]
        assert place.start + size <= raw.size, f"{buffer.name} does not fit its storage"
        return raw[place.start : place.start + size].view(DTYPES[buffer.type.dtype]).reshape(shape)

    def _is_shard(self, buffer: Buffer) -> bool:
        parent = self.role.buffer(buffer.view_of) if buffer.view_of else None
        return parent is not None and parent.type == buffer.type and parent.placement != buffer.placement

    def _raw(self, name: str, slot: int) -> Array:
        if (name, slot) not in self.raw:
            buffer = self.role.buffer(name)
            raw = np.zeros(self.storage.bytes(buffer), np.uint8)
            if buffer.type.dtype in ("f16", "f32", "f64"):
                raw.view(DTYPES[buffer.type.dtype]).fill(JUNK)
            self.raw[name, slot] = raw
        return self.raw[name, slot]


def equal(a: Array, b: Array) -> bool:
    """Whether two arrays have the same elements; what is no number equals itself."""
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def slices(held: Box) -> tuple[slice, ...]:
    """Where a part of a value lies in it."""
    return tuple(slice(start, stop) for start, stop in held)
