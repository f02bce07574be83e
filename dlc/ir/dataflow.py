"""What a role's buffers hold as an entry point runs: written before read, summed before used, untouched in flight.

A schedule is a straight line, so an entry point has one path. Contents are tracked by bytes: a write to a member of a
bucket is a write to that part of the bucket, and a write to an arena ends whatever lay in those bytes before.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import combinations

from dlc.ir.mesh import PARTIAL
from dlc.ir.problem import Problem, ProblemKind
from dlc.ir.program import Collective, Compute, Instruction, Role, Row, Wait
from dlc.ir.ranks import schedule
from dlc.ir.storage import Place, Storage, begins, reads, title, touched, writes

CHANGES_GRADIENTS = ("unscale", "regularise", "clip")
CONSUMES_SUMS = (*CHANGES_GRADIENTS, "update")
"""Passes that may only see gradients summed over all ranks."""

GIVES_PARTS = ("sums", "squares", "grad_sums")
"""Passes whose results are a rank's parts of sums: what batch norm adds up where its groups span ranks."""

LINEAR = ("sum", "convert", "cast", "totals")
"""Kernels that may see parts of sums: what they give are parts of the same sums."""

SUMS = ("allreduce", "reduce_scatter")
"""Collectives that leave sums over ranks."""


def flow(role: Role, entry: str, filled: tuple[str, ...] = ()) -> tuple[Problem, ...]:
    """The faults of a role's data flow in an entry point; `filled` are buffers that it must leave written.

    Of many microbatches those are followed that fill every slot and two more, and any that runs other segments than the
    last of these: all others do as that one did.
    """
    walk = _Walk(role, entry, Storage(role, role.largest_shard))
    rows, followed = schedule(role, entry), walk.storage.slots + 2
    runs: dict[int, list[str]] = {}
    for row in rows:
        runs.setdefault(row.microbatch, []).append(row.segment)
    for row in rows:
        if row.microbatch < followed or runs[row.microbatch] != runs.get(followed - 1):
            for instruction in role.segment(row.segment).instructions:
                walk.step(row, instruction)
    walk.end(filled)
    return tuple(walk.found.values())


@dataclass(slots=True)
class Intervals:
    """A set of byte positions, as disjoint half-open intervals in order."""

    parts: list[tuple[int, int]] = field(default_factory=list)

    def covers(self, start: int, stop: int) -> bool:
        """Whether all of an interval is in the set."""
        return start >= stop or any(first <= start and stop <= last for first, last in self.parts)

    def add(self, start: int, stop: int) -> None:
        """Put an interval in, joined to those that it touches."""
        if start >= stop:
            return
        near = [part for part in self.parts if part[0] <= stop and start <= part[1]]
        joined = (min([start, *(a for a, _ in near)]), max([stop, *(b for _, b in near)]))
        self.parts = sorted([*(part for part in self.parts if part not in near), joined])

    def remove(self, start: int, stop: int) -> None:
        """Take an interval out."""
        pieces = [piece for a, b in self.parts for piece in ((a, min(b, start)), (max(a, stop), b))]
        self.parts = [piece for piece in pieces if piece[0] < piece[1]]


@dataclass(slots=True)
class _Content:
    """What one copy of a content holds: the bytes written and those summed over ranks, of which microbatch."""

    place: Place
    microbatch: int
    written: Intervals = field(default_factory=Intervals)
    summed: Intervals = field(default_factory=Intervals)


Copy = tuple[str, int]
"""A storage and the slot of one of its copies."""


