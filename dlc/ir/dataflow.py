"""What a role's buffers hold as an entry point runs: written before read, summed before used, untouched in flight.

A schedule is a straight line, so an entry point has one path. Contents are tracked by bytes: a write to a member of a
bucket is a write to that part of the bucket, and a write to an arena ends whatever lay in those bytes before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from dlc.ir.accesses import CHANGES_GRADIENTS, Act, Facts, Use
from dlc.ir.contents import Held, Track
from dlc.ir.problem import Problem, ProblemKind
from dlc.ir.program import INNER, Collective, Compute, Instruction, Row, Wait
from dlc.ir.ranks import schedule

GIVES_PARTS = ("sums", "squares", "grad_sums")
"""Passes whose results are a rank's parts of sums: what batch norm adds up where its groups span ranks."""

SUMS = ("allreduce", "reduce_scatter")
"""Collectives that leave sums over ranks."""

SOME = " (inner rows)"
"""Ends the name of a content of which a kernel has computed the inner rows alone: nobody else is to read that."""


def flow(facts: Facts, entry: str, filled: tuple[str, ...] = ()) -> tuple[Problem, ...]:
    """The faults of a role's data flow in an entry point; `filled` are buffers that it must leave written.

    Of many microbatches those are followed that `_followed` says: all others do as one of them.
    """
    walk, rows = _Walk(facts, entry), schedule(facts.role, entry)
    followed = _followed(rows)
    for row in rows:
        if row.microbatch in followed:
            for act in facts.acts(row.segment):
                walk.step(row, act)
    walk.end(filled)
    return tuple(walk.found.values())


def _followed(rows: Sequence[Row]) -> frozenset[int]:
    """Of the microbatches of a schedule the first two, the next ones in the same slots, and the first of those that run
    their segments in another order. Where some segment does not run for each in turn, in the slots in turn, so many as
    fill every slot and two more, and all that run their segments in another order than the last of these."""
    runs, orders = dict[str, list[Row]](), dict[int, list[str]]()
    for row in rows:
        runs.setdefault(row.segment, []).append(row)
        orders.setdefault(row.microbatch, []).append(row.segment)
    counts = {name: 1 + max(row.slot for row in found) for name, found in runs.items()}
    every = 1 + max((row.microbatch for row in rows), default=0)
    for name, found in runs.items():
        turns = all(
            row.microbatch == at % every and row.slot == at % every % counts[name] for at, row in enumerate(found)
        )
        if len(found) > 1 and not (turns and not len(found) % every):
            enough = max(counts.values()) + 2
            last = orders.get(enough - 1)
            return frozenset((*range(enough), *(number for number, order in orders.items() if order != last)))
    first: dict[tuple[str, ...], int] = {}
    for number, order in orders.items():
        first.setdefault(tuple(order), number)
    return frozenset((0, 1, *counts.values(), 1 + max(counts.values(), default=0), *first.values()))


