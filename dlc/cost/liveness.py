"""Which bytes are in use at each point of an entry point: a lower bound on what a memory plan can reach.

Weights, statistics, states and constants live throughout. Everything else lives from its first use to its last, each
microbatch's copy by itself; what a non-blocking instruction holds is in use up to its Wait; a workspace lives while its
kernel runs. Where a result takes the place of an operand, that ends one instruction sooner. What lies in an arena
counts by itself, and, where no segment leaves it to another, within each alone.
Emitted programs allocate every storage once, so that they take `Storage.allocated`, whatever is live.

Time and space grow with rows of the schedule plus instructions of segments, not with their product: microbatches that
use the same segments in the same order come and go alike, so a row is a table that many share, on top of what was live
when it began.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from dlc.ir.passing import passing
from dlc.ir.program import BufferKind, Role, Row, Segment, Wait
from dlc.ir.ranks import schedule
from dlc.ir.storage import KEPT, Storage, begins, title, touched

Bytes = NDArray[np.int64]
Owner = tuple[int, int] | None
"""Whose copies come and go together: those of a (microbatch, slot), or those that there is one of."""


@dataclass(frozen=True, slots=True)
class Point:
    """Live bytes by kind while one instruction runs; `step` counts the instructions of the entry point from 0."""

    step: int
    live: tuple[tuple[BufferKind, int], ...]

    @property
    def total(self) -> int:
        """Bytes of all kinds."""
        return sum(size for _, size in self.live)


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Bytes by kind that one row adds to those that were live before it: at each of its steps, and behind it."""

    steps: Bytes  # [kinds, steps]
    after: Bytes  # [kinds]
    most: int  # of all kinds together, at the worst step


@dataclass(frozen=True, eq=False)
class Live:
    """The live bytes of a rank over an entry point: a table for each row, and what was live when it began."""

    kinds: tuple[BufferKind, ...]
    tables: tuple[Table, ...]
    before: Bytes  # [rows, kinds]

    @cached_property
    def by_row(self) -> tuple[int, ...]:
        """The most bytes that are live at once during each row."""
        begin = self.before.sum(axis=1).tolist()
        return tuple(held + table.most for held, table in zip(begin, self.tables, strict=True))

    @property
    def peak(self) -> Point | None:
        """The first point at which most bytes are live; None where the entry point is empty."""
        rows = [row for row, table in enumerate(self.tables) if table.steps.shape[1]]
        if not rows:
            return None
        worst = max(rows, key=lambda row: self.by_row[row])
        at = int(self.tables[worst].steps.sum(axis=0).argmax())
        first = sum(table.steps.shape[1] for table in self.tables[:worst])
        return self._point(first + at, self.before[worst] + self.tables[worst].steps[:, at])

    def points(self) -> Iterator[Point]:
        """Every instruction in turn."""
        step = 0
        for held, table in zip(self.before, self.tables, strict=True):
            for live in (held[:, None] + table.steps).T:
                yield self._point(step, live)
                step += 1

    def _point(self, step: int, live: Bytes) -> Point:
        sizes = zip(self.kinds, live.tolist(), strict=True)
        return Point(step, tuple((kind, size) for kind, size in sizes if size))


def live_bytes(role: Role, entry: str, samples: int) -> tuple[Point, ...]:
    """The live bytes at each instruction of an entry point, on a rank of the role that holds `samples`."""
    return tuple(live(role, entry, samples).points())


def live(role: Role, entry: str, samples: int) -> Live:
    """The live bytes over an entry point, on a rank of the role that holds `samples`."""
    storage = Storage(role, samples)
    return _Lives(storage, schedule(role, entry), passing(role, entry, storage)).found()


@dataclass(frozen=True, slots=True, eq=False)
class _Use:
    """How a segment uses storages: the first and last step of each, and of what it has for itself, such as workspaces.

    `closes` are the waits whose begin is in an earlier row, `opens` what is begun here and waited for in a later one.
    """

    spans: dict[str, tuple[int, int]]
    scratch: tuple[tuple[int, int, str], ...] = ()
    closes: tuple[tuple[int, str], ...] = ()
    opens: dict[str, tuple[str, ...]] = field(default_factory=dict)


Change = tuple[int, str, int]
"""(step within a row, storage, +1 or -1): one copy comes or goes."""

Changes = tuple[Change, ...]