@dataclass(slots=True)
class _Walk:
    """One pass over the straight line of an entry point."""

    role: Role
    entry: str
    storage: Storage
    contents: dict[Copy, dict[str, _Content]] = field(default_factory=dict)
    flying: dict[tuple[str, int], tuple[Instruction, Row]] = field(default_factory=dict)  # by name and slot
    parts: set[str] = field(default_factory=set)  # what must be summed before any kernel reads it
    gradients: dict[str, bool] = field(default_factory=dict)  # of weights, as written: whether a kernel has read it
    found: dict[tuple[str, str, str], Problem] = field(default_factory=dict)

    def step(self, row: Row, instruction: Instruction) -> None:
        """Check one instruction and note what it does, at its Wait where it only begins here."""
        if isinstance(instruction, Wait):
            self._wait(instruction, row.slot)
            return
        self._check_free(row, instruction)
        if isinstance(instruction, Collective):
            self._enter(row, instruction)
        for name in () if isinstance(instruction, Collective) else reads(instruction):
            self._read(row, instruction, name)
        if isinstance(instruction, Compute):
            self._check_overlaps(instruction)
            self._note_kernel(instruction)
            for name in instruction.workspaces:
                self._end_others(row, self.storage.places[name])
        elif not isinstance(instruction, Collective):
            self._note_use(reads(instruction))
        if not begins(instruction):
            self._done(row, instruction)
            return
        name = title(instruction)
        if (name, row.slot) in self.flying:
            self._problem("wait", instruction, name, f"`{name}` begins again before its wait")
        self.flying[name, row.slot] = (instruction, row)

    def end(self, filled: tuple[str, ...]) -> None:
        """Check what the entry point leaves behind."""
        for (name, _), (instruction, _) in self.flying.items():
            self._problem("wait", instruction, name, f"`{name}` begins and nothing waits for it")
        self._check_used()
        for name in filled:
            held = self._content(Row(""), self.storage.places[name])
            place = self.storage.places[name]
            if held is None or not held.written.covers(place.start, place.stop):
                self._problem("unwritten", None, name, f"nothing writes `{name}`, a result of `{self.entry}`")
            elif self._sums(name) and not held.summed.covers(place.start, place.stop):
                self._problem(
                    "unsummed", None, name, f"`{name}`, a result of `{self.entry}`, is not summed over the ranks"
                )

    def _note_kernel(self, compute: Compute) -> None:
        """Remember parts of sums, and which gradients of weights are written and which are of use."""
        if compute.kernel[1] in GIVES_PARTS or compute.kernel[0] in GIVES_PARTS:
            self.parts.update(compute.outputs)
        if compute.kernel[1] not in CHANGES_GRADIENTS:
            self._note_use(compute.inputs)
        for name in filter(self._of_weight, compute.outputs):
            self.gradients.setdefault(name, False)

    def _note_use(self, names: Iterable[str]) -> None:
        """Remember that gradients of weights are of use; of one whose shard is, too."""
        for name in filter(self._of_weight, names):
            self.gradients[name] = True
            parent = self.role.buffer(name).view_of
            if parent is not None and self._of_weight(parent):
                self.gradients[parent] = True

    def _note_target(self, collective: Collective) -> None:
        """Remember the gradients that a collective leaves in another buffer: those are of use from now on."""
        whole = self.storage.members[collective.buffer] or (collective.buffer,)
        self._note_use(whole)
        for name in filter(self._of_weight, self.storage.members[collective.target] or (collective.target,)):
            self.gradients.setdefault(name, False)

    def _of_weight(self, name: str) -> bool:
        """Whether a buffer holds the gradient of what has no batch: of a weight, as a rule."""
        buffer = self.role.buffer(name)
        return buffer.kind == "gradient" and not buffer.type.batched

    def _check_used(self) -> None:
        """Report gradients of weights that no kernel has read: an update is missing."""
        for name, used in self.gradients.items():
            if not used:
                self._problem("unused", None, name, f"`{name}` is computed and updates nothing")

    def _read(self, row: Row, instruction: Instruction, name: str) -> None:
        place = self.storage.places[name]
        held = self._content(row, place)
        if not self.storage.kept(place.content):
            if held is None or not held.written.covers(place.start, place.stop):
                self._problem(
                    "unwritten", instruction, name, f"`{title(instruction)}` reads `{name}` before it is written"
                )
                return
            if held.microbatch != row.microbatch and self.storage.by_slot(place.storage):
                sentence = f"`{title(instruction)}` of microbatch {row.microbatch} reads `{name}` of microbatch"
                self._problem("unwritten", instruction, name, f"{sentence} {held.microbatch}")
                return
        if self._wants_sums(instruction, name) and not (held and held.summed.covers(place.start, place.stop)):
            self._problem(
                "unsummed",
                instruction,
                name,
                f"`{title(instruction)}` uses `{name}` before it is summed over the ranks",
            )

    def _write(self, row: Row, name: str, in_place: bool = False) -> None:
        place = self.storage.places[name]
        self._end_others(row, place)
        held = self._copies(row, place.storage).setdefault(place.content, _Content(place, row.microbatch))
        if held.microbatch != row.microbatch and self.storage.by_slot(place.storage):
            held.written, held.summed = Intervals(), Intervals()
        held.microbatch = row.microbatch
        held.written.add(place.start, place.stop)
        if not in_place:
            held.summed.remove(place.start, place.stop)

    def _enter(self, row: Row, collective: Collective) -> None:
        """A collective reads all of its buffer, member by member; along a mesh sums may follow each other."""
        for name in self.storage.members[collective.buffer] or (collective.buffer,):
            self._read(row, collective, name)
        if collective.target:
            self._note_target(collective)
        place = self.storage.places[collective.buffer]
        held = self._content(row, place)
        again = held is not None and place.start < place.stop and held.summed.covers(place.start, place.stop)
        if again and collective.kind in SUMS and self.role.mesh is None:
            self._problem(
                "twice", collective, collective.buffer, f"`{collective.name}` sums `{collective.buffer}` again"
            )

    def _done(self, row: Row, instruction: Instruction) -> None:
        """What an instruction leaves behind: what it writes, summed over ranks where it sums."""
        sums = isinstance(instruction, Collective) and instruction.kind in SUMS
        in_place = isinstance(instruction, Collective) and not instruction.target
        for name in writes(instruction):
            if not (sums and in_place):
                self._write(row, name, in_place or name in reads(instruction))
            if sums:
                self._summed(row, self.storage.places[name])
        if isinstance(instruction, Compute) and instruction.kernel[0] == "cast":
            for source, target in zip(instruction.inputs, instruction.outputs, strict=False):
                place = self.storage.places[source]
                held = self._content(row, place)
                if held is not None and held.summed.covers(place.start, place.stop):
                    self._summed(row, self.storage.places[target])

    def _summed(self, row: Row, place: Place) -> None:
        held = self._copies(row, place.storage).setdefault(place.content, _Content(place, row.microbatch))
        held.written.add(place.start, place.stop)
        held.summed.add(place.start, place.stop)

    def _wait(self, wait: Wait, slot: int) -> None:
        """The end of what began in this slot, else of the oldest one of that name."""
        begun = [key for key in self.flying if key[0] == wait.name]
        if not begun:
            self._problem("wait", wait, wait.name, f"`{wait.name}` is waited for and has not begun")
            return
        instruction, row = self.flying.pop((wait.name, slot) if (wait.name, slot) in begun else begun[0])
        self._done(row, instruction)

    def _check_free(self, row: Row, instruction: Instruction) -> None:
        """Report buffers that an instruction in flight fills, and those that it reads and this one would change."""
        changed = set(writes(instruction))
        for name in touched(instruction):
            place = self.storage.places[name]
            for other, begun in self.flying.values():
                for held in touched(other) if name in changed else writes(other):
                    theirs = self.storage.places[held]
                    if self._copy(begun, theirs.storage) == self._copy(row, place.storage) and place.overlaps(theirs):
                        sentence = f"`{title(instruction)}` touches `{name}` while `{title(other)}` is under way"
                        self._problem("in flight", instruction, name, sentence)

    def _check_overlaps(self, compute: Compute) -> None:
        """Report outputs and workspaces that share bytes, and workspaces that share bytes with an input."""
        written = (*compute.outputs, *compute.workspaces)
        pairs = [*combinations(written, 2), *((a, b) for a in compute.workspaces for b in compute.inputs)]
        for one, other in pairs:
            if self.storage.places[one].overlaps(self.storage.places[other]):
                sentence = f"`{compute.address}` is given `{one}` and `{other}`, which share bytes"
                self._problem("overlap", compute, one, sentence)

    def _wants_sums(self, instruction: Instruction, name: str) -> bool:
        """Whether an instruction may see this buffer only after it was summed over ranks."""
        if not isinstance(instruction, Compute) or not self._differs():
            return False
        if self.role.mesh is not None:
            return name in self.parts or (instruction.kernel[0] not in LINEAR and self._is_partial(name))
        return name in self.parts or (instruction.kernel[1] in CONSUMES_SUMS and self._of_weight(name))

    def _is_partial(self, name: str | None) -> bool:
        """Whether ranks hold parts of a sum in a buffer, or in one that it is a view of."""
        while name is not None:
            buffer = self.role.buffer(name)
            if PARTIAL in buffer.placement:
                return True
            name = buffer.view_of
        return False

    def _differs(self) -> bool:
        """Whether ranks hold different parts, so that sums over parts must be summed over ranks."""
        return len(set(self.role.shards)) > 1 or (self.role.mesh is not None and self.role.mesh.ranks > 1)

    def _sums(self, name: str) -> bool:
        """Whether ranks hold parts of a result of a step."""
        if self.role.mesh is not None:
            return self._is_partial(name)
        return self._differs() and self.role.buffer(self.storage.places[name].storage).kind == "bucket"

    def _copy(self, row: Row, storage: str) -> Copy:
        return storage, row.slot if self.storage.by_slot(storage) else 0

    def _copies(self, row: Row, storage: str) -> dict[str, _Content]:
        return self.contents.setdefault(self._copy(row, storage), {})

    def _content(self, row: Row, place: Place) -> _Content | None:
        return self._copies(row, place.storage).get(place.content)

    def _end_others(self, row: Row, place: Place) -> None:
        """Other contents of the same bytes of an arena are lost."""
        copies = self._copies(row, place.storage)
        for content in [other for other in copies if other != place.content]:
            written = copies[content].written
            written.remove(place.start, place.stop)
            if not written.parts:
                del copies[content]

    def _problem(self, kind: ProblemKind, instruction: Instruction | None, subject: str, sentence: str) -> None:
        name = "" if instruction is None else title(instruction)
        self.found.setdefault((kind, name, subject), Problem(kind, sentence, self.role.name, self.entry, name))
