"""Which bytes are in use at each point of an entry point: a lower bound on what a memory plan can reach.

Weights, statistics, states and constants live throughout. Everything else lives from its first use to its last, each
microbatch's copy by itself; a workspace lives while its kernel runs. Emitted programs allocate every storage once, so
that they take `Storage.allocated`, whatever is live.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from dlc.ir.program import BufferKind, Role, Row
from dlc.ir.ranks import instructions
from dlc.ir.storage import KEPT, Storage, touched

Bytes = dict[BufferKind, int]


@dataclass(frozen=True, slots=True)
class Point:
    """Live bytes by kind while one instruction runs; `step` counts the instructions of the entry point from 0."""

    step: int
    live: tuple[tuple[BufferKind, int], ...]

    @property
    def total(self) -> int:
        """Bytes of all kinds."""
        return sum(size for _, size in self.live)


def live_bytes(role: Role, entry: str, samples: int) -> tuple[Point, ...]:
    """The live bytes at each instruction of an entry point, on a rank of the role that holds `samples`."""
    storage = Storage(role, samples)
    first, last, names = dict[Hashable, int](), dict[Hashable, int](), dict[Hashable, str]()
    count = 0
    for step, (row, instruction) in enumerate(instructions(role, entry)):
        count = step + 1
        for name in touched(instruction):
            place = storage.places[name]
            life = _life(storage, place.storage, row, step)
            first.setdefault(life, step)
            last[life], names[life] = step, place.storage
    changes: list[Bytes] = [{} for _ in range(count + 1)]
    for buffer in role.buffers:
        if count and buffer.kind in KEPT and buffer.view_of is None:
            _add(changes[0], buffer.kind, storage.bytes(buffer))
    for life, name in names.items():
        buffer = role.buffer(name)
        if buffer.kind not in KEPT:
            _add(changes[first[life]], buffer.kind, storage.bytes(buffer))
            _add(changes[last[life] + 1], buffer.kind, -storage.bytes(buffer))
    return tuple(_summed(changes[:count]))


def _life(storage: Storage, name: str, row: Row, step: int) -> Hashable:
    """What tells one stretch of use of a storage from another: nothing, the microbatch, or the instruction itself."""
    if storage.role.buffer(name).kind == "workspace":
        return name, step
    return (name, row.microbatch, row.slot) if storage.by_slot(name) else name


def _add(at: Bytes, kind: BufferKind, size: int) -> None:
    at[kind] = at.get(kind, 0) + size


def _summed(changes: list[Bytes]) -> list[Point]:
    live: Bytes = {}
    points = list[Point]()
    for step, change in enumerate(changes):
        for kind, size in change.items():
            _add(live, kind, size)
        points.append(Point(step, tuple((kind, size) for kind, size in sorted(live.items()) if size)))
    return points
