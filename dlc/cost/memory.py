"""Bytes of a role at the peak of a step: cost-models.md §6, for programs whose buffers all live from start to end."""

from __future__ import annotations

from dlc.ir.program import Buffer, BufferKind, Program
from dlc.ir.tensor import BATCH, TensorType


def shard_bytes(type_: TensorType, largest_shard: int) -> int:
    """Bytes of a value on the rank that holds most samples."""
    return type_.with_extent(BATCH, largest_shard).bytes


def bytes_by_kind(program: Program) -> dict[BufferKind, int]:
    """Bytes of the worst rank for each kind of buffer; views cost none. Workspaces have their own extents already."""
    found: dict[BufferKind, int] = {}
    for role in program.roles:
        sizes: dict[BufferKind, int] = {}
        for buffer in role.buffers:
            sizes[buffer.kind] = sizes.get(buffer.kind, 0) + _bytes(buffer, role.largest_shard)
        if sum(sizes.values()) > sum(found.values()):
            found = sizes
    return found


def peak_bytes(program: Program) -> int:
    """The most that any rank allocates. The process itself (interpreter, libraries, MPI) comes on top."""
    return sum(bytes_by_kind(program).values())


def _bytes(buffer: Buffer, largest_shard: int) -> int:
    if buffer.view_of is not None:
        return 0
    return buffer.type.bytes if buffer.kind == "workspace" else shard_bytes(buffer.type, largest_shard)