@dataclass(slots=True)
class _Lives:
    """The storages of a role as they come and go over a schedule; `sizes` has the number of its kind and its bytes."""

    storage: Storage
    rows: tuple[Row, ...]
    passing: frozenset[str]
    kinds: tuple[BufferKind, ...] = ()
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    by_slot: dict[str, bool] = field(default_factory=dict)  # of those that come and go
    scratch: set[str] = field(default_factory=set)
    own: set[str] = field(default_factory=set)  # of each segment
    uses: dict[str, _Use] = field(default_factory=dict)
    patterns: dict[Hashable, tuple[Changes, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.kinds = tuple(sorted({buffer.kind for buffer in self.storage.role.buffers}))
        for buffer in self.storage.role.buffers:
            if self.storage.content(buffer.name) == buffer.name and not self.storage.is_arena(buffer.name):
                self.sizes[buffer.name] = (self.kinds.index(buffer.kind), self.storage.bytes(buffer))
                if buffer.kind == "workspace":
                    self.scratch.add(buffer.name)
                elif buffer.view_of is not None and buffer.name not in self.passing:
                    self.own.add(buffer.name)
                elif buffer.kind not in KEPT:
                    self.by_slot[buffer.name] = self.storage.by_slot(buffer.name)

    def found(self) -> Live:
        """Follow each owner through the rows that touch it, and put the changes of each row together."""
        changes: list[list[Changes]] = [[] for _ in self.rows]
        for owner, visits in self._visits().items():
            uses = tuple(use for _, use in visits)
            for (row, _), changed in zip(visits, self._changes(owner is not None, uses), strict=True):
                if changed:
                    changes[row].append(changed)
        tables = self._tables(changes)
        sums = np.array([self._kept(), *(table.after for table in tables)], np.int64).cumsum(axis=0)
        return Live(self.kinds, tables, sums[: len(tables)])

    def _visits(self) -> dict[Owner, list[tuple[int, _Use]]]:
        """Owner -> the rows in which its copies are used, in order; waits use what was begun in another row."""
        found: dict[Owner, list[tuple[int, _Use]]] = {None: []}
        begun: dict[str, tuple[Owner, tuple[str, ...]]] = {}
        late: dict[Hashable, _Use] = {}
        for at, row in enumerate(self.rows):
            if row.segment not in self.uses:
                self.uses[row.segment] = self._use(self.storage.role.segment(row.segment))
            use, owner = self.uses[row.segment], (row.microbatch, row.slot)
            for step, name in use.closes:
                holder, held = begun.pop(name, (owner, ()))
                waited = late.setdefault((step, held), _Use(dict.fromkeys(held, (step, step))))
                found.setdefault(holder, []).append((at, waited))
                found[None].append((at, waited))
            found.setdefault(owner, []).append((at, use))
            found[None].append((at, use))
            begun.update({name: (owner, held) for name, held in use.opens.items()})
        return found

    def _use(self, segment: Segment) -> _Use:
        spans, opens = dict[str, tuple[int, int]](), dict[str, tuple[str, ...]]()
        scratch, closes = list[tuple[int, int, str]](), list[tuple[int, str]]()
        own = dict[str, tuple[int, int]]()
        for step, instruction in enumerate(segment.instructions):
            held = tuple(dict.fromkeys(self.storage.content(name) for name in touched(instruction)))
            left = {operand for operand, _ in self.storage.taken_over(instruction)}
            if isinstance(instruction, Wait):
                if instruction.name not in opens:
                    closes.append((step, instruction.name))
                held = opens.pop(instruction.name, ())
            elif begins(instruction):
                opens[title(instruction)] = held
            for storage in held:
                if storage in self.scratch:
                    scratch.append((step, step, storage))
                else:
                    found = own if storage in self.own else spans
                    last = step - 1 if storage in left else step  # from here on the bytes are those of a result
                    found[storage] = (found[storage][0] if storage in found else step, last)
        scratch += [(first, last, storage) for storage, (first, last) in own.items()]
        return _Use(spans, tuple(scratch), tuple(closes), opens)

    def _changes(self, by_slot: bool, uses: tuple[_Use, ...]) -> tuple[Changes, ...]:
        """What comes and goes in each of the rows that use copies of one owner; the same for owners that look alike."""
        key = (by_slot, uses)
        if key not in self.patterns:
            first, last = dict[str, tuple[int, int]](), dict[str, tuple[int, int]]()
            for use, at in {use: at for at, use in reversed(tuple(enumerate(uses)))}.items():
                for storage, (start, _) in use.spans.items():
                    first[storage] = min(first.get(storage, (at, start)), (at, start))
            for use, at in {use: at for at, use in enumerate(uses)}.items():
                for storage, (_, stop) in use.spans.items():
                    last[storage] = max(last.get(storage, (at, stop)), (at, stop))
            found: list[list[Change]] = [[] for _ in uses]
            for storage, (at, start) in first.items():
                if self.by_slot.get(storage) is by_slot:
                    found[at].append((start, storage, 1))
                    at, stop = last[storage]
                    found[at].append((stop + 1, storage, -1))
            self.patterns[key] = tuple(map(tuple, found))
        return self.patterns[key]

    def _tables(self, changes: Sequence[Sequence[Changes]]) -> tuple[Table, ...]:
        known: dict[Hashable, Table] = {}
        found = []
        for row, changed in zip(self.rows, changes, strict=True):
            key = (row.segment, tuple(changed))
            if key not in known:
                steps = len(self.storage.role.segment(row.segment).instructions)
                known[key] = self._table(steps, self.uses[row.segment], changed)
            found.append(known[key])
        return tuple(found)

    def _table(self, steps: int, use: _Use, changes: Sequence[Changes]) -> Table:
        moved = np.zeros((len(self.kinds), steps + 1), np.int64)
        for step, storage, sign in chain.from_iterable(changes):
            kind, size = self.sizes[storage]
            moved[kind, step] += sign * size
        for first, last, storage in use.scratch:
            kind, size = self.sizes[storage]
            moved[kind, first] += size
            moved[kind, last + 1] -= size
        sums = moved.cumsum(axis=1)
        return Table(sums[:, :steps], sums[:, steps], int(sums[:, :steps].sum(axis=0).max(initial=0)))

    def _kept(self) -> Bytes:
        """Bytes by kind of what lives throughout."""
        held = np.zeros(len(self.kinds), np.int64)
        for storage, (kind, size) in self.sizes.items():
            if storage not in self.scratch and storage not in self.own and storage not in self.by_slot:
                held[kind] += size
        return held