# --- an entry point ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Walk:
    """One pass over the straight line of an entry point."""

    facts: Facts
    entry: str
    tracks: dict[tuple[str, int], Track] = field(default_factory=dict)  # by storage and slot
    flying: dict[tuple[str, int], tuple[Act, Row]] = field(default_factory=dict)  # by name and slot
    busy: Counter[str] = field(default_factory=Counter)  # how many of them touch each storage
    parts: set[str] = field(default_factory=set)  # what must be summed before any kernel reads it
    gradients: dict[str, bool] = field(default_factory=dict)  # of weights, as written: whether a kernel has read it
    found: dict[tuple[str, str, str], Problem] = field(default_factory=dict)

    def step(self, row: Row, act: Act) -> None:
        """Check one instruction and note what it does, at its Wait where it only begins here."""
        made = act.made
        if isinstance(made, Wait):
            self._wait(act, made.name, row.slot)
            return
        if self.flying and not self.busy.keys().isdisjoint(act.storages):
            self._check_free(row, act)
        if isinstance(made, Collective):
            self._enter(row, act, made)
        else:
            for use in act.reads:
                if not self._on_its_way(row, made, use):
                    self._read(row, act, use)
        if isinstance(made, Compute):
            self._compute(row, act, made)
        elif not isinstance(made, Collective):
            self._note_use(act.reads)
        if not act.begins:
            self._done(row, act)
            return
        if (act.title, row.slot) in self.flying:
            self._problem("wait", act, act.title, f"`{act.title}` begins again before its wait")
        self.flying[act.title, row.slot] = (act, row)
        self.busy.update(act.storages)

    def end(self, filled: tuple[str, ...]) -> None:
        """Check what the entry point leaves behind."""
        for (name, _), (act, _) in self.flying.items():
            self._problem("wait", act, name, f"`{name}` begins and nothing waits for it")
        for name, used in self.gradients.items():
            if not used:  # an update is missing
                self._problem("unused", None, name, f"`{name}` is computed and updates nothing")
        for use in map(self.facts.use, filled):
            held, written = self._track(Row(""), use).at(use)
            if not written or (held is not None and held.content != use.content):
                self._problem("unwritten", None, use.name, f"nothing writes `{use.name}`, a result of `{self.entry}`")
            elif self._sums(use) and not (held and held.summed):
                sentence = f"`{use.name}`, a result of `{self.entry}`, is not summed over the ranks"
                self._problem("unsummed", None, use.name, sentence)

    def _compute(self, row: Row, act: Act, made: Compute) -> None:
        """Note parts of sums, which gradients of weights are written and which are of use, and what scratch ends."""
        for one, other in act.shared:
            sentence = f"`{made.address}` is given `{one.name}` and `{other.name}`, which share bytes"
            self._problem("overlap", act, one.name, sentence)
        if made.kernel[1] in GIVES_PARTS or made.kernel[0] in GIVES_PARTS:
            self.parts.update(made.outputs)
        if made.kernel[1] not in CHANGES_GRADIENTS:
            self._note_use(act.reads)
        self._note_given(act.writes)
        for use in act.scratch:
            self._track(row, use).put(use.start, use.stop, None)

    def _note_use(self, uses: Iterable[Use]) -> None:
        """Remember that gradients of weights are of use; of one whose shard is, too."""
        for use in uses:
            if use.gradient:
                self.gradients[use.name] = True
                parent = self.facts.role.buffer(use.name).view_of
                if parent is not None and self.facts.use(parent).gradient:
                    self.gradients[parent] = True

    def _note_given(self, uses: Iterable[Use]) -> None:
        """Remember gradients of weights that must be of use from now on."""
        for use in uses:
            if use.gradient:
                self.gradients.setdefault(use.name, False)

    def _read(self, row: Row, act: Act, use: Use) -> None:
        held, written = self._track(row, use).at(use)
        if held is not None and held.content != use.content:
            if not use.kept and written and held.content != f"{use.content}{SOME}":
                sentence = f"`{act.title}` reads `{use.name}`, where `{held.content}` lies by now"
                self._problem("unwritten", act, use.name, sentence)
                return
            held, written = None, False
        if not use.kept:
            if not written:
                sentence = f"`{act.title}` reads `{use.name}` before it is written"
                self._problem("unwritten", act, use.name, sentence)
                return
            if held is not None and use.copies and held.microbatch != row.microbatch:
                sentence = f"`{act.title}` of microbatch {row.microbatch} reads `{use.name}` of microbatch"
                self._problem("unwritten", act, use.name, f"{sentence} {held.microbatch}")
                return
        parts = use.name in self.parts and isinstance(act.made, Compute) and self.facts.differs
        if (parts or use in act.wants_sums) and not (held is not None and written and held.summed):
            sentence = f"`{act.title}` uses `{use.name}` before it is summed over the ranks"
            self._problem("unsummed", act, use.name, sentence)

    def _enter(self, row: Row, act: Act, collective: Collective) -> None:
        """A collective reads all of its buffer, member by member; along a mesh sums may follow each other."""
        members = self.facts.members(collective.buffer)
        for use in members:
            self._read(row, act, use)
        if collective.target:  # the gradients that it leaves there are of use from now on
            self._note_use(members)
            self._note_given(self.facts.members(collective.target))
        if collective.kind in SUMS and self.facts.role.mesh is None:
            (use,) = act.reads
            if self._is_summed(row, use) and use.start < use.stop:
                sentence = f"`{collective.name}` sums `{collective.buffer}` again"
                self._problem("twice", act, collective.buffer, sentence)

    def _done(self, row: Row, act: Act) -> None:
        """What an instruction leaves behind: what it writes, summed over ranks where it sums."""
        made = act.made
        sums = isinstance(made, Collective) and made.kind in SUMS
        in_place = isinstance(made, Collective) and not made.target
        inner = isinstance(made, Compute) and made.rows == INNER
        if isinstance(made, Compute) and made.rows and not inner:
            self._check_inner(row, act)
        for use in act.writes:
            held = Held(f"{use.content}{SOME if inner else ''}", row.microbatch if use.copies else 0, sums)
            self._track(row, use).put(use.start, use.stop, held, not sums and (in_place or use in act.reads))
        if isinstance(made, Compute) and made.kernel[0] == "cast":
            for source, target in zip(act.reads, act.writes, strict=False):
                if self._is_summed(row, source):
                    held = Held(target.content, row.microbatch if target.copies else 0, True)
                    self._track(row, target).put(target.start, target.stop, held)

    def _is_summed(self, row: Row, use: Use) -> bool:
        held, written = self._track(row, use).at(use)
        return held is not None and written and held.summed and held.content == use.content

    def _wait(self, wait: Act, name: str, slot: int) -> None:
        """The end of what began in this slot, else of the oldest one of that name."""
        key = (name, slot) if (name, slot) in self.flying else next((k for k in self.flying if k[0] == name), None)
        if key is None:
            self._problem("wait", wait, name, f"`{name}` is waited for and has not begun")
            return
        act, row = self.flying.pop(key)
        self.busy.subtract(act.storages)
        self.busy = +self.busy  # without those that are free again
        self._done(row, act)

    def _on_its_way(self, row: Row, made: Instruction, use: Use) -> bool:
        """Whether a kernel reads of a buffer the inner rows alone, while those of other ranks are under way."""
        return isinstance(made, Compute) and made.rows == INNER and any(
            isinstance(begun.made, Collective) and begun.made.kind == "halo" and begun.made.target == use.name
            for begun, at in self.flying.values() if not use.copies or at.slot == row.slot
        )  # fmt: skip

    def _check_inner(self, row: Row, act: Act) -> None:
        """Report results whose other rows are computed, of which the inner rows are not there."""
        for use in act.writes:
            held, written = self._track(row, use).at(use)
            wanted = Held(f"{use.content}{SOME}", row.microbatch if use.copies else 0)
            if held is None or not written or not held.alike(wanted):
                sentence = f"`{act.title}` computes the outer rows of `{use.name}`, which has no inner ones"
                self._problem("unwritten", act, use.name, sentence)

    def _check_free(self, row: Row, act: Act) -> None:
        """Report buffers that an instruction in flight fills, and those that it reads and this one would change."""
        for other, begun in self.flying.values():
            if act.storages.isdisjoint(other.storages):
                continue
            for use in act.touched:
                if use in act.reads and self._on_its_way(row, act.made, use):
                    continue
                for theirs in other.touched if use in act.writes else other.writes:
                    if use.overlaps(theirs) and (not use.copies or begun.slot == row.slot):
                        sentence = f"`{act.title}` touches `{use.name}` while `{other.title}` is under way"
                        self._problem("in flight", act, use.name, sentence)

    def _sums(self, use: Use) -> bool:
        """Whether ranks hold parts of a result of a step."""
        if self.facts.role.mesh is not None:
            return use.partial
        return self.facts.differs and self.facts.role.buffer(use.storage).kind == "bucket"

    def _track(self, row: Row, use: Use) -> Track:
        key = (use.storage, row.slot if use.copies else 0)
        found = self.tracks.get(key)
        if found is None:
            found = self.tracks[key] = Track()
        return found

    def _problem(self, kind: ProblemKind, act: Act | None, subject: str, sentence: str) -> None:
        name = "" if act is None else act.title
        self.found.setdefault((kind, name, subject), Problem(kind, sentence, self.facts.role.name, self.entry, name))
