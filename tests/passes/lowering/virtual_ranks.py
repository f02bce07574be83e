"""Runs a Program on virtual ranks in one process: every instruction on every rank, on arrays that overlap as it says.

What a rank holds of a buffer follows from the buffer's placement; a collective hands every rank what its target says,
out of what the ranks of its group hold, and fails where they do not hold it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.numpy_mpi.kernels import EXACT, KERNELS
from backends.numpy_mpi.kernels.layout import logical, physical
from backends.numpy_mpi.kernels.parts import in_parts
from dlc.ir.mesh import PARTIAL, Mesh, shards
from dlc.ir.program import Buffer, Collective, Compute, Copy, Load, Program, Receive, Role, Row, Send, Wait
from dlc.ir.storage import Storage, of_microbatch
from dlc.ir.tensor import BATCH, DTYPE_BYTES
from dlc.ops.fusion import UPDATES, main_of
from dlc.ops.indexing import Halo
from passes.layouts import is_image
from tests.kernels.calling import kernel

Array = NDArray[Any]
Box = tuple[tuple[int, int], ...]
"""(start, stop) along each axis."""

DTYPES = {"f64": np.float64, "f32": np.float32, "f16": np.float16}
DTYPES |= {"i32": np.int32, "i64": np.int64, "u8": np.uint8, "bool": np.bool_}
JUNK = 7.25
OWN = ("once", "averaged", "parts", "rows", "border")
"""Attributes that say how a part is computed; no kernel takes them."""


def box(buffer: Buffer, mesh: Mesh, rank: int, microbatches: int) -> Box:
    """Which part of a microbatch's value a rank holds."""
    found = []
    for axis in of_microbatch(buffer.type, microbatches).axes:
        extent, count, index = axis.extent, 1, 0
        for name, at in zip(mesh.names, buffer.placement or ("",) * len(mesh.names), strict=True):
            if at == axis.name:
                count, index = count * mesh.extent(name), index * mesh.extent(name) + mesh.coordinate(rank, name)
        found.append(shards(extent, count)[index])
    return tuple(found)


