"""Which rows of the schedules are followed: of many microbatches the first two.

That is enough where all microbatches are treated alike and none can see another one's contents:

* each role runs each of its segments for every microbatch once a batch, in ascending order (so that the k-th message of
  a name is of the k-th microbatch on both sides), or just once in all;
* the slot is the number of the microbatch modulo how many slots the segment uses;
* segments that share what each microbatch has for itself, and those that wait for the others' transfers, have as many
  slots;
* of what each microbatch has for itself, one takes over a slot only when the one before is through with it: where such
  arrays lie in memory without copies, the first two microbatches show whether these meet there;
* of all else, a segment that runs often reads nothing that an earlier row has written, but for sums that it adds to and
  for what is written once in all.

Where that does not hold, every row is followed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from dlc.ir.program import Compute, Instruction, Role, Wait
from dlc.ir.storage import begins, reads, title, writes
from dlc.proof.memory import Layout
from dlc.proof.state import At

ENOUGH = 2
"""The first microbatch finds nothing, the second one what all later ones find."""


def followed(layouts: Sequence[Layout], rows: Sequence[Sequence[At]], count: int) -> list[list[At]]:
    """Of the rows of each role those that are followed; `count` microbatches make a batch."""
    if count <= ENOUGH or not all(
        _regular(layout, of_role, count) for layout, of_role in zip(layouts, rows, strict=True)
    ):
        return [list(of_role) for of_role in rows]
    return [[at for at in of_role if at.row.microbatch < ENOUGH] for of_role in rows]


def _regular(layout: Layout, rows: Sequence[At], count: int) -> bool:
    runs: dict[str, list[At]] = {}
    for at in rows:
        runs.setdefault(at.row.segment, []).append(at)
    often = {segment for segment, found in runs.items() if len(found) > 1}
    order = [at.row.segment in often for at in rows]
    inside = order[order.index(True) : len(order) - order[::-1].index(True)] if often else []
    return (
        all(inside)
        and _alike(layout.role, rows, often)
        and all(_ascending(runs[segment], count) for segment in often)
        and all(_in_turn(rows, segments) for segments in _sharing(layout, often))
        and _in_one_slot(layout, runs, often)
        and _keep_to_themselves(layout, often)
    )


def _alike(role: Role, rows: Sequence[At], often: set[str]) -> bool:
    """Whether all microbatches run the same segments in the same order, but for those that just wait."""
    working = {s.name for s in role.segments if not all(isinstance(made, Wait) for made in s.instructions)} & often
    found: dict[int, list[str]] = {}
    for at in rows:
        if at.row.segment in working:
            found.setdefault(at.microbatch, []).append(at.row.segment)
    return len(set(map(tuple, found.values()))) < 2


def _ascending(found: Sequence[At], count: int) -> bool:
    """Every microbatch once a batch, in order, each in its slot."""
    slots = 1 + max(at.row.slot for at in found)
    numbers = [at.microbatch for at in found]
    return (
        numbers == list(range(len(found)))
        and not len(found) % count
        and all(at.row.slot == at.row.microbatch % slots for at in found)
    )


def _in_one_slot(layout: Layout, runs: Mapping[str, Sequence[At]], often: set[str]) -> bool:
    """Whether segments that share what each microbatch has for itself, or that wait for one another's transfers, have
    as many slots: so all of a microbatch is in one."""
    slots = {segment: 1 + max(at.row.slot for at in runs[segment]) for segment in often}
    begun: dict[str, str] = {}
    waits: list[tuple[str, str]] = []
    for segment in often:
        for made in layout.role.segment(segment).instructions:
            if isinstance(made, Wait):
                waits.append((segment, made.name))
            elif begins(made):
                begun[title(made)] = segment
    return all(len({slots[each] for each in segments}) == 1 for segments in _sharing(layout, often)) and all(
        slots[segment] == slots[begun.get(name, segment)] for segment, name in waits
    )


def _sharing(layout: Layout, often: set[str]) -> Iterator[frozenset[str]]:
    """The sets of segments that touch one storage, or content of an arena, that each microbatch has for itself."""
    segments: dict[str, set[str]] = {}
    for name, made in _touched(layout.role, often):
        if _own(layout, made):
            segments.setdefault(layout.storage.content(made), set()).add(name)
    yield from dict.fromkeys(frozenset(found) for found in segments.values())


def _own(layout: Layout, name: str) -> bool:
    """Whether each microbatch has a buffer for itself, be it in one memory after the other."""
    return layout.span(name).by_slot or layout.storage.by_slot(layout.storage.content(name))


def _touched(role: Role, segments: set[str]) -> Iterator[tuple[str, str]]:
    for segment in role.segments:
        if segment.name in segments:
            names = dict.fromkeys(n for made in segment.instructions for n in (*reads(made), *writes(made)))
            yield from ((segment.name, name) for name in names)


def _in_turn(rows: Sequence[At], segments: frozenset[str]) -> bool:
    """Whether in each slot the microbatches come one after the other."""
    last: dict[int, int] = {}
    for at in rows:
        if at.row.segment in segments:
            if at.microbatch < last.get(at.row.slot, 0):
                return False
            last[at.row.slot] = at.microbatch
    return True


def _keep_to_themselves(layout: Layout, often: set[str]) -> bool:
    """Whether segments read no other row's contents, but of their slots, sums that they add to, and lasting ones."""
    lasting = _written(layout, often)
    return all(_keeps_to_itself(layout, segment, lasting) for segment in often)


def _keeps_to_itself(layout: Layout, segment: str, lasting: set[str]) -> bool:
    written = set[str]()
    for made in layout.role.segment(segment).instructions:
        for name in _members(layout, reads(made)):
            root = _root(layout, name)
            shared = root not in written and not _own(layout, name) and not layout.storage.kept(root)
            if shared and root in lasting and not _adds(made, name):
                return False
        written.update(_root(layout, name) for name in _members(layout, writes(made)) if not _adds(made, name))
    return True


def _written(layout: Layout, segments: set[str]) -> set[str]:
    """What these segments write."""
    found = set[str]()
    for segment in layout.role.segments:
        if segment.name in segments:
            for made in segment.instructions:
                found.update(_root(layout, name) for name in _members(layout, writes(made)))
    return found


def _members(layout: Layout, names: Sequence[str]) -> Iterator[str]:
    """Buffers, and the members of buckets in place of these."""
    for name in names:
        yield from layout.members(name)


def _root(layout: Layout, name: str) -> str:
    """The buffer whose content a buffer shows: a member of a bucket for itself."""
    at = layout.role.buffer(name)
    while (parent := layout.parent(at)) is not None:
        at = parent
    return at.name


def _adds(made: Instruction, name: str) -> bool:
    """Whether an instruction adds to a buffer in place."""
    return (
        isinstance(made, Compute) and made.kernel[:2] == ("sum", "sum") and name in made.outputs and name in made.inputs
    )
