"""What each instruction of a role reads and writes, in bytes, whatever entry point runs it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import NamedTuple

from dlc.ir.in_place import in_place, kernel_of
from dlc.ir.mesh import PARTIAL
from dlc.ir.program import Compute, Instruction, Role
from dlc.ir.storage import Storage, begins, reads, title, writes

CHANGES_GRADIENTS = ("unscale", "regularise", "clip")
CONSUMES_SUMS = (*CHANGES_GRADIENTS, "update", "updates")
"""Passes that may only see gradients summed over all ranks."""

LINEAR = ("sum", "convert", "cast", "totals")
"""Kernels that may see parts of sums: what they give are parts of the same sums."""


class Use(NamedTuple):
    """A buffer as instructions name it: its bytes, and the content that it is a part of.

    `copies` says whether each slot has its own, `kept` that it outlives entries, `partial` that ranks hold parts of a
    sum in it, `gradient` that it holds the gradient of what has no batch: of a weight, as a rule.
    """

    name: str
    storage: str
    content: str
    start: int
    stop: int
    copies: bool
    kept: bool
    partial: bool
    gradient: bool

    def overlaps(self, other: Use) -> bool:
        """Whether both have a byte in common, where they are in the same slot."""
        return self.storage == other.storage and self.start < other.stop and other.start < self.stop

    def same(self, other: Use) -> bool:
        """Whether both have just the same bytes."""
        return (self.storage, self.start, self.stop) == (other.storage, other.start, other.stop)


class Act(NamedTuple):
    """An instruction with the buffers that it touches; of a kernel also which it may see only summed, and pairs of
    them that share bytes and must not: a result may have just those of an operand where its kernel allows it."""

    made: Instruction
    title: str
    begins: bool
    reads: tuple[Use, ...]
    writes: tuple[Use, ...]
    touched: tuple[Use, ...]
    storages: frozenset[str]
    scratch: tuple[Use, ...] = ()
    wants_sums: tuple[Use, ...] = ()
    shared: tuple[tuple[Use, Use], ...] = ()


@dataclass
class Facts:
    """A role with what is known of its buffers and instructions, whatever entry point runs."""

    role: Role
    storage: Storage
    _uses: dict[str, Use] = field(default_factory=dict)
    _acts: dict[str, tuple[Act, ...]] = field(default_factory=dict)
    _copies: dict[str, bool] = field(default_factory=dict)  # by storage, whether each slot has its own

    def acts(self, segment: str) -> tuple[Act, ...]:
        """The instructions of a segment."""
        found = self._acts.get(segment)
        if found is None:
            found = self._acts[segment] = tuple(map(self._act, self.role.segment(segment).instructions))
        return found

    def use(self, name: str) -> Use:
        """A buffer."""
        found = self._uses.get(name)
        if found is None:
            place, buffer, storage = self.storage.places[name], self.role.buffer(name), self.storage
            copies, kept = self._copies.get(place.storage), storage.kept(place.content)
            if copies is None:
                copies = self._copies[place.storage] = storage.by_slot(place.storage)
            gradient, span = buffer.kind == "gradient" and not buffer.type.batched, (place.start, place.stop)
            found = Use(name, place.storage, place.content, *span, copies, kept, self._is_partial(name), gradient)
            self._uses[name] = found
        return found

    def members(self, name: str) -> tuple[Use, ...]:
        """The views of a bucket; any other buffer by itself."""
        return tuple(map(self.use, self.storage.members[name] or (name,)))

    @cached_property
    def differs(self) -> bool:
        """Whether ranks hold different parts, so that sums over parts must be summed over ranks."""
        return len(set(self.role.shards)) > 1 or (self.role.mesh is not None and self.role.mesh.ranks > 1)

    def _act(self, made: Instruction) -> Act:
        if not isinstance(made, Compute):
            read, written = tuple(map(self.use, reads(made))), tuple(map(self.use, writes(made)))
            every = (*read, *written)
            return Act(made, title(made), begins(made), read, written, every, frozenset([use.storage for use in every]))
        read, written = tuple(map(self.use, reads(made))), tuple(map(self.use, made.outputs))
        scratch = tuple(map(self.use, made.workspaces))
        every, filled = (*read, *written, *scratch), (*written, *scratch)
        shared = [(one, other) for one, other in combinations(filled, 2) if one.overlaps(other)]
        shared += [(one, other) for one in filled for other in read if one is not other and one.overlaps(other)]
        if shared:
            fine = set(in_place(kernel_of(*made.kernel[:2]), (*made.inputs, *made.outputs)))
            shared = [(one, other) for one, other in shared if not ((other.name, one.name) in fine and one.same(other))]
        storages, wants = frozenset([use.storage for use in every]), tuple(self._wants_sums(made, read))
        return Act(made, title(made), False, read, written, every, storages, scratch, wants, tuple(shared))

    def _wants_sums(self, made: Compute, read: Iterable[Use]) -> list[Use]:
        """What a kernel may see only after it was summed over ranks, besides what kernels give as parts of sums."""
        linear, consumes = made.kernel[0] in LINEAR, made.kernel[1] in CONSUMES_SUMS
        if not self.differs:
            return []
        if self.role.mesh is None:
            return [use for use in read if consumes and use.gradient]
        return [] if linear else [use for use in read if use.partial]

    def _is_partial(self, name: str | None) -> bool:
        """Whether ranks hold parts of a sum in a buffer, or in one that it is a view of."""
        while name is not None:
            buffer = self.role.buffer(name)
            if PARTIAL in buffer.placement:
                return True
            name = buffer.view_of
        return False
