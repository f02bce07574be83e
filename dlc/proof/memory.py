"""Which buffer's content lies in which bytes of a role's memory: what is written, seen through views, and overwritten.

A write to a buffer ends every content that shares a byte with it. A buffer is read as it was written itself, or as a
view of one that was: other axes, a rank's own part, or an order in memory that is the same for what a rank has.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from dlc.ir.graph import Graph
from dlc.ir.mesh import PARTIAL, Mesh, Placement
from dlc.ir.program import Buffer, Role
from dlc.ir.storage import Storage
from dlc.ir.tensor import BATCH
from dlc.ops.blocks import block_of
from dlc.proof.terms import KEPT, Terms


class Content(NamedTuple):
    """What a buffer holds, and the number of the form in which the ranks hold it; -1 of zero, which has any."""

    terms: Terms
    form: int


class Span(NamedTuple):
    """Where a buffer lies: its storage, its bytes, whether each slot has a copy."""

    storage: str
    start: int
    stop: int
    by_slot: bool


class Written(NamedTuple):
    """A content with the buffer that it was written to; without a content where a fault was found already."""

    name: str
    content: Content | None


@dataclass(slots=True)
class Track:
    """The contents of one copy of a storage, in the order of their bytes; they share none."""

    starts: list[int] = field(default_factory=list)
    held: list[tuple[int, Written]] = field(default_factory=list)  # (end, what)

    def put(self, start: int, stop: int, written: Written) -> None:
        """Write these bytes."""
        first = bisect_left(self.starts, start)
        if first < len(self.starts) and self.starts[first] == start and self.held[first][0] == stop:
            self.held[first] = (stop, written)
            return
        if first and self.held[first - 1][0] > start:
            first -= 1
        last = max(first, bisect_left(self.starts, max(stop, start + 1)))
        self.starts[first:last] = [start]
        self.held[first:last] = [(stop, written)]

    def at(self, start: int) -> Written | None:
        """What lies at a byte."""
        index = bisect_right(self.starts, start) - 1
        if index >= 0 and (start < self.held[index][0] or self.starts[index] == start):
            return self.held[index][1]
        return None


@dataclass
class Layout:
    """Where a role's buffers lie, and what they are views of. A shard lies in all the bytes of what it is a part of."""

    graph: Graph
    storage: Storage
    role: Role = field(init=False)
    _spans: dict[str, Span] = field(default_factory=dict)
    begins: dict[frozenset[str], Mapping[str, Track]] = field(default_factory=dict)  # by what is stale
    checked: set[tuple[int, int]] = field(default_factory=set)  # calls with the splits that they are right for, by id
    fitting: set[tuple[str, int, bool]] = field(default_factory=set)  # (buffer, form, in place) that are right
    _by_slot: dict[str, bool] = field(default_factory=dict)
    _values: dict[str, str] = field(default_factory=dict)
    _members: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.role = self.storage.role

    @property
    def mesh(self) -> Mesh:
        """The mesh of the role's ranks, which it has."""
        assert self.role.mesh is not None
        return self.role.mesh

    def span(self, name: str) -> Span:
        """Where a buffer lies; a rank's own part of one lies in all the bytes of that."""
        found = self._spans.get(name)
        if found is None:
            place, at = self.storage.places[name], self.role.buffer(name)
            while (parent := self.parent(at)) is not None and is_part(at, parent):
                at, place = parent, self.storage.places[parent.name]
            by_slot = self._by_slot.get(place.storage)
            if by_slot is None:
                by_slot = self._by_slot[place.storage] = self.storage.by_slot(place.storage)
            found = self._spans[name] = Span(place.storage, place.start, place.stop, by_slot)
        return found

    def parent(self, buffer: Buffer) -> Buffer | None:
        """What a buffer shows the content of; an arena and a bucket have no content of their own."""
        parent = self.role.buffer(buffer.view_of) if buffer.view_of is not None else None
        return None if parent is None or parent.kind == "workspace" or self.is_flat(parent) else parent

    def is_flat(self, buffer: Buffer) -> bool:
        """Whether a buffer is just its members, back to back."""
        flat = not buffer.placement and buffer.type.names == ("element",)
        return flat and bool(self.storage.members[buffer.name])

    @cached_property
    def kept(self) -> tuple[Buffer, ...]:
        """The buffers that hold what the graph keeps from step to step, each under its value's name."""
        return tuple(
            buffer
            for buffer in self.role.buffers
            if buffer.kind in KEPT and self.graph.has_value(buffer.name) and self.graph.value(buffer.name).kind in KEPT
        )

    def members(self, name: str) -> tuple[str, ...]:
        """The members of a bucket in the order in which they lie; else the buffer itself."""
        found = self._members.get(name)
        if found is None:
            buffer = self.role.buffer(name)
            views = self.storage.members[name] if self.is_flat(buffer) else (name,)
            found = self._members[name] = tuple(sorted(views, key=lambda view: self.role.buffer(view).offset))
        return found

    def shard(self, name: str) -> str | None:
        """The view of a buffer that is a rank's own part of it."""
        buffer = self.role.buffer(name)
        views = (self.role.buffer(view) for view in self.storage.members[name])
        return next((view.name for view in views if is_part(view, buffer)), None)

    def value(self, name: str) -> str:
        """The value that a buffer is called after: the longest beginning of its name that is one; "" without one."""
        found = self._values.get(name)
        if found is None:
            found = name
            while found and not self.graph.has_value(found):
                found = found[: max(found.rfind("."), found.rfind("@"), 0)]
            self._values[name] = found
        return found

    def way(self, name: str, written: str) -> tuple[Buffer, ...] | None:
        """From the buffer that was written to a view of it, each a view of the one before; None where it is none."""
        at: Buffer | None = self.role.buffer(name)
        found: list[Buffer] = []
        while at is not None:
            found.append(at)
            if at.name == written:
                return tuple(reversed(found))
            at = self.parent(at)
        return None


