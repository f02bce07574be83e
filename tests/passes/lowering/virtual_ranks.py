"""Runs a Program on virtual ranks in one process: every instruction on every rank, on arrays that overlap as it says.

What a rank holds of a buffer follows from the buffer's placement; a collective hands every rank what its target says,
out of what the ranks of its group hold, and fails where they do not hold it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from dlc.ir.mesh import PARTIAL, Mesh
from dlc.ir.program import Collective, Compute, Copy, Load, Program, Receive, Row, Send, Wait
from tests.passes.lowering.kernel_calls import Call
from tests.passes.lowering.rank_memory import JUNK, Array, Memory, slices


@dataclass
class Meeting:
    """A collective that ranks come to one by one."""

    arrived: dict[int, tuple[Collective, int]] = field(default_factory=dict)
    done: bool = False


@dataclass
class World:
    """All ranks of a program. `given` maps inputs, fields, weights, statistics and constants to whole arrays.

    With `exact` the integer stand-ins take the kernels' places.
    """

    program: Program
    given: Mapping[str, Array]
    stacked: Mapping[str, int] = field(default_factory=dict)
    rate: float = 0.1
    exact: bool = False
    meetings: dict[tuple[str, tuple[int, ...], int], Meeting] = field(default_factory=dict)
    mail: dict[tuple[str, int, int, str], list[Array]] = field(default_factory=lambda: defaultdict(list))
    memories: dict[int, Memory] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.groups = {group.name: group.members for group in self.program.groups}
        for role in self.program.roles:
            rows = [row for entry in role.entries for row in entry.schedule]
            count = 1 + max((row.microbatch for row in rows), default=0)
            for rank in role.ranks:
                mesh = role.mesh or Mesh((), rank)
                self.memories[rank] = memory = Memory(role, rank, mesh, count)
                self._fill(memory)

    def _fill(self, memory: Memory) -> None:
        for buffer in memory.role.buffers:
            if buffer.name in self.given and buffer.kind in ("weight", "statistic", "constant"):
                memory.logical(buffer.name, 0)[...] = self.part(self.given[buffer.name], memory, buffer.name)
            if buffer.kind == "state":
                weight, _, state = buffer.name.partition("@")
                master = state == "master" and weight in self.given
                memory.array(buffer.name, 0)[...] = self.part(self.given[weight], memory, buffer.name) if master else 0

    def part(self, whole: Array, memory: Memory, name: str) -> Array:
        """What a rank holds of a weight; of tensors stacked along its first axis its part of each."""
        held, count = memory.box(name), self.stacked.get(name, 1)
        start, stop = held[0] if held else (0, 0)
        if count == 1 or (start, stop) == (0, whole.shape[0]):
            return whole[slices(held)]
        blocks = np.split(whole, count)
        return np.concatenate([block[start // count : stop // count] for block in blocks])

    def run(self, entry: str) -> None:
        """Every rank to the end of an entry; AssertionError where nobody can go on."""
        ranks = {rank: self._steps(memory, entry) for rank, memory in self.memories.items()}
        waiting: dict[int, Callable[[], bool]] = {rank: lambda: True for rank in ranks}
        while ranks:
            moved = False
            for rank in list(ranks):
                while rank in ranks and waiting[rank]():
                    moved = True
                    found = next(ranks[rank], None)
                    if found is None:
                        del ranks[rank]
                    else:
                        waiting[rank] = found
            assert moved, f"ranks {sorted(ranks)} wait for ever"

    def _steps(self, memory: Memory, entry: str) -> Iterator[Callable[[], bool]]:
        """Run a rank; yields what it waits for."""
        begun: dict[str, list[Callable[[], bool]]] = defaultdict(list)
        joined: dict[tuple[str, tuple[int, ...]], int] = defaultdict(int)
        for row in next(e for e in memory.role.entries if e.name == entry).schedule:
            for instruction in memory.role.segment(row.segment).instructions:
                ready = self._step(memory, row, instruction, joined)
                if isinstance(instruction, Wait):
                    yield begun[instruction.name].pop(0)
                elif ready is not None and getattr(instruction, "blocking", True):
                    yield ready
                    if isinstance(instruction, Receive):
                        self._take(memory, row, instruction)
                elif ready is not None:
                    begun[instruction.name].append(ready)  # type: ignore[union-attr]
        assert not any(begun.values())

    def _step(
        self, memory: Memory, row: Row, instruction: object, joined: dict[tuple[str, tuple[int, ...]], int]
    ) -> Callable[[], bool] | None:
        match instruction:
            case Load(buffers=names):
                for name in names:
                    whole = self.given[memory.role.buffer(name).name.partition(".chunk")[0]]
                    size = whole.shape[0] // memory.microbatches
                    held = whole[row.microbatch * size : (row.microbatch + 1) * size]
                    memory.logical(name, row.slot)[...] = held[slices(memory.box(name))]
            case Compute():
                Call(self, memory, row, instruction).run()
            case Copy(source=source, target=target):
                self._copy(memory, row, source, target)
            case Collective(group=group):
                around = next(m for m in self.groups[group] if memory.rank in m)
                key = (group, around)
                meeting = self.meetings.setdefault((*key, joined[key]), Meeting())
                joined[key] += 1
                meeting.arrived[memory.rank] = (instruction, row.slot)
                if instruction.kind == "halo" and not instruction.blocking and not dict(instruction.attrs)["add"]:
                    self._keep_own(memory, row, instruction)
                if len(meeting.arrived) == len(around):
                    self._meet(meeting, around)
                return lambda: meeting.done
            case Send(group=group, peer=offset, buffer=buffer, name=name):
                to = self._peer(memory.rank, group, offset)
                self.mail[group, memory.rank, to, name].append(memory.logical(buffer, row.slot).copy())
                return lambda: True
            case Receive(group=group, peer=offset, name=name):
                box = (group, self._peer(memory.rank, group, offset), memory.rank, name)
                return lambda: bool(self.mail[box])
        return None

    def _peer(self, rank: int, group: str, offset: int) -> int:
        around = next(m for m in self.groups[group] if rank in m)
        at = around.index(rank) + offset
        assert 0 <= at < len(around)
        return around[at]

    def _take(self, memory: Memory, row: Row, receive: Receive) -> None:
        source = self._peer(memory.rank, receive.group, receive.peer)
        found = self.mail[receive.group, source, memory.rank, receive.name].pop(0)
        memory.logical(receive.buffer, row.slot)[...] = found

    def _copy(self, memory: Memory, row: Row, source: str, target: str) -> None:
        have, want = memory.box(source), memory.box(target)
        at = tuple(slice(a - o, b - o) for (a, b), (o, _) in zip(want, have, strict=True))
        memory.logical(target, row.slot)[...] = memory.logical(source, row.slot)[at]

    def _keep_own(self, memory: Memory, row: Row, halo: Collective) -> None:
        """A rank's own rows are there when a halo has begun; of the others' nobody knows."""
        have, want = memory.box(halo.buffer), memory.box(halo.target)
        target = memory.logical(halo.target, row.slot)
        target[...] = JUNK
        both = [(max(a, c), min(b, d)) for (a, b), (c, d) in zip(have, want, strict=True)]
        if all(start < stop for start, stop in both):
            here, there = ([slice(a - o, b - o) for (a, b), (o, _) in zip(both, held, strict=True)]
                           for held in (have, want))  # fmt: skip
            target[tuple(there)] = memory.logical(halo.buffer, row.slot)[tuple(here)]

    def _meet(self, meeting: Meeting, around: Sequence[int]) -> None:
        made = {rank: meeting.arrived[rank] for rank in around}
        (first, _) = made[around[0]]
        assert all((m.kind, m.buffer, m.target, m.bytes) == (first.kind, first.buffer, first.target, first.bytes)
                   for m, _ in made.values())  # fmt: skip
        if first.kind == "halo":
            self._halo(made, around)
        else:
            for source, target in self._pairs(around[0], first):
                self._exchange(first.kind, made, around, source, target)
        meeting.done = True

    def _pairs(self, rank: int, made: Collective) -> list[tuple[str, str]]:
        """(source, target) of a collective; those of the members of a bucket."""
        memory = self.memories[rank]
        members = memory.storage.members
        sources = self._members(memory, made.buffer)
        if made.target:
            return list(zip(sources, self._members(memory, made.target), strict=True))
        if made.kind == "allreduce":
            return [(name, name) for name in sources]
        shards_of = {name: next(v for v in members[name] if memory.role.buffer(v).type == memory.role.buffer(name).type)
                     for name in sources}  # fmt: skip
        return [(shards_of[n], n) if made.kind == "allgather" else (n, shards_of[n]) for n in sources]

    def _members(self, memory: Memory, name: str) -> list[str]:
        """The members of a bucket, by their place; a buffer that is none by itself."""
        buffer = memory.role.buffer(name)
        if buffer.placement or buffer.type.names != ("element",):
            return [name]
        return sorted(memory.storage.members[name], key=lambda v: memory.role.buffer(v).offset) or [name]

    def _exchange(
        self, kind: str, made: dict[int, tuple[Collective, int]], around: Sequence[int], source: str, target: str
    ) -> None:
        have = {rank: (self.memories[rank].box(source), self.memories[rank].logical(source, slot).copy())
                for rank, (_, slot) in made.items()}  # fmt: skip
        sums = kind in ("allreduce", "reduce_scatter")
        add = np.maximum if dict(made[around[0]][0].attrs).get("largest") else np.add
        if sums:
            self._check_parts(made, around[0], source)
        for rank, (_, slot) in made.items():
            memory = self.memories[rank]
            want = memory.box(target)
            shape = tuple(stop - start for start, stop in want)
            result, filled = np.zeros(shape, have[rank][1].dtype), np.zeros(shape, int)
            for held, array in have.values():
                inside = tuple((max(a, c), min(b, d)) for (a, b), (c, d) in zip(want, held, strict=True))
                if any(a >= b for a, b in inside):
                    continue
                here = tuple(slice(a - o, b - o) for (a, b), (o, _) in zip(inside, want, strict=True))
                there = tuple(slice(a - o, b - o) for (a, b), (o, _) in zip(inside, held, strict=True))
                result[here] = add(result[here], array[there]) if sums and filled[here].any() else array[there]
                filled[here] += 1
            assert (filled == len(around)).all() if sums else (filled > 0).all(), f"{source} to {target}"
            memory.logical(target, slot)[...] = result

    def _check_parts(self, made: dict[int, tuple[Collective, int]], rank: int, source: str) -> None:
        """Sums are over axes along which ranks hold parts of sums."""
        memory, (collective, _) = self.memories[rank], made[rank]
        buffer = memory.role.buffer(source)
        if buffer.placement and collective.group != "pipeline":
            at = dict(zip(memory.mesh.names, buffer.placement, strict=True))
            assert all(at[axis] == PARTIAL for axis in collective.group.split("+")), collective.name

    def _halo(self, made: dict[int, tuple[Collective, int]], around: Sequence[int]) -> None:
        """Rows of neighbours, or with `add` what was computed for them, added up at their owners."""
        first, _ = made[around[0]]
        facts = dict(first.attrs)
        at = self.memories[around[0]].role.buffer(first.buffer).type.names.index(facts["axis"])
        for rank in around:
            memory, slot = self.memories[rank], made[rank][1]
            target, (start, stop) = np.moveaxis(memory.logical(first.target, slot), at, 0), memory.box(first.target)[at]
            target[...] = 0
            filled = np.zeros(stop - start, int)
            for other in around:
                a, b = self.memories[other].box(first.buffer)[at]
                rows = np.moveaxis(self.memories[other].logical(first.buffer, made[other][1]), at, 0)
                low, high = max(a, start), min(b, stop)
                if low < high:
                    target[low - start : high - start] += rows[low - a : high - a]
                    filled[low - start : high - start] += 1
            assert (filled >= 1).all() if facts["add"] is False else True
