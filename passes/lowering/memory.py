"""Which arrays of a role share memory: those whose contents never outlive the segment that makes them.

What the backward pass does not read or computes again, gradients on their way, gathered weights and workspaces are
written and read within one segment. They lie in one storage, each where nothing else lies from its first use to its
last. So does what only segments of inference hand to each other: these run one behind the other, so it is in use from
the first that names it to the last; an output of the network is up to the end of a segment that makes it, where it is
handed on. Everything else keeps an array of its own, where it has to for each slot: what the backward pass reads, what
is under way when a segment ends, and results of a step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from dlc.ir.program import Buffer, Compute, Role, Wait
from dlc.ir.storage import Storage, begins, reads, title, writes
from dlc.ir.tensor import tensor

ALIGNMENT = 64  # bytes: a cache line
SHARED = "transient"
SHARING = ("activation", "saved", "gradient", "workspace", "bucket")


@dataclass(slots=True)
class _Use:
    """How many bytes a storage has, and the first and the last instruction of each segment that touches it."""

    size: int
    spans: dict[int, tuple[int, int]] = field(default_factory=dict)

    @property
    def order(self) -> tuple[int, int, int, int]:
        """The first segment that touches it, from where to where, and that larger ones come first."""
        segment = min(self.spans)
        return segment, *self.spans[segment], -self.size


def shared(role: Role, outputs: Iterable[str], scalars: Iterable[str]) -> Role:
    """The role with what lives within a segment, or in inference only, in one storage; `outputs` are read when the
    segment that makes them is over, `scalars` when an entry is."""
    parents = {buffer.name: buffer.view_of for buffer in role.buffers}
    uses = _uses(role, parents, {_root(name, parents) for name in scalars if name in parents})
    inference = _inference(role)
    _join(role, uses, inference, {_root(name, parents) for name in outputs if name in parents})
    placed = _placed(uses)
    if not placed:
        return role
    size = max(uses[name].size + offset for name, offset in placed.items())
    storage = Buffer(SHARED, tensor("u8", byte=size), "workspace")
    moved = (
        replace(buffer, view_of=SHARED, offset=placed[buffer.name]) if buffer.name in placed else buffer
        for buffer in role.buffers
    )
    return replace(role, buffers=(storage, *moved))


def _root(name: str, parents: Mapping[str, str | None]) -> str:
    while (parent := parents[name]) is not None:
        name = parent
    return name


def _uses(role: Role, parents: Mapping[str, str | None], lasting: set[str]) -> dict[str, _Use]:
    """The storages that may share memory, with their spans: what a segment reads of one, it has written before, or
    in inference one before it has."""
    storage = Storage(role, role.largest_shard)
    roots = {name: _root(name, parents) for name in parents}
    able = {b.name for b in role.buffers if b.view_of is None and b.kind in SHARING and not storage.kept(b.name)}
    uses: dict[str, _Use] = {}
    inference, inferred = frozenset(_inference(role)), set[str]()
    for index, segment in enumerate(role.segments):
        flying: dict[str, tuple[str, ...]] = {}
        written = inferred if index in inference else set[str]()
        for at, instruction in enumerate(segment.instructions):
            read, wrote = reads(instruction), writes(instruction)
            for name in read:
                root = roots[name]
                if root in able and name not in written and not _is_written(name, written, parents, storage.members):
                    lasting.add(root)
            scratch = instruction.workspaces if isinstance(instruction, Compute) else ()
            for name in (*read, *wrote, *scratch):
                root = roots[name]
                if root in able and root not in lasting:
                    use = uses.get(root)
                    if use is None:
                        use = uses[root] = _Use(-(-storage.bytes(role.buffer(root)) // ALIGNMENT) * ALIGNMENT)
                    use.spans[index] = (use.spans[index][0] if index in use.spans else at, at)
            written.update(wrote)
            if begins(instruction):
                flying[title(instruction)] = tuple(roots[name] for name in (*read, *wrote))
            elif isinstance(instruction, Wait):
                for root in flying.pop(instruction.name, ()):
                    if root in uses and index in uses[root].spans:  # it may have turned out to last meanwhile
                        uses[root].spans[index] = (uses[root].spans[index][0], at)
        lasting.update(root for held in flying.values() for root in held)
    return {name: use for name, use in uses.items() if name not in lasting}


def _inference(role: Role) -> tuple[int, ...]:
    """The segments that no step of training runs."""
    trained = {row.segment for entry in role.entries if entry.name == "train_step" for row in entry.schedule}
    return tuple(index for index, segment in enumerate(role.segments) if segment.name not in trained)


def _join(role: Role, uses: Mapping[str, _Use], inference: Sequence[int], outputs: set[str]) -> None:
    """In segments of inference a storage is in use from the first of them to the last; outputs to the end of each."""
    for name, use in uses.items():
        within = [index for index in inference if index in use.spans]
        for index in range(within[0], within[-1] + 1) if len(within) > 1 else ():
            first = use.spans[index][0] if index == within[0] else 0
            last = use.spans[index][1] if index == within[-1] else len(role.segments[index].instructions) - 1
            use.spans[index] = first, last
        for index in within if name in outputs else ():
            use.spans[index] = use.spans[index][0], len(role.segments[index].instructions) - 1


def _is_written(
    name: str, written: set[str], parents: Mapping[str, str | None], members: Mapping[str, tuple[str, ...]]
) -> bool:
    """Whether a buffer has been written: itself, what it is a view of, or all that are views of it, side by side."""
    at: str | None = name
    while at is not None:
        if at in written or (members[at] and all(each in written for each in members[at])):
            return True
        at = parents[at]
    return False


def _placed(uses: Mapping[str, _Use]) -> dict[str, int]:
    """Offsets: those that are used first come first, of these the larger; each gets the first gap between those in use.

    The emitted program places its arrays by this rule when it starts (`runtime/memory.py`).
    """
    found: dict[str, int] = {}
    in_use: dict[tuple[int, int], list[str]] = {}
    for name, use in sorted(uses.items(), key=lambda item: item[1].order):
        steps = [(segment, at) for segment, (first, last) in use.spans.items() for at in range(first, last + 1)]
        others = {other for step in steps for other in in_use.get(step, ())}
        found[name] = _gap(sorted((found[other], found[other] + uses[other].size) for other in others), use.size)
        for step in steps:
            in_use.setdefault(step, []).append(name)
    return found


def _gap(taken: Sequence[tuple[int, int]], size: int) -> int:
    """The first offset at which so many bytes are free."""
    at = 0
    for start, end in taken:
        if start - at >= size:
            break
        at = max(at, end)
    return at
