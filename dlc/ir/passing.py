"""What segments leave to others: buffers whose contents are read where the same segment has not written them before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dlc.ir.program import Role, Segment
from dlc.ir.ranks import schedule
from dlc.ir.storage import Storage, reads, writes


def passing(role: Role, entry: str, storage: Storage | None = None) -> frozenset[str]:
    """The contents (`Storage.content`) that one segment of an entry point leaves to another."""
    known = storage or Storage(role, role.largest_shard)
    segments = dict.fromkeys(row.segment for row in schedule(role, entry))
    return frozenset(known.content(name) for each in segments for name in exposed((role.segment(each),), known))


def exposed(segments: Iterable[Segment], storage: Storage) -> Iterator[str]:
    """The buffers that these segments, one behind the other, read before they write them."""
    written = set[str]()
    for segment in segments:
        for instruction in segment.instructions:
            for name in reads(instruction):
                if name not in written and not _is_written(name, written, storage):
                    yield name
            written.update(writes(instruction))


def _is_written(name: str, written: set[str], storage: Storage) -> bool:
    """Whether a buffer has been written: itself, what it is a view of, or all that are views of it, side by side."""
    at: str | None = name
    while at is not None and not storage.is_arena(at):
        members = storage.members[at]
        if at in written or (members and all(each in written for each in members)):
            return True
        at = storage.role.buffer(at).view_of
    return False
