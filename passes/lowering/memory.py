"""Which arrays of a role share memory: all whose contents no step needs of the one before.

They lie in one storage, each where nothing else lies while it is in use (`dlc.ir.packing`). What is written and read
within one segment is in use there from its first use to its last. What one segment leaves to another in a step (saved
activations, gradients, samples) is in use from the first that names it to the last, and so is everything in inference;
an output of the network is up to the end of that, since it may be a view of what nothing else names.

A result may take the place of an operand that nobody needs any more, where its kernel allows it (`dlc.ir.in_place`).

Memory that ranks sum in together is a storage of its own for each group. What remains has an array by itself: what is
kept from step to step, results of a step, and, where several microbatches are under way, what each has its own copy of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from dlc.ir.in_place import in_place, kernel_of
from dlc.ir.packing import Life, Span, Takeover, Times, placed
from dlc.ir.passing import exposed, passing
from dlc.ir.program import TRAIN_STEP, Buffer, Collective, Compute, Role, Segment, Wait
from dlc.ir.storage import Storage, begins, reads, title, writes
from dlc.ir.tensor import tensor

ALIGNMENT = 64  # bytes: a cache line
SHARED = "transient"
SHARING = ("input", "field", "activation", "saved", "gradient", "workspace", "bucket", "packed")


def is_arena(name: str | None) -> bool:
    """Whether a buffer is memory that others share."""
    return name is not None and name.partition(" over ")[0] == SHARED


def arena(window: str = "") -> str:
    """The name of the memory that arrays share; with a window, in that of the ranks of such a group."""
    return f"{SHARED} over {window}" if window else SHARED


def shared(role: Role, outputs: Iterable[str], scalars: Iterable[str]) -> Role:
    """The role with its arrays in the memory that they share; `outputs` are read when the segment that makes them is
    over, or later, `scalars` when an entry is."""
    found = _Uses(role, frozenset(scalars))
    windows = found.windows()
    handed_on = {found.storage.content(name) for name in outputs if found.storage.has(name)}
    times = _times(role)
    instants = times.instants(found.spans, found.passing, handed_on)
    lives = {name: Life(found.size(name), instants[name], windows.get(name, "")) for name in found.spans}
    if not lives:
        return role
    where = placed(lives, found.takeovers(times))
    storages = (
        Buffer(arena(window), tensor("u8", byte=size), "workspace") for window, size in where.sizes.items() if size
    )
    moved = (
        replace(buffer, view_of=arena(where.places[buffer.name][0]), offset=where.places[buffer.name][1])
        if buffer.name in where.places
        else buffer
        for buffer in role.buffers
    )
    return replace(role, buffers=(*storages, *moved))


def _times(role: Role) -> Times:
    rows = {entry.name: tuple(row.segment for row in entry.schedule) for entry in role.entries}
    lengths = {segment.name: len(segment.instructions) for segment in role.segments}
    return Times(lengths, rows.pop(TRAIN_STEP, ()), tuple(rows.values()))


@dataclass(slots=True)
class _Uses:
    """The storages that may share memory, with their spans by segment; of these, what segments of a step leave to
    others."""

    role: Role
    scalars: frozenset[str]
    storage: Storage = field(init=False)
    spans: dict[str, dict[str, Span]] = field(default_factory=dict)
    passing: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        role, storage = self.role, Storage(self.role, self.role.largest_shard)
        self.storage, self.passing = storage, passing(role, TRAIN_STEP, storage)
        able = {b.name for b in role.buffers if b.view_of is None and b.kind in SHARING and not storage.kept(b.name)}
        able.difference_update(storage.content(name) for name in self.scalars if storage.has(name))
        for entry in role.entries:
            rows = dict.fromkeys(row.segment for row in entry.schedule)
            able.difference_update(storage.content(name) for name in exposed(map(role.segment, rows), storage))
        if storage.slots > 1:
            able.difference_update(name for name in self.passing if storage.by_slot(name))
        for segment in role.segments:
            able.difference_update(self._follow(segment))
        self.spans = {name: spans for name, spans in self.spans.items() if name in able}
        self.passing &= able

    def size(self, name: str) -> int:
        """Bytes of a storage, up to a whole cache line."""
        return -(-self.storage.bytes(self.role.buffer(name)) // ALIGNMENT) * ALIGNMENT

    def windows(self) -> dict[str, str]:
        """The storages in which ranks of a group sum together, with the group."""
        sums = (made for segment in self.role.segments for made in segment.instructions)
        return {
            made.buffer: made.group
            for made in sums
            if isinstance(made, Collective) and (made.kind, made.algorithm) == ("allreduce", "shared")
        }

    def takeovers(self, times: Times) -> Iterator[Takeover]:
        """Where a call may leave a result in the place of an operand: both are all of a storage, of one size and
        element type, and so is whatever else the call is given of these."""
        begins = times.begins()
        for segment in self.role.segments:
            for at, made in enumerate(segment.instructions, begins[segment.name]):
                if isinstance(made, Compute):
                    names = (*made.inputs, *made.outputs)
                    roots = tuple(map(self.storage.content, names))
                    for pair in in_place(kernel_of(*made.kernel[:2]), roots):
                        given = {name for name, root in zip(names, roots, strict=True) if root in pair}
                        if all(root in self.spans for root in pair) and len(set(map(self._fact, (*given, *pair)))) == 1:
                            yield at, *pair

    def _fact(self, name: str) -> tuple[int, str]:
        """Bytes and element type of a buffer."""
        buffer = self.role.buffer(name)
        return self.storage.bytes(buffer), buffer.type.dtype

    def _follow(self, segment: Segment) -> Iterator[str]:
        """Note where a segment uses storages; what is under way when it ends."""
        flying: dict[str, tuple[str, ...]] = {}
        for at, instruction in enumerate(segment.instructions):
            scratch = instruction.workspaces if isinstance(instruction, Compute) else ()
            held = tuple(self.storage.content(name) for name in (*reads(instruction), *writes(instruction), *scratch))
            if begins(instruction):
                flying[title(instruction)] = held
            elif isinstance(instruction, Wait):
                held = flying.pop(instruction.name, ())
            for root in held:
                spans = self.spans.setdefault(root, {})
                spans[segment.name] = spans[segment.name][0] if segment.name in spans else at, at
        for held in flying.values():
            yield from held
