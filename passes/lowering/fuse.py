"""Calls that are one: of kernels one behind the other, whose values in between nothing else reads.

The chains are those of `dlc.ops.fusion`. A call stands where its last member stood; what reads another result of a
member and stood between them comes behind it. Messages keep their places in the order.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from dlc.ir.program import Buffer, Collective, Compute, Instruction, Program, Role, Segment
from dlc.ir.storage import reads, touched, writes
from dlc.ops.fusion import BEGINNINGS, FUSIONS, fused, fused_in_c, updated_alike, updates_alone

BACKWARD = ("backward", "weights")
"""How the segments begin that read what the forward pass keeps."""


Missed = tuple[Role, Segment, tuple[Compute, ...], str]
"""Calls that a kernel could do in one, where they are, and why they are not one."""


UNASKED = "the plan does not ask for it"
"""What stands against a chain that could be one call."""


def fused_program(program: Program, in_c: bool = False) -> Program:
    """The program with all chains as calls of fused kernels, where nothing stands against it; with those `in_c`."""
    return replace(program, roles=tuple(_Fusing(role, _results(program), in_c).fused() for role in program.roles))


def missed(program: Program, in_c: bool = False) -> Iterator[Missed]:
    """What a program leaves apart, role by role."""
    for role in program.roles:
        yield from _Fusing(role, _results(program), in_c).missed()


def _results(program: Program) -> frozenset[str]:
    """What is read when an entry is over."""
    loss = (program.loss,) if program.loss else ()
    return frozenset((*(name for _, name in (*program.outputs, *program.metrics)), *loss))


@dataclass(slots=True)
class _Line:
    """The instructions of a segment, and where each buffer is read; places may become empty."""

    instructions: list[Instruction | None]
    readers: dict[str, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for at, made in enumerate(self.instructions):
            for name in () if made is None else reads(made):
                self.readers.setdefault(name, []).append(at)

    def put(self, first: int, last: int, instead: Sequence[Instruction]) -> None:
        """Others in place of the instructions from the first to the last, not more of them."""
        for at in range(first, last + 1):
            before = self.instructions[at]
            for name in () if before is None else reads(before):
                self.readers[name].remove(at)
        self.instructions[first : last + 1] = [*instead, *[None] * (last + 1 - first - len(instead))]
        for at, made in enumerate(instead, first):
            for name in reads(made):
                insort(self.readers.setdefault(name, []), at)

    def calls(self, chain: Sequence[int]) -> tuple[Compute, ...]:
        """The calls at these places."""
        found = (self.instructions[at] for at in chain)
        return tuple(made for made in found if isinstance(made, Compute))

    def chain(self, first: int, in_c: bool) -> tuple[int, ...]:
        """The longest chain that there is a kernel for, from a call on; () where there is none."""
        made = self.instructions[first]
        if not isinstance(made, Compute) or (_key(made),) not in BEGINNINGS:
            return ()
        found, keys, longest = [first], [_key(made)], 0
        while (following := self._following(found[-1], keys)) is not None:
            at, key = following
            found.append(at)
            keys.append(key)
            fusion = FUSIONS.get(tuple(keys))
            longest = len(found) if fusion is not None and (fusion.in_c or not in_c) else longest
        return tuple(found[:longest])

    def _following(self, last: int, keys: Sequence[tuple[str, str]]) -> tuple[int, tuple[str, str]] | None:
        """Where the next call of a chain is, and what it computes."""
        made = self.instructions[last]
        for at in () if made is None else self.readers.get(writes(made)[0], ()):
            made = self.instructions[at]
            if at > last and isinstance(made, Compute) and (*keys, _key(made)) in BEGINNINGS:
                return at, _key(made)
        return None


def _with_updates(instructions: Iterable[Instruction]) -> Iterator[Instruction]:
    """The instructions, of which updates by one rule that follow each other are one call.

    No two weights share memory, nor do their gradients and states: the order of their updates does not matter.
    """
    alike: list[Compute] = []
    for made in instructions:
        joins = isinstance(made, Compute) and updates_alone(made)
        if alike and not (joins and isinstance(made, Compute) and updated_alike(alike[0], made)):
            yield _together(alike)
            alike = []
        if joins and isinstance(made, Compute):
            alike.append(made)
        else:
            yield made
    if alike:
        yield _together(alike)


def _together(updates: Sequence[Compute]) -> Compute:
    call = fused(updates, _no_buffer) if len(updates) > 1 else None
    return updates[0] if call is None else call


def _no_buffer(name: str) -> Buffer:
    """The rule of updates asks for none."""
    raise KeyError(name)


def _key(made: Compute) -> tuple[str, str]:
    return made.kernel[:2]


def _said(made: Instruction) -> str:
    """`bn dx`, `allreduce`, `send`."""
    if isinstance(made, Compute):
        return " ".join(dict.fromkeys(made.kernel[:2]))
    return made.kind if isinstance(made, Collective) else type(made).__name__.lower()


@dataclass(slots=True)
class _Fusing:
    """One role. `kept` has the segment that reads of a buffer what another one has left there, `roots` the storage of
    each view."""

    role: Role
    results: frozenset[str]
    in_c: bool
    kept: dict[str, str] = field(default_factory=dict)
    viewed: set[str] = field(default_factory=set)
    roots: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.viewed.update(buffer.view_of for buffer in self.role.buffers if buffer.view_of is not None)
        for segment in self.role.segments:
            written = set[str]()
            for made in segment.instructions:
                self.kept.update((name, segment.name) for name in reads(made) if name not in written)
                written.update(writes(made))

    def fused(self) -> Role:
        """The role with fused calls."""
        return replace(self.role, segments=tuple(map(self._segment, self.role.segments)))

    def missed(self) -> Iterator[Missed]:
        """The chains of its segments that are not one call."""
        for segment in self.role.segments:
            for call in _with_updates(segment.instructions):
                if isinstance(call, Compute) and call.members and call not in segment.instructions:
                    yield self.role, segment, call.members, UNASKED
            line = _Line([*segment.instructions])
            for at in range(len(segment.instructions)):
                chain = line.chain(at, self.in_c)
                if chain:
                    made = self._together(line, chain)
                    yield self.role, segment, line.calls(chain), made if isinstance(made, str) else UNASKED

    def _segment(self, segment: Segment) -> Segment:
        at, line = 0, _Line([*_with_updates(segment.instructions)])
        while at < len(line.instructions):
            chain = line.chain(at, self.in_c)
            made = self._together(line, chain) if chain else ""
            if isinstance(made, str):
                at += 1
            else:
                line.put(at, chain[-1], made)
        return replace(segment, instructions=tuple(made for made in line.instructions if made is not None))

    def _together(self, line: _Line, chain: Sequence[int]) -> tuple[Instruction, ...] | str:
        """The instructions from the first of a chain to its last, with one call for it; else what stands against it."""
        members, kept = line.calls(chain), False
        for one, other in pairwise(members):
            fault = self._not_alone(line, one.outputs[0], other)
            kept = bool(fault)
            if fault and not FUSIONS[tuple(map(_key, members))].kept:
                return fault
        call = fused(members, self.role.buffer, kept)
        if call is None or (self.in_c and not fused_in_c(call)):
            return "there is no kernel for these operands"
        before: list[Instruction] = []
        behind: list[Instruction] = []
        for at, made in enumerate(line.instructions[chain[0] : chain[-1] + 1], chain[0]):
            if made is None:
                continue
            member = at in chain
            others = behind if member else [*members[: sum(each < at for each in chain)], *behind]
            if not any(self._meet(made, other) for other in others):
                before += [] if member else [made]
            elif member or not isinstance(made, Compute):
                return f"{_said(behind[0] if member else made)} stands between"
            else:
                behind.append(made)
        return (*before, call, *behind)

    def _not_alone(self, line: _Line, name: str, reader: Compute) -> str:
        """Who needs a value besides its reader in the chain; "" where that is all."""
        readers = (line.instructions[at] for at in line.readers[name])
        other = next((made for made in readers if made is not None and made is not reader), None)
        if other is not None:
            return f"also read by {_said(other)}"
        if name in self.results:
            return "a result"
        if name in self.kept:
            return "kept for the backward pass" if self.kept[name].startswith(BACKWARD) else "read later"
        return "read under other axes" if name in self.viewed or self._parent(name) else ""

    def _meet(self, one: Instruction, other: Instruction) -> bool:
        """Whether the order of two instructions matters: one of them changes what the other touches."""
        changed = [self._storages(writes(each) or touched(each)) for each in (one, other)]
        named = [self._storages(touched(each)) for each in (one, other)]
        return not changed[0].isdisjoint(named[1]) or not changed[1].isdisjoint(named[0])

    def _storages(self, names: Iterable[str]) -> set[str]:
        return {self._root(name) for name in names}

    def _root(self, name: str) -> str:
        if name not in self.roots:
            parent = self._parent(name)
            self.roots[name] = name if parent is None else self._root(parent)
        return self.roots[name]

    def _parent(self, name: str) -> str | None:
        """What a buffer is a view of, but for the memory that unrelated ones share."""
        parent = self.role.buffer(name).view_of
        return None if parent is None or self.role.buffer(parent).kind == "workspace" else parent
