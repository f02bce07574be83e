"""The arrays of one role while its segments are made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from dlc.ir.program import Buffer
from dlc.ops.operator import Workspace


@dataclass(slots=True)
class Buffers:
    """Collects the buffers of a role. `owners` says which chunk of the device has the plain name of a value."""

    buffers: dict[str, Buffer] = field(default_factory=dict)
    owners: dict[str, int] = field(default_factory=dict)

    def add(self, buffer: Buffer) -> str:
        """The name of a buffer, which is there from now on."""
        self.buffers.setdefault(buffer.name, buffer)
        return buffer.name

    def named(self, value: str, chunk: int) -> str:
        """What a chunk calls the buffer of a value: chunks of one device that hold the same value have copies."""
        return value if self.owners.setdefault(value, chunk) == chunk else f"{value}.chunk{chunk}"

    def workspaces(self, address: str, wanted: Iterable[Workspace]) -> tuple[str, ...]:
        """Scratch arrays of one kernel."""
        return tuple(self.add(Buffer(f"{address}.{each.role}", each.type, "workspace")) for each in wanted)

    def all(self) -> tuple[Buffer, ...]:
        """Every buffer, parents before views."""
        return tuple(self.buffers.values())