@dataclass
class Memory:
    """The arrays of one rank."""

    role: Role
    rank: int
    mesh: Mesh
    microbatches: int
    arrays: dict[tuple[str, int], Array] = field(default_factory=dict)
    raw: dict[tuple[str, int], Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.storage = Storage(self.role, self.role.largest_shard)

        self.halos: dict[str, tuple[str, dict[str, Any]]] = {}  # wide buffer -> the narrow one, and what it reads
        for segment in self.role.segments:
            for made in segment.instructions:
                if isinstance(made, Collective) and made.kind == "halo":
                    facts = dict(made.attrs)
                    wide, narrow = (made.buffer, made.target) if facts["add"] else (made.target, made.buffer)
                    self.halos[wide] = (narrow, facts)

    def box(self, name: str) -> Box:
        """Which part of a microbatch's value the rank holds in a buffer; rows of halos are those of neighbours."""
        if name not in self.halos:
            return box(self.role.buffer(name), self.mesh, self.rank, self.microbatches)
        narrow, facts = self.halos[name]
        held, buffer = list(self.box(narrow)), self.role.buffer(narrow)
        at = buffer.type.names.index(facts["axis"])
        held[at] = self.reads(narrow, facts)
        return tuple(held)

    def reads(self, narrow: str, facts: Mapping[str, Any]) -> tuple[int, int]:
        """The rows of an axis that the rank's windows read, clipped to the axis."""
        buffer = self.role.buffer(narrow)
        count, index = 1, 0
        for name, at in zip(self.mesh.names, buffer.placement, strict=True):
            if at == facts["axis"]:
                count, index = (
                    count * self.mesh.extent(name),
                    index * self.mesh.extent(name) + self.mesh.coordinate(self.rank, name),
                )
        assert count == facts["parts"]
        halo = Halo(facts["before"], facts["after"], facts["stride"], facts["step"])
        first, last = halo.reads(*shards(facts["results"], count)[index])
        return max(0, first), min(last, buffer.type.extent(facts["axis"]))

    def array(self, name: str, slot: int) -> Array:
        """A buffer's array, in the order in memory."""
        place = self.storage.places[name]
        slot = slot if self.storage.by_slot(place.storage) else 0
        if (name, slot) not in self.arrays:
            self.arrays[name, slot] = self._array(self.role.buffer(name), slot)
        return self.arrays[name, slot]

    def logical(self, name: str, slot: int) -> Array:
        """The same with the axes in logical order."""
        buffer, found = self.role.buffer(name), self.array(name, slot)
        return logical(found, buffer.layout) if buffer.layout and is_image(buffer.type) else found

    def _array(self, buffer: Buffer, slot: int) -> Array:
        held = self.box(buffer.name)
        if self._is_shard(buffer):
            assert buffer.view_of is not None
            around = self.box(buffer.view_of)
            at = tuple(slice(a - o, b - o) for (a, b), (o, _) in zip(held, around, strict=True))
            part = self.logical(buffer.view_of, slot)[at]
            return physical(part, buffer.layout) if buffer.layout and is_image(buffer.type) else part
        shape = tuple(stop - start for start, stop in held)
        if buffer.layout and is_image(buffer.type):
            shape = tuple(shape["NCHW".index(letter)] for letter in buffer.layout)
        place = self.storage.places[buffer.name]
        raw = self._raw(place.storage, slot)
        size = int(np.prod(shape)) * DTYPE_BYTES[buffer.type.dtype]
        assert place.start + size <= raw.size, f"{buffer.name} does not fit its storage"
        return raw[place.start : place.start + size].view(DTYPES[buffer.type.dtype]).reshape(shape)

    def _is_shard(self, buffer: Buffer) -> bool:
        parent = self.role.buffer(buffer.view_of) if buffer.view_of else None
        return parent is not None and parent.type == buffer.type and parent.placement != buffer.placement

    def _raw(self, name: str, slot: int) -> Array:
        if (name, slot) not in self.raw:
            buffer = self.role.buffer(name)
            raw = np.zeros(self.storage.bytes(buffer), np.uint8)
            if buffer.type.dtype in ("f16", "f32", "f64"):
                raw.view(DTYPES[buffer.type.dtype]).fill(JUNK)
            self.raw[name, slot] = raw
        return self.raw[name, slot]


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
            return whole[_slices(held)]
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
                    memory.logical(name, row.slot)[...] = held[_slices(memory.box(name))]
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


def equal(a: Array, b: Array) -> bool:
    """Whether two arrays have the same elements; what is no number equals itself."""
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def _slices(held: Box) -> tuple[slice, ...]:
    return tuple(slice(start, stop) for start, stop in held)


@dataclass
class Call:
    """One kernel on one rank, called as an emitted program does."""

    world: World
    memory: Memory
    row: Row
    made: Compute

    def run(self) -> None:
        """What works in place has the buffers themselves; else results are copied to theirs, and inputs stay."""
        if self.made.kernel[1] == UPDATES:
            self._update_all()
            return
        made, attrs = self.made, dict[str, Any](self.made.attrs)
        inputs, outputs = (
            [self.memory.array(n, self.row.slot) for n in names] for names in (made.inputs, made.outputs)
        )
        if not outputs or set(made.outputs) & set(made.inputs):
            self._call(inputs, outputs, attrs)
            return
        given = [array.copy() for array in inputs]
        if not self._first(attrs.get("once", ())):
            given[-1].fill(0)
        before, results = [array.copy() for array in given], [np.full_like(array, JUNK) for array in outputs]
        if made.rows:
            results = [array.copy() for array in outputs]
            self._call_by_rows(given, results, attrs)
        else:
            self._call(given, results, attrs)
        assert all(map(equal, before, given)), f"{made.address} writes what it reads"
        averaged = 1 if self.world.exact else attrs.get("averaged", 1)
        for array in results[:1] if made.kernel[1] == "forward" else results:
            if averaged > 1:
                array /= averaged
        for array, result in zip(outputs, results, strict=True):
            array[...] = result

    def _update_all(self) -> None:
        """Many updates as one call, with a row of arrays for each."""
        made, memory = self.made, self.memory
        rows = [[memory.array(name, self.row.slot) for name in each.inputs] for each in made.members]
        kernel(*made.kernel)(*rows, **dict(made.attrs), **self._runtime(dict(made.attrs)))

    def _call_by_rows(self, inputs: list[Array], outputs: list[Array], attrs: Mapping[str, Any]) -> None:
        """The runs of those result rows whose windows read the rank's own rows alone, or of the others."""
        memory, (which, axis) = self.memory, attrs["rows"]
        narrow, facts = memory.halos[self.made.inputs[0]]
        assert facts["axis"] == axis
        at = memory.role.buffer(narrow).type.names.index(axis)
        (first, last), extent = memory.box(narrow)[at], memory.role.buffer(narrow).type.extent(axis)
        start, stop = memory.box(self.made.outputs[0])[at]
        halo = Halo(facts["before"], facts["after"], facts["stride"], facts["step"])

        def inside(row: int) -> bool:
            low, high = halo.reads(row, row + 1)
            return first <= max(0, low) and min(high, extent) <= last

        rows = [row for row in range(start, stop) if inside(row) == (which == "inner")]
        runs = [run for run in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1) if len(run)]
        place = (self.made.layout or "NCHW").index("NCHW"[at]) if inputs[0].ndim == 4 else at
        begin = memory.box(self.made.inputs[0])[at][0]
        for run in runs:
            low, high = halo.reads(int(run[0]), int(run[-1]) + 1)
            read = slice(max(0, low) - begin, max(0, min(high, extent)) - begin)
            along, written = (slice(None),) * place, slice(run[0] - start, run[-1] + 1 - start)
            results = [np.full_like(array[(*along, written)], JUNK, order="C") for array in outputs]
            pads = list(self._pads(attrs)) if "pad" in attrs else []
            if pads:
                before, after = attrs["pad"][at - 2]
                pads[at - 2] = (min(before, max(0, -low)), min(after, max(0, high - extent)))
            x = np.ascontiguousarray(inputs[0][(*along, read)])
            self._call([x, *inputs[1:]], results, attrs, {"pad": tuple(pads)} if pads else {})
            for array, result in zip(outputs, results, strict=True):
                array[(*along, written)] = result

    def _call(
        self, inputs: list[Array], outputs: list[Array], attrs: Mapping[str, Any], told: Mapping[str, Any] | None = None
    ) -> None:
        made = self.made
        keywords = {name: value for name, value in attrs.items() if name not in OWN} | self._runtime(attrs)
        keywords |= told or {}
        if made.layout:
            keywords["layout"] = made.layout
        padded = "pad" not in keywords or any(map(any, keywords["pad"]))  # a part without pads needs no room for them
        padded = padded or made.kernel[2] not in ("im2col", "direct")  # whose kernels take none
        names = [name for name in made.workspaces if padded or not name.endswith(".padded")]
        spaces = [np.full(self.memory.role.buffer(name).type.shape, JUNK) for name in names]
        function = kernel(*made.kernel, table=EXACT if self.world.exact else KERNELS)
        if attrs.get("parts", 1) > 1 and made.workspaces:
            types = [self.memory.role.buffer(name).type for name in (*made.inputs, *made.outputs)]
            keywords["samples"] = [at for at, type_ in enumerate(types) if type_.batched]
            in_parts(function, attrs["parts"], len(inputs), [*inputs, *outputs], *spaces, **keywords)
        else:
            function(*inputs, *outputs, *spaces, **keywords)

    def _first(self, axes: Sequence[str]) -> bool:
        """Whether the rank is the first one along these mesh axes."""
        return all(self.memory.mesh.coordinate(self.memory.rank, axis) == 0 for axis in axes)

    def _runtime(self, attrs: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        batch = self.world.program.batch
        for name in self.made.runtime:
            match name:
                case "count":
                    found[name] = batch
                case "position":
                    found[name] = self._position()
                case "step":
                    found[name] = 1
                case "lr":
                    found[name] = self.world.rate
                case "origin":
                    found[name] = tuple(map(self._origin, (*self.made.inputs, *self.made.outputs)))
                case "pads":
                    found["pad"] = self._pads(attrs)
                case _:
                    raise AssertionError(f"{self.made.address} wants {name}")
        if main_of(self.made).kernel[0] == "bn" and "position" in self.made.runtime:
            x = self.memory.role.buffer(self.made.inputs[0]).type
            found |= {"first": self.row.microbatch * (batch // self.memory.microbatches)}
            found |= {"pixels": int(np.prod(x.shape[2:]))}
        return found

    def _origin(self, name: str) -> tuple[tuple[int, int], ...]:
        """(start, whole extent) of each axis of a buffer; samples are counted by themselves."""
        type_, held = self.memory.role.buffer(name).type, self.memory.box(name)
        pairs = zip(type_.axes, held, strict=True)
        return tuple((0, b - a) if axis.name == BATCH else (a, axis.extent) for axis, (a, b) in pairs)

    def _position(self) -> int:
        """The number in the batch of the first sample at hand."""
        for name in (*self.made.inputs, *self.made.outputs):
            buffer = self.memory.role.buffer(name)
            if buffer.type.batched:
                size = buffer.type.extent("batch") // self.memory.microbatches
                at = buffer.type.names.index("batch")
                return self.row.microbatch * size + self.memory.box(name)[at][0]
        raise AssertionError(f"{self.made.address} has no batch")

    def _pads(self, attrs: Mapping[str, Any]) -> tuple[tuple[int, int], ...]:
        """The pads of a part: those of the whole at the outer borders."""
        images = [n for n in (*self.made.inputs, *self.made.outputs) if len(self.memory.role.buffer(n).type.axes) == 4]
        pads = list(attrs["pad"])
        for name in images:
            at = name
            while at in self.memory.halos:
                narrow, facts = self.memory.halos[at]
                buffer = self.memory.role.buffer(narrow)
                index = buffer.type.names.index(facts["axis"]) - 2
                first, last = self.unclipped(narrow, facts)
                extent = buffer.type.extent(facts["axis"])
                before, after = attrs["pad"][index]
                pads[index] = (min(before, max(0, -first)), min(after, max(0, last - extent)))
                at = narrow
        return tuple(pads)

    def unclipped(self, narrow: str, facts: Mapping[str, Any]) -> tuple[int, int]:
        mesh, rank, count, index = self.memory.mesh, self.memory.rank, 1, 0
        for name, at in zip(mesh.names, self.memory.role.buffer(narrow).placement, strict=True):
            if at == facts["axis"]:
                count, index = count * mesh.extent(name), index * mesh.extent(name) + mesh.coordinate(rank, name)
        halo = Halo(facts["before"], facts["after"], facts["stride"], facts["step"])
        return halo.reads(*shards(facts["results"], count)[index])
