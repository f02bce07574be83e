"""Where the buffers of a Program lie: which bytes a view shares with its parent, and how many bytes a rank allocates.

A buffer's storage is the buffer at the end of its chain of `view_of`; only storages take memory. An arena is a storage
of kind `workspace` whose views are unrelated contents that overwrite each other; views of any other buffer show the
same content under another name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod
from typing import NamedTuple

from dlc.ir.in_place import in_place, kernel_of
from dlc.ir.mesh import Mesh, Placement, largest, parts
from dlc.ir.program import (
    Buffer,
    BufferKind,
    Collective,
    Compute,
    Copy,
    Instruction,
    Load,
    Program,
    Receive,
    Role,
    Send,
)
from dlc.ir.ranks import microbatches
from dlc.ir.tensor import BATCH, DTYPE_BYTES, TensorType

KEPT: tuple[BufferKind, ...] = ("weight", "statistic", "state", "constant")
"""What is filled at the start and lives as long as the job."""

BY_SLOT: tuple[BufferKind, ...] = ("input", "field", "activation", "saved")
"""What every microbatch in flight has its own copy of; gradients of batched values too."""


class Place(NamedTuple):
    """Bytes `start` to `stop` of a storage; `content` names the outermost buffer whose content this is a part of."""

    storage: str
    content: str
    start: int
    stop: int

    def overlaps(self, other: Place) -> bool:
        """Whether both have a byte in common."""
        return self.storage == other.storage and self.start < other.stop and other.start < self.stop


@dataclass(frozen=True)
class Storage:
    """The memory of one rank of a role that holds `samples` of the batch."""

    role: Role
    samples: int

    @cached_property
    def slots(self) -> int:
        """How many copies there are of what each microbatch has its own of."""
        return 1 + max((row.slot for entry in self.role.entries for row in entry.schedule), default=0)

    @cached_property
    def microbatches(self) -> int:
        """Into how many parts the schedules cut the batch."""
        return microbatches(row for entry in self.role.entries for row in entry.schedule)

    @cached_property
    def _known_cuts(self) -> dict[Placement, dict[str, int]]:
        return {}

    @cached_property
    def places(self) -> dict[str, Place]:
        """Buffer -> its bytes, for every buffer."""
        return {buffer.name: self._place(buffer) for buffer in self.role.buffers}

    @cached_property
    def members(self) -> dict[str, tuple[str, ...]]:
        """Buffer -> the views that name it as their parent, in order."""
        found: dict[str, list[str]] = {buffer.name: [] for buffer in self.role.buffers}
        for buffer in self.role.buffers:
            if buffer.view_of is not None:
                found[buffer.view_of].append(buffer.name)
        return {name: tuple(views) for name, views in found.items()}

    def has(self, name: str) -> bool:
        """Whether the role has a buffer of that name."""
        return name in self.members

    def is_arena(self, name: str) -> bool:
        """Whether a buffer is memory in which others lie that have nothing to do with each other."""
        buffer = self.role.buffer(name)
        return buffer.kind == "workspace" and buffer.view_of is None and bool(self.members[name])

    def content(self, name: str) -> str:
        """The buffer whose bytes one has: a storage, or what lies in an arena."""
        parent = self.role.buffer(name).view_of
        while parent is not None and not self.is_arena(parent):
            name, parent = parent, self.role.buffer(parent).view_of
        return name

    def taken_over(self, made: Instruction) -> Iterator[tuple[str, str]]:
        """(operand, result): contents of a kernel's call of which the result lies in just the bytes of the operand."""
        if not isinstance(made, Compute):
            return
        for names in in_place(kernel_of(*made.kernel[:2]), (*made.inputs, *made.outputs)):
            one, other = (self.places[name] for name in names)
            operand, result = map(self.content, names)
            if operand != result and (one.storage, one.start, one.stop) == (other.storage, other.start, other.stop):
                yield operand, result

    def bytes(self, buffer: Buffer) -> int:
        """Bytes of one copy. Workspaces are as large as the largest shard needs, whatever this rank holds."""
        if buffer.name in self.role.unstored:
            return 0
        if buffer.kind == "workspace" and not buffer.placement:
            return buffer.type.bytes
        size, batch, held = DTYPE_BYTES[buffer.type.dtype], BATCH in buffer.type.names, placed(self.role, buffer)
        cuts = self._cuts(buffer.placement) if held else {BATCH: 0}
        for name, extent in [(axis.name, axis.extent) for axis in buffer.type.axes]:  # as `local`, but much faster
            cut = cuts.get(name, 1)
            if not cut:
                extent = -(-self.samples // self.microbatches)
            elif held and name == (BATCH if batch else "group"):
                extent = -(-extent // self.microbatches)
            size *= -(-extent // cut) if cut > 1 else extent
        return size

    def _cuts(self, placement: Placement) -> dict[str, int]:
        """Axis -> into how many parts a placement cuts it; 0 for the batch where ranks have different parts of it."""
        found = self._known_cuts.get(placement)
        if found is None:
            mesh = self.role.mesh
            assert mesh is not None
            found = self._known_cuts[placement] = {axis: parts(placement, mesh, axis) for axis in placement if axis}
            if found.get(BATCH) == self.role.uneven:
                found[BATCH] = 0
        return found

    def kept(self, content: str) -> bool:
        """Whether a content outlives an entry; a bucket without members does: it adds up over many calls."""
        buffer = self.role.buffer(content)
        return buffer.kind in KEPT or (buffer.kind == "bucket" and not self.members[content])

    def by_slot(self, storage: str) -> bool:
        """Whether there is a copy of a storage for each slot."""
        buffer = self.role.buffer(storage)
        return buffer.kind in BY_SLOT or (buffer.kind == "gradient" and buffer.type.batched)

    def allocated(self) -> dict[BufferKind, int]:
        """Bytes by kind of all storages and their copies, as allocated once at the start.

        What the collectives need beside their operands counts as `bucket`. Copies in slots that nothing uses are not
        counted: the system gives memory to pages that are written.
        """
        scratch = sum(self._scratch().values())
        found: dict[BufferKind, int] = {"bucket": scratch} if scratch else {}
        for buffer in self.role.buffers:
            if buffer.view_of is None:
                copies = self._copies.get(buffer.name, 1) if self.by_slot(buffer.name) else 1
                found[buffer.kind] = found.get(buffer.kind, 0) + copies * self.bytes(buffer)
        return found

    @cached_property
    def _copies(self) -> dict[str, int]:
        """Storage -> in how many slots segments use it: chunks of a stage have different numbers of microbatches."""
        slots: dict[str, int] = {}
        for row in (row for entry in self.role.entries for row in entry.schedule):
            slots[row.segment] = max(slots.get(row.segment, 1), row.slot + 1)
        found: dict[str, int] = {}
        for segment in self.role.segments:
            for name in (name for made in segment.instructions for name in touched(made)):
                storage = self.places[name].storage
                found[storage] = max(found.get(storage, 1), slots.get(segment.name, 1))
        return found

    def _scratch(self) -> dict[str, int]:
        """Bytes beside the operand of each allreduce, by its buffer; other collectives need none."""
        found = {}
        for segment in self.role.segments:
            for instruction in segment.instructions:
                if isinstance(instruction, Collective) and instruction.kind == "allreduce":
                    buffer = self.role.buffer(instruction.buffer)
                    size = DTYPE_BYTES[buffer.type.dtype]
                    ranks = group_size(self.role, instruction.group)
                    elements = self.bytes(buffer) // size if buffer.placement else buffer.type.elements
                    found[instruction.buffer] = size * collective_scratch(instruction.algorithm, ranks, elements)
        return found

    def _place(self, buffer: Buffer) -> Place:
        start, content, at = 0, buffer.name, buffer
        while at.view_of is not None:
            parent = self.role.buffer(at.view_of)
            start += at.offset * DTYPE_BYTES[parent.type.dtype]
            content = content if parent.kind == "workspace" else parent.name
            at = parent
        return Place(at.name, content, start, start + self.bytes(buffer))


def storages_of(program: Program) -> tuple[Storage, ...]:
    """The memory of each role's rank with the largest shard."""
    return tuple(Storage(role, role.largest_shard) for role in program.roles)


def local(role: Role, buffer: Buffer, samples: int, microbatches: int) -> TensorType:
    """What the rank with most of a buffer holds of it, for one microbatch.

    A placed buffer is cut along the role's mesh, its batch first into microbatches; of any other, `samples` are held.
    So they are of one that is cut as the samples are, where faster ranks have more of them.
    """
    if role.mesh is not None and placed(role, buffer):
        found = _share(buffer.type, buffer.placement, role.mesh, microbatches)
        uneven = role.uneven and BATCH in buffer.placement
        if uneven and parts(buffer.placement, role.mesh, BATCH) == role.uneven:
            return found.with_extent(BATCH, samples)
        return found
    return buffer.type.with_extent(BATCH, samples) if buffer.type.batched else buffer.type


def placed(role: Role, buffer: Buffer) -> bool:
    """Whether a buffer says where it lies on the role's mesh; on a mesh without axes there is nothing to say."""
    return bool(buffer.placement) or (role.mesh is not None and not role.mesh.axes)


@lru_cache(maxsize=4096)
def _share(type_: TensorType, placement: Placement, mesh: Mesh, microbatches: int) -> TensorType:
    return largest(of_microbatch(type_, microbatches), placement, mesh)


def of_microbatch(type_: TensorType, microbatches: int) -> TensorType:
    """What one microbatch has of a value: its samples, or the rows of its groups where a table has one for each."""
    axis = BATCH if type_.batched else "group"
    if microbatches == 1 or axis not in type_.names:
        return type_
    return type_.with_extent(axis, -(-type_.extent(axis) // microbatches))


def group_size(role: Role, group: str) -> int:
    """How many ranks stand in one group: those along the axes of the role's mesh that its name joins by `+`."""
    return len(role.ranks) if role.mesh is None else prod(role.mesh.extent(axis) for axis in group.split("+"))


def operand_bytes(role: Role, made: Collective | Send | Receive, microbatches: int) -> int:
    """Bytes of what an instruction communicates of one microbatch, by its buffers.

    Of an allgather or all-to-all that is all data of a group together, of the others what each rank has; of a halo what
    the instruction says.
    """
    if not isinstance(made, Collective):
        return _whole(role, made.buffer, microbatches)
    match made.kind:
        case "halo":
            return made.bytes
        case "allgather" if made.target:
            return _whole(role, made.target, microbatches)
        case "allgather" | "all_to_all" if role.mesh is not None and role.buffer(made.buffer).placement:
            buffer, axes = role.buffer(made.buffer), made.group.split("+")
            placement = tuple("" if n in axes else at for n, at in zip(role.mesh.names, buffer.placement, strict=True))
            return _share(buffer.type, placement, role.mesh, microbatches).bytes
    return _whole(role, made.buffer, microbatches)


def _whole(role: Role, name: str, microbatches: int) -> int:
    """Bytes that a rank has of a placed buffer; of any other all, since what it has of that depends on its samples."""
    buffer = role.buffer(name)
    return local(role, buffer, 0, microbatches).bytes if placed(role, buffer) else buffer.type.bytes


SHARED_CHUNK = 2**14
"""Values that a rank sums at a time in a shared window."""


def collective_scratch(algorithm: str, ranks: int, elements: int) -> int:
    """How many values an allreduce needs beside those it sums; the emitted program's runtime allocates just so many."""
    if ranks == 1:
        return 0
    sizes = {"ring": -(-elements // ranks), "shared": min(SHARED_CHUNK, elements), "mpi": 0}
    return sizes.get(algorithm, elements)


def reads(instruction: Instruction) -> tuple[str, ...]:
    """The buffers whose contents an instruction uses."""
    match instruction:
        case Compute(inputs=inputs, packs=packs):
            return (*inputs, *packs) if packs else inputs
        case Collective(buffer=buffer) | Send(buffer=buffer) | Copy(source=buffer):
            return (buffer,)
        case _:
            return ()


def writes(instruction: Instruction) -> tuple[str, ...]:
    """The buffers that an instruction fills. Updates and clipping work in place and name nothing here."""
    match instruction:
        case Compute(outputs=outputs):
            return outputs
        case Load(buffers=buffers):
            return buffers
        case Collective(buffer=buffer, target=target):
            return (target or buffer,)
        case Receive(buffer=buffer) | Copy(target=buffer):
            return (buffer,)
        case _:
            return ()


def touched(instruction: Instruction) -> Iterator[str]:
    """Every buffer that an instruction names, each once."""
    scratch = instruction.workspaces if isinstance(instruction, Compute) else ()
    yield from dict.fromkeys((*reads(instruction), *writes(instruction), *scratch))


def begins(instruction: Instruction) -> bool:
    """Whether an instruction only begins, and a Wait ends it."""
    return isinstance(instruction, Collective | Send | Receive | Copy) and not instruction.blocking


def title(instruction: Instruction) -> str:
    """What an instruction is called in messages: its address, or its name."""
    match instruction:
        case Copy(address="", source=source, target=target):
            return f"{source} to {target}"
        case Compute(address="", kernel=(op, _, _), inputs=inputs):
            return f"{op} of {inputs[0]}" if inputs else op
        case Compute(address=address) | Load(address=address) | Copy(address=address):
            return address
    return instruction.name
