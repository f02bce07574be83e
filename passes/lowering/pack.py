"""Weights that several calls of a step read are packed once: in segments that each entry point runs first.

What is packed lives as long as an entry point. So nothing has to be known of what came before: whoever has changed a
weight between two entries, it is packed anew. Weights that are gathered within a microbatch are packed in each call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import inf

from dlc.cost.packing import gain
from dlc.ir.program import TRAIN_STEP, Buffer, Compute, Entry, Instruction, Program, Role, Row, Segment
from dlc.ir.storage import Storage, writes
from dlc.ir.tensor import DTYPE_BYTES, tensor
from dlc.ops.fusion import UPDATES, main_of
from dlc.ops.packing import OPERANDS, Order, operands, order_for
from passes.context import Context, Pack

SEGMENTS = {"forward": "pack", "dx": "pack_dx"}
"""Pass that reads what is packed -> the segment that packs it: inference needs no weights of gradients."""

FIRST = "begin"
"""The segment of a step that comes before: it gathers weights for all microbatches."""

PACKED = ".packed"
"""How the names of buffers end that hold what is packed."""

Gain = Callable[[tuple[str, str, str], int, int, int], float]
"""(kernel that packs, bytes of weights and of what is packed, how often a step reads it) -> seconds that it saves."""

Gains = Callable[[Role], Gain]
"""What packing saves on the devices of a role."""


def packed_program(program: Program, threads: int, pack: Pack, gains: Gains, most: float = inf) -> Program:
    """The program with all weights packed once that more than one call of a step reads, where that gains; of at most so
    many bytes on a rank those that gain most for theirs. The program itself where there is nothing to pack."""
    roles = tuple(_Packing(role, program.dtype, threads, pack, gains(role), most).packed() for role in program.roles)
    return program if roles == program.roles else replace(program, roles=roles)


def gains_of(context: Context) -> Gains:
    """What packing saves on the slowest device of each role; all that can be packed where the plan asks for it."""

    def of_role(role: Role) -> Gain:
        device = context.cluster.slowest(role.ranks)

        def found(kernel: tuple[str, str, str], weights: int, packed: int, reads: int) -> float:
            return gain(kernel, weights, packed, reads, context.compute, device, context.profile)

        return found

    return (lambda _: lambda *_: 1.0) if context.request.pack == "yes" else of_role


@dataclass(slots=True)
class _Packing:
    """One role. `late` has by entry what its microbatches fill, `wanted` what is packed: by name of the buffer the
    operands, the order, and the call."""

    role: Role
    dtype: str
    threads: int
    pack: Pack
    gain: Gain
    most: float
    storage: Storage = field(init=False)
    late: dict[str, frozenset[str]] = field(default_factory=dict)
    wanted: dict[str, tuple[tuple[str, ...], Order, Compute]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.storage = Storage(self.role, self.role.largest_shard)
        for entry in self.role.entries:
            reading = [at for at, row in enumerate(entry.schedule) if self._reads(row.segment)]
            until = entry.schedule[: reading[-1] + 1] if reading else ()  # behind that updates gather what they changed
            names = dict.fromkeys(row.segment for row in until if row.segment != FIRST)
            self.late[entry.name] = frozenset(self._filled(names))

    def packed(self) -> Role:
        """The role with what is packed."""
        runs = self.role.runs(TRAIN_STEP)
        reads = Counter[str]()
        for segment in self.role.segments:
            for made in segment.instructions if runs[segment.name] else ():
                if isinstance(made, Compute) and self._able(made, TRAIN_STEP):
                    reads[_name(made)] += runs[segment.name]
                    self.wanted.setdefault(_name(made), self._facts(made))
        self.wanted = {name: facts for name, facts in self.wanted.items() if reads[name] > 1}
        for name, (*_, made) in [*self.wanted.items()]:
            size = self.pack(made, self.role, self.dtype, self.threads)
            if size is None or self._gain(made, size, reads[name]) <= 0:
                del self.wanted[name]
            else:
                self.sizes[name] = size
        self._choose(reads)
        if not self.wanted:
            return self.role
        buffers = (Buffer(name, tensor(self.dtype, element=size), "packed") for name, size in self.sizes.items())
        segments = tuple(replace(each, instructions=tuple(self._changed(each))) for each in self.role.segments)
        packing = tuple(self._packing(reads))
        return replace(
            self.role,
            buffers=(*self.role.buffers, *buffers),
            segments=_behind(segments, packing),
            entries=tuple(self._entry(entry, segments, packing) for entry in self.role.entries),
        )

    def against(self, made: Compute, reads: int) -> str:
        """Why a call's weights are not packed once; "" where they could be."""
        if not self._able(made, TRAIN_STEP):
            return "gathered in each microbatch"
        size = self.pack(made, self.role, self.dtype, self.threads)
        if size is None:
            return "read as they lie"
        return "" if self._gain(made, size, reads) > 0 else "packing takes longer"

    def _gain(self, made: Compute, size: int, reads: int) -> float:
        """Seconds of a step that packing for a call saves, to so many elements."""
        weights = sum(self.storage.bytes(self.role.buffer(each)) for each in operands(made))
        kernel, *_ = order_for(made, self.role.buffer)
        return self.gain(kernel, weights, DTYPE_BYTES[self.dtype] * size, reads)

    def _choose(self, reads: Mapping[str, int]) -> None:
        """As many as there is room for, those first that gain most for their bytes."""
        left = self.most

        def worth(name: str) -> float:
            return -self._gain(self.wanted[name][2], self.sizes[name], reads[name]) / self.sizes[name]

        for name in sorted(self.wanted, key=worth) if left < inf else ():
            size = DTYPE_BYTES[self.dtype] * self.sizes[name]
            if size > left:
                del self.wanted[name], self.sizes[name]
            else:
                left -= size

    def _reads(self, segment: str) -> bool:
        """Whether a segment has calls that may read what is packed."""
        made = self.role.segment(segment).instructions
        return any(isinstance(each, Compute) and each.kernel[:2] in OPERANDS for each in made)

    def _filled(self, names: Iterable[str]) -> Iterator[str]:
        made = (each for name in names for each in self.role.segment(name).instructions)
        return (self.storage.content(name) for each in made for name in writes(each))

    def _able(self, made: Compute, entry: str) -> bool:
        """Whether a call's weights are there before the first microbatch of an entry."""
        contents = map(self.storage.content, operands(made))
        return made.kernel[:2] in OPERANDS and not made.members and self.late[entry].isdisjoint(contents)

    def _facts(self, made: Compute) -> tuple[tuple[str, ...], Order, Compute]:
        return operands(made), order_for(made, self.role.buffer), made

    def _changed(self, segment: Segment) -> Iterator[Instruction]:
        """The instructions of a segment, of which calls read what is packed."""
        entries = [entry.name for entry in self.role.entries if any(r.segment == segment.name for r in entry.schedule)]
        for made in segment.instructions:
            known = self.wanted.get(_name(made)) if isinstance(made, Compute) else None
            if isinstance(made, Compute) and known is not None and all(self._able(made, entry) for entry in entries):
                made = replace(made, packs=(_name(made),)) if self._facts(made)[:2] == known[:2] else made
            yield made

    def _packing(self, reads: Counter[str]) -> Iterator[Segment]:
        """The segments that pack."""
        for stage, title in SEGMENTS.items():
            made = tuple(
                Compute(call.address, order[0], names, (name,), (), order[1], layout=order[2],
                        reason=f"read {reads[name]} times")
                for name, (names, order, call) in self.wanted.items()
                if call.kernel[1] == stage
            )  # fmt: skip
            if made:
                yield Segment(title, made)

    def _entry(self, entry: Entry, segments: tuple[Segment, ...], packing: tuple[Segment, ...]) -> Entry:
        """An entry that packs first what it reads."""
        rows = {row.segment for row in entry.schedule}
        read = {
            name
            for segment in segments
            if segment.name in rows
            for made in segment.instructions
            if isinstance(made, Compute)
            for name in made.packs
        }
        first = [
            Row(each.name)
            for each in packing
            if not read.isdisjoint(name for made in each.instructions for name in writes(made))
        ]
        at = int(any(row.segment == FIRST for row in entry.schedule[:1]))
        return replace(entry, schedule=(*entry.schedule[:at], *first, *entry.schedule[at:]))


def _name(made: Compute) -> str:
    return f"{made.address}{PACKED}"


def _behind(segments: tuple[Segment, ...], packing: tuple[Segment, ...]) -> tuple[Segment, ...]:
    """Segments in the order in which they run first."""
    at = int(bool(segments) and segments[0].name == FIRST)
    return (*segments[:at], *packing, *segments[at:])


def apart(program: Program, threads: int, pack: Pack, gains: Gains) -> Iterator[tuple[Role, Compute, int, str]]:
    """The calls of a step that pack weights which are the same in the next one: the role, the call, how often a step
    makes it, and why they are not packed once; "" where nothing but the plan or the memory is against it."""
    for role in program.roles:
        found = _Packing(role, program.dtype, threads, pack, gains(role), inf)
        runs = role.runs(TRAIN_STEP)
        for segment in role.segments:
            for made in segment.instructions if runs[segment.name] > 1 else ():
                call = main_of(made) if isinstance(made, Compute) and made.kernel[1] != UPDATES else None
                if call is not None and call.kernel[:2] in OPERANDS and not call.packs:
                    yield role, call, runs[segment.name], found.against(call, runs[segment.name])
