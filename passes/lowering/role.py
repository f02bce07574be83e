"""The arrays of one role while its segments are made: which exist, and what shares scratch memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from dlc.ir.program import Buffer
from dlc.ir.tensor import DTYPE_BYTES, tensor
from dlc.ops.operator import Workspace
from passes.lower_buffers import ALIGNMENT

ARENA, RECOMPUTED = "arena", "recomputed"


@dataclass(slots=True)
class Pool:
    """A storage whose views overwrite each other; `bytes` is as far as any of them reaches."""

    name: str
    bytes: int = 0

    def reserve(self, at: int, size: int) -> int:
        """Take `size` bytes from `at` on; where the next may begin."""
        end = at + -(-size // ALIGNMENT) * ALIGNMENT
        self.bytes = max(self.bytes, end)
        return end


@dataclass(slots=True)
class Scratch:
    """What one kernel and those around it use of the arena: `at` is where the next array begins.

    `gathered` has the units of weights that were gathered there, with what their buffers' names end in.
    """

    pool: Pool
    at: int = 0
    gathered: dict[str, str] = field(default_factory=dict)

    def take(self, size: int) -> int:
        """The offset of `size` more bytes."""
        offset = self.at
        self.at = self.pool.reserve(offset, size)
        return offset


@dataclass(slots=True)
class Buffers:
    """Collects the buffers of a role. `owners` says which chunk of the device has the plain name of a value."""

    buffers: dict[str, Buffer] = field(default_factory=dict)
    owners: dict[str, int] = field(default_factory=dict)
    pools: dict[str, Pool] = field(default_factory=dict)

    def add(self, buffer: Buffer) -> str:
        """The name of a buffer, which is there from now on."""
        self.buffers.setdefault(buffer.name, buffer)
        return buffer.name

    def named(self, value: str, chunk: int) -> str:
        """What a chunk calls the buffer of a value: chunks of one device that hold the same value have copies."""
        return value if self.owners.setdefault(value, chunk) == chunk else f"{value}.chunk{chunk}"

    def pool(self, name: str) -> Pool:
        """The pool of that name."""
        return self.pools.setdefault(name, Pool(name))

    def scratch(self) -> Scratch:
        """A new use of the arena."""
        return Scratch(self.pool(ARENA))

    def workspaces(self, address: str, wanted: Iterable[Workspace], scratch: Scratch) -> tuple[str, ...]:
        """Scratch arrays of one kernel, back to back."""
        names = []
        for each in wanted:
            size = each.type.elements * DTYPE_BYTES[each.type.dtype]
            name = f"{address}.{each.role}"
            names.append(self.add(Buffer(name, each.type, "workspace", view_of=ARENA, offset=scratch.take(size))))
        return tuple(names)

    def all(self) -> tuple[Buffer, ...]:
        """Every buffer, pools first."""
        pools = (Buffer(p.name, tensor("u8", byte=p.bytes), "workspace") for p in self.pools.values() if p.bytes)
        return (*pools, *self.buffers.values())