@dataclass(slots=True)
class Memory:
    """The contents of a role's buffers as an entry runs; `kept` is what lies in each storage when it begins."""

    layout: Layout
    kept: Mapping[str, Track]
    tracks: dict[int, dict[str, Track]] = field(default_factory=dict)  # by slot and storage

    def write(self, name: str, slot: int, content: Content | None) -> None:
        """A buffer is written."""
        storage, start, stop, by_slot = self.layout.span(name)
        tracks = self.tracks.setdefault(slot if by_slot else 0, {})
        track = tracks.get(storage)
        if track is None:
            first = self.kept.get(storage)
            track = tracks[storage] = Track() if first is None else Track([*first.starts], [*first.held])
        track.put(start, stop, Written(name, content))

    def find(self, name: str, slot: int) -> Written | None:
        """What lies where a buffer begins."""
        storage, start, _, by_slot = self.layout.span(name)
        tracks = self.tracks.get(slot if by_slot else 0)
        track = None if tracks is None else tracks.get(storage)
        if track is None:
            track = self.kept.get(storage)
        return track.at(start) if track is not None else None


def is_part(view: Buffer, buffer: Buffer) -> bool:
    """Whether a view of a buffer is a rank's own part of it: of the same tensor, placed otherwise."""
    return view.type == buffer.type and view.placement != buffer.placement


def same_order(shape: tuple[int, ...], one: str, other: str) -> bool:
    """Whether two layouts of an image put its elements in one order: axes of extent 1 may stand anywhere."""
    extents = dict(zip("NCHW", shape, strict=True)) | {"N": 2, "c": 2}
    orders = ["".join(a for a in layout if extents.get(a, 1) > 1).replace("Cc", "C") for layout in (one, other)]
    return one == other or orders[0] == orders[1]


def unfit_for_blocks(shape: tuple[int, ...], placement: Placement, layout: str) -> str | None:
    """Why an image so placed cannot lie in blocks of channels: samples alone may be cut; None where it can."""
    block = block_of(layout)
    if block == 1:
        return None
    if shape[1] % block:
        return f"{shape[1]} channels do not fill blocks of {block}"
    cut = next((axis for axis in placement if axis and axis not in (BATCH, PARTIAL)), None)
    return f"images in {layout} cannot be cut along {cut}" if cut else None
