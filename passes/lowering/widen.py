"""Half precision where kernels compute in f32: what is kept and sent is f16 or bf16, what a kernel works on is f32.

NumPy's own arithmetic on f16 is slow and rounds every partial sum, and it has no bf16. So before a kernel its operands
are cast into scratch arrays of f32, and its results are rounded when they are read next, or kept. What ranks sum is
summed in f32 before it is rounded. The optimizer works on the masters, weights in f32; a segment `copies` at the
beginning of a step makes the weights that the network computes with of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace

from dlc.ir.program import (
    TRAIN_STEP,
    Buffer,
    Collective,
    Compute,
    Entry,
    Instruction,
    Load,
    Receive,
    Role,
    Row,
    Segment,
    Send,
)
from dlc.ir.storage import reads, touched, writes
from dlc.ir.tensor import NARROW
from dlc.ops.halves import HALVES, takes_halves

WIDE = "f32"
COPIES = "copies"
MASTER = "@master"
OUTPUT = "@output"

ANY_TYPE = ("convert",)
"""Kernels that put elements in other places and compute nothing with them."""

PASSING = ("activation", "saved", "gradient", "input", "field", "bucket")
"""Kinds of buffers that are of no use where no instruction names them."""


def wide(name: str) -> str:
    """The scratch array in f32 for a buffer."""
    return f"{name}@{WIDE}"


def widened(role: Role, outputs: Collection[str], halves: bool = False) -> Role:
    """The role with casts around its kernels; an output of the network in half precision is `NAME@output` in f32.

    With `halves` there are none around those that take half precision as it is (dlc/ops/halves.py).
    """
    return _Widening(role, frozenset(outputs), halves).role_made()


def widened_output(role: Role, name: str) -> str:
    """Where a widened role has an output of the network."""
    found = f"{name}{OUTPUT}"
    return found if any(buffer.name == found for buffer in role.buffers) else name


@dataclass(slots=True)
class _Widening:
    """One role. `pending` has the buffers whose contents are in their scratch arrays and not rounded yet, `sums` those
    that are summed over ranks before that."""

    role: Role
    outputs: frozenset[str]
    halves: bool
    made: dict[str, Buffer] = field(default_factory=dict)
    masters: dict[str, str] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)
    pending: dict[str, None] = field(default_factory=dict)
    sums: set[str] = field(default_factory=set)

    def role_made(self) -> Role:
        """All segments, and the buffers that they name."""
        self._look()
        segments = [Segment(each.name, tuple(self._segment(each))) for each in self.role.segments]
        copies = [*self._casts(), *(i for segment in segments for i in _tail(segment))]
        segments = [replace(each, instructions=_head(each)) for each in segments]
        found = tuple(each for each in (Segment(COPIES, tuple(copies)), *segments) if each.instructions)
        entries = tuple(_scheduled(entry, [each.name for each in found]) for entry in self.role.entries)
        return replace(self.role, segments=found, entries=entries, buffers=tuple(self._buffers(found)))

    def _look(self) -> None:
        """Which weights have masters, and which storages are read: those of outputs are, behind the role."""
        self.read.update(map(self._root, self._outputs()))
        for segment in self.role.segments:
            for made in segment.instructions:
                self.read.update(map(self._root, reads(made)))
                if isinstance(made, Compute) and made.kernel[1] == "update":
                    for name in (each for each in made.inputs if each.endswith(MASTER)):
                        self.masters[made.inputs[0]] = name

    def _root(self, name: str) -> str:
        while (parent := self.role.buffer(name).view_of) is not None:
            name = parent
        return name

    def _narrow(self, names: Iterable[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for name in names if self.role.buffer(name).type.dtype in NARROW))

    # --- segments ------------------------------------------------------------------------------------------------

    def _segment(self, segment: Segment) -> Iterator[Instruction]:
        self.sums = {made.buffer for made in segment.instructions if isinstance(made, Collective) and _sums(made)}
        for instruction in segment.instructions:
            yield from self._instruction(instruction)
            for name in [each for each in self.pending if each not in self.sums]:
                yield from self._rounded(self._root(name))
        if segment.name.startswith("predict"):
            written = {self._root(name) for made in segment.instructions for name in writes(made)}
            yield from (self._output(name) for name in self._outputs() if self._root(name) in written)

    def _outputs(self) -> tuple[str, ...]:
        return self._narrow(buffer.name for buffer in self.role.buffers if buffer.name in self.outputs)

    def _output(self, name: str) -> Compute:
        target = f"{name}{OUTPUT}"
        self.made[target] = self._scratch(name, target)
        return _cast(name, (name,), (target,))

    def _instruction(self, instruction: Instruction) -> Iterator[Instruction]:
        match instruction:
            case Compute(kernel=(op, _, _)) if op not in ANY_TYPE:
                yield from self._compute(instruction)
            case Collective() if _sums(instruction) and self._narrow((instruction.buffer,)):
                yield from self._summed(instruction)
            case Load(buffers=buffers):
                narrow = self._narrow(buffers)
                yield replace(instruction, buffers=tuple(self._wide(b) if b in narrow else b for b in buffers))
                self.pending.update(dict.fromkeys(narrow))
            case _:
                for name in self._narrow(reads(instruction)):
                    yield from self._rounded(self._root(name))
                for name in self._narrow(writes(instruction)):
                    self.pending.pop(name, None)
                yield instruction

    def _compute(self, made: Compute) -> Iterator[Instruction]:
        """A kernel on scratch arrays: its narrow operands cast, its narrow results not yet rounded."""
        if not made.outputs or any(name.endswith(MASTER) for name in made.inputs):  # regularises, updates, norms
            made = replace(made, inputs=tuple(dict.fromkeys(self.masters.get(name, name) for name in made.inputs)))
        narrow, results = self._narrow(made.inputs), self._narrow(made.outputs)
        for name in narrow:
            yield from self._rounded(self._root(name))
        for name in self._narrow(made.workspaces):
            buffer = self.role.buffer(name)
            self.made[name] = replace(buffer, type=buffer.type.with_dtype(WIDE))
        if self.halves and takes_halves(made, self.role.buffer) and self.sums.isdisjoint(made.outputs):
            for name in results:
                self.pending.pop(name, None)
                yield from self._rounded(self._root(name))
            yield replace(made, attrs=(*made.attrs, (HALVES, True)))
            return
        if narrow:
            yield _cast(made.address, narrow, tuple(self._wide(name) for name in narrow))
        for name in results:
            others = [each for each in self.pending if each != name and self._root(each) == self._root(name)]
            for _ in others[:1]:
                yield from self._rounded(self._root(name))
        inputs = tuple(self._wide(name) if name in narrow else name for name in made.inputs)
        outputs = tuple(self._wide(name) if name in results else name for name in made.outputs)
        yield replace(made, inputs=inputs, outputs=outputs)
        self.pending.update(dict.fromkeys(results))

    def _summed(self, made: Collective) -> Iterator[Instruction]:
        """A sum over ranks, in f32."""
        if made.buffer not in self.pending:
            yield from self._rounded(self._root(made.buffer))
            yield _cast(made.name, (made.buffer,), (self._wide(made.buffer),))
        self.sums.discard(made.buffer)
        target = self._wide(made.target) if made.target else ""
        yield replace(made, buffer=self._wide(made.buffer), target=target, bytes=2 * made.bytes)
        if made.target:
            self.pending.pop(made.buffer, None)
        self.pending[made.target or made.buffer] = None

    def _rounded(self, root: str) -> Iterator[Compute]:
        """What a storage holds, rounded to it."""
        names = tuple(name for name in self.pending if self._root(name) == root)
        if names and root in self.read:
            yield _cast(names[0], tuple(self._wide(name) for name in names), names)
        for name in names:
            del self.pending[name]

    # --- buffers -------------------------------------------------------------------------------------------------

    def _wide(self, name: str) -> str:
        scratch = wide(name)
        if scratch not in self.made:
            self.made[scratch] = self._scratch(name, scratch)
        return scratch

    def _scratch(self, name: str, scratch: str) -> Buffer:
        buffer = self.role.buffer(name)
        return Buffer(scratch, buffer.type.with_dtype(WIDE), "activation", buffer.layout, placement=buffer.placement)

    def _buffers(self, segments: Iterable[Segment]) -> Iterator[Buffer]:
        """Those of the role that are still named, and scratch arrays."""
        used = {name for segment in segments for made in segment.instructions for name in touched(made)}
        for buffer in reversed(self.role.buffers):  # views come behind what they are views of
            if buffer.name in used and buffer.view_of is not None:
                used.add(buffer.view_of)
        whole = {buffer.name for buffer in self.role.buffers if buffer.kind == "bucket" and buffer.name in used}
        used.update(buffer.name for buffer in self.role.buffers if buffer.view_of in whole)  # they are sent together
        for buffer in self.role.buffers:
            if buffer.name in used or buffer.kind not in PASSING or buffer.type.dtype not in NARROW:
                yield self.made.pop(buffer.name, buffer)
        yield from self.made.values()

    def _casts(self) -> Iterator[Instruction]:
        """Weights made of their masters."""
        for weight, master in self.masters.items():
            yield Compute(f"{weight}@cast", ("cast", "update", ""), (master, weight), ())


def _cast(address: str, sources: tuple[str, ...], targets: tuple[str, ...]) -> Compute:
    """A cast that belongs to the op, or to what is made of the op, at this address."""
    return Compute(address, ("cast", "forward", ""), sources, targets)


def _sums(made: Collective) -> bool:
    return made.kind in ("allreduce", "reduce_scatter") or (made.kind == "halo" and bool(dict(made.attrs)["add"]))


def _split(segment: Segment) -> int:
    """Where in an update it ends, and new weights are given to other ranks."""
    if segment.name != "update":
        return len(segment.instructions)
    gives = (at for at, made in enumerate(segment.instructions) if _gives(made))
    return next(gives, len(segment.instructions))


def _gives(made: Instruction) -> bool:
    return isinstance(made, Send | Receive) or (isinstance(made, Collective) and made.kind == "allgather")


def _head(segment: Segment) -> tuple[Instruction, ...]:
    return segment.instructions[: _split(segment)]


def _tail(segment: Segment) -> tuple[Instruction, ...]:
    return segment.instructions[_split(segment) :]


def _scheduled(entry: Entry, names: Collection[str]) -> Entry:
    """A step begins with the copies of weights."""
    rows = tuple(row for row in entry.schedule if row.segment in names)
    first = (Row(COPIES),) if entry.name == TRAIN_STEP and COPIES in names else ()
    return replace(entry, schedule=(*first, *rows))
