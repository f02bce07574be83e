"""Bytes of a role at the peak of a step: cost-models.md §6, for programs whose buffers all live from start to end."""

from __future__ import annotations

from dlc.ir.program import BufferKind, Program
from dlc.ir.storage import Storage


def bytes_by_kind(program: Program) -> dict[BufferKind, int]:
    """Bytes of the worst rank for each kind of buffer; views cost none. Workspaces have their own extents already."""
    return max(
        (Storage(role, role.largest_shard).allocated() for role in program.roles), key=lambda sizes: sum(sizes.values())
    )


def peak_bytes(program: Program) -> int:
    """The most that any rank allocates. The process itself (interpreter, libraries, MPI) comes on top."""
    return sum(bytes_by_kind(program).values())
