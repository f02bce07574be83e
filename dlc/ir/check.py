"""The static check of a Program: faults that would end in a hang, in wrong numbers or in too little memory.

Collectives match over the ranks of their groups, sends meet receives, nothing deadlocks under rendezvous, buffers are
written before they are read and summed before they are used, and the memory of the largest shard fits. What every
rank does is followed once for all ranks that behave alike (`dlc.ir.ranks`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from dlc.ir.accesses import Facts
from dlc.ir.dataflow import flow
from dlc.ir.execution import Execution
from dlc.ir.problem import Problem
from dlc.ir.program import TRAIN_STEP, Collective, Copy, Instruction, Program, Receive, Role, Send
from dlc.ir.ranks import fold, instructions
from dlc.ir.storage import Place, Storage, operand_bytes, storages_of, title, touched, writes


def check(
    program: Program, memory_limit: int | None = None, storages: Sequence[Storage] | None = None
) -> tuple[Problem, ...]:
    """All faults of a program, none if it is sound; `memory_limit` in bytes a rank.

    Where names or groups are broken, only that is reported: the rest is meaningless until it is mended. `storages`
    are those of `storages_of`, where they are there already.
    """
    broken = tuple(problem for rule in STRUCTURE for problem in rule(program))
    if broken:
        return broken
    facts = [Facts(each.role, each) for each in storages or storages_of(program)]
    found = [*_sizes(program, facts), *_memory(facts, memory_limit)]
    classes = fold(program, by_samples=False)
    for entry in _entries(program):
        for of_role in facts:
            found.extend(flow(of_role, entry, _results(program, of_role.role, entry)))
        found.extend(Execution(program, entry, classes).run().problems)
    return tuple(found)


def _names_are_unique(program: Program) -> Iterator[Problem]:
    yield from _repeated("role", (role.name for role in program.roles))
    yield from _repeated("group", (group.name for group in program.groups))
    for role in program.roles:
        yield from _repeated("buffer", (buffer.name for buffer in role.buffers), role)
        yield from _repeated("segment", (segment.name for segment in role.segments), role)
        yield from _repeated("entry", (entry.name for entry in role.entries), role)


def _repeated(what: str, names: Iterable[str], role: Role | None = None) -> Iterator[Problem]:
    for name, count in Counter(names).items():
        if count > 1:
            yield Problem("structure", f"{count} {what}s are called `{name}`", role.name if role else "")


def _roles_partition_the_ranks(program: Program) -> Iterator[Problem]:
    held = Counter(rank for role in program.roles for rank in role.ranks)
    if held != Counter(range(program.ranks)):
        yield Problem(
            "structure", f"the roles hold ranks {sorted(held.elements())} in place of 0 to {program.ranks - 1}"
        )


def _groups_partition_the_ranks(program: Program) -> Iterator[Problem]:
    everyone = Counter(range(program.ranks))
    for group in program.groups:
        if Counter(rank for members in group.members for rank in members) != everyone:
            sentence = f"group `{group.name}` does not hold every rank exactly once: {_listed(group.members)}"
            yield Problem("structure", sentence)


def _listed(members: tuple[tuple[int, ...], ...]) -> str:
    return ", ".join(f"({', '.join(map(str, ranks))})" for ranks in members)


def _shards_hold_the_batch(program: Program) -> Iterator[Problem]:
    samples = set[int]()
    for role in program.roles:
        if len(role.shards) != len(role.ranks):
            yield Problem("structure", f"{len(role.ranks)} ranks have {len(role.shards)} shards", role.name)
        for start, stop in role.shards:
            samples.update(range(start, stop))
            if not 0 <= start <= stop <= program.batch:
                yield Problem(
                    "structure", f"a shard ({start}, {stop}) is outside the batch of {program.batch}", role.name
                )
    if len(samples) < program.batch:
        yield Problem("structure", f"the shards hold {len(samples)} of the {program.batch} samples of the batch")


def _rows_name_segments(program: Program) -> Iterator[Problem]:
    for role in program.roles:
        known = {segment.name for segment in role.segments}
        for entry in role.entries:
            for row in entry.schedule:
                if row.segment not in known:
                    yield Problem(
                        "structure", f"the schedule runs `{row.segment}`, which is no segment", role.name, entry.name
                    )
                if row.microbatch < 0 or row.slot < 0:
                    sentence = f"the schedule has microbatch {row.microbatch} in slot {row.slot}, both count from 0"
                    yield Problem("structure", sentence, role.name, entry.name)


def _entries_are_common(program: Program) -> Iterator[Problem]:
    entries = _entries(program)
    for role in program.roles:
        for name in entries:
            if name not in {entry.name for entry in role.entries}:
                yield Problem("structure", f"there is no entry `{name}`, which other roles have", role.name)


def _names_are_known(program: Program) -> Iterator[Problem]:
    groups = {group.name for group in program.groups}
    known = {role.name: {buffer.name for buffer in role.buffers} for role in program.roles}
    for role, instruction in _all_instructions(program):
        for name in touched(instruction):
            if name not in known[role.name]:
                sentence = f"`{title(instruction)}` names `{name}`, which is no buffer"
                yield Problem("structure", sentence, role.name, instruction=title(instruction))
        if isinstance(instruction, Collective | Send | Receive) and instruction.group not in groups:
            sentence = f"`{instruction.name}` names `{instruction.group}`, which is no group"
            yield Problem("structure", sentence, role.name, instruction=instruction.name)
    everywhere = {buffer.name for role in program.roles for buffer in role.buffers}
    loss = () if program.loss is None else (program.loss,)
    for name in (*(value for _, value in (*program.outputs, *program.metrics)), *loss):
        if name not in everywhere:
            yield Problem("structure", f"the program's result `{name}` is no buffer of any role")


def _views_have_parents(program: Program) -> Iterator[Problem]:
    for role in program.roles:
        parents = {buffer.name: buffer.view_of for buffer in role.buffers}
        for name in parents:
            seen, at = {name}, parents[name]
            while at is not None:
                if at not in parents or at in seen:
                    fault = "has no end" if at in seen else f"ends at `{at}`, which is no buffer"
                    yield Problem("structure", f"the chain of views from `{name}` {fault}", role.name)
                    break
                seen.add(at)
                at = parents[at]


STRUCTURE: tuple[Callable[[Program], Iterator[Problem]], ...] = (
    _names_are_unique,
    _roles_partition_the_ranks,
    _groups_partition_the_ranks,
    _shards_hold_the_batch,
    _rows_name_segments,
    _entries_are_common,
    _names_are_known,
    _views_have_parents,
)
"""What must hold before anything else can be asked, one function each."""


def _sizes(program: Program, facts: Sequence[Facts]) -> Iterator[Problem]:
    """Counts of bytes are those of the buffers, copies are between equals, views lie inside their parents."""
    parts = {each.role.name: each.storage.microbatches for each in facts}
    for role, instruction in _all_instructions(program):
        match instruction:
            case (
                Collective(name=name, buffer=buffer)
                | Send(name=name, buffer=buffer)
                | Receive(name=name, buffer=buffer)
            ):
                size = operand_bytes(role, instruction, parts[role.name])
                if instruction.bytes not in (size, role.buffer(buffer).type.bytes):
                    sentence = f"`{name}` moves {instruction.bytes} bytes of `{buffer}`, which has {size}"
                    yield Problem("bytes", sentence, role.name, instruction=name)
            case Copy(source=source, target=target):
                one, other = role.buffer(source), role.buffer(target)
                if (one.type, one.layout) != (other.type, other.layout):
                    sentence = f"`{source}` is copied to `{target}`, which has another type or layout"
                    yield Problem("bytes", sentence, role.name, instruction=title(instruction))
        if isinstance(instruction, Collective):
            yield from _sums_every_sample_once(program, role, instruction)
    for each in facts:
        yield from _views_fit(each.role, each.storage.places)


def _views_fit(role: Role, places: Mapping[str, Place]) -> Iterator[Problem]:
    for buffer in role.buffers:
        if buffer.view_of is not None:
            place, parent = places[buffer.name], places[buffer.view_of]
            if not parent.start <= place.start <= place.stop <= parent.stop:
                sentence = f"`{buffer.name}` lies at bytes {place.start} to {place.stop} of `{place.storage}`"
                outside = f"outside `{buffer.view_of}` at {parent.start} to {parent.stop}"
                yield Problem("bytes", f"{sentence}, {outside}", role.name)


def _sums_every_sample_once(program: Program, role: Role, collective: Collective) -> Iterator[Problem]:
    """The ranks that sum a bucket of gradients hold every sample of the batch between them, and none twice.

    On a mesh ranks may hold the same samples and split other axes: there placements say what is summed.
    """
    if role.buffer(collective.buffer).kind != "bucket" or collective.kind != "allreduce" or role.mesh is not None:
        return
    shards = {rank: shard for each in program.roles for rank, shard in zip(each.ranks, each.shards, strict=True)}
    group = next(group for group in program.groups if group.name == collective.group)
    for members in group.members:
        if not set(members).intersection(role.ranks):
            continue
        ends = 0
        for start, stop in sorted(shards[rank] for rank in members if shards[rank][0] < shards[rank][1]):
            if start != ends:
                break
            ends = stop
        else:
            if ends == program.batch:
                continue
        sentence = f"`{collective.name}` sums over ranks {list(members)}, which do not hold every sample exactly once"
        yield Problem("structure", sentence, role.name, instruction=collective.name)
        return


def _memory(facts: Sequence[Facts], limit: int | None) -> Iterator[Problem]:
    """No rank allocates more than the limit: the sum of all storages for the largest shard."""
    for each in facts if limit is not None else ():
        total = sum(each.storage.allocated().values())
        if limit is not None and total > limit:
            yield Problem("memory", f"a rank allocates {total} bytes, the limit is {limit}", each.role.name)


def _results(program: Program, role: Role, entry: str) -> tuple[str, ...]:
    """The buffers of a role that an entry point must leave written: the loss and metrics, or the outputs.

    Of roles that have a buffer of that name, those that write it have the result; all of them where none does.
    """
    wanted = {
        TRAIN_STEP: (*(value for _, value in program.metrics), *((program.loss,) if program.loss else ())),
        "predict": tuple(value for _, value in program.outputs),
    }
    found = []
    for name in dict.fromkeys(wanted.get(entry, ())):
        holders = [other for other in program.roles if any(buffer.name == name for buffer in other.buffers)]
        writers = [other for other in holders if len(holders) > 1 and makes(other, entry, name)]
        if role in (writers or holders):
            found.append(name)
    return tuple(found)


def makes(role: Role, entry: str, name: str) -> bool:
    """Whether a role fills a buffer, or one that it is a view of, in an entry point, not with what others send."""
    names = {name}
    while (parent := role.buffer(name).view_of) is not None:
        names.add(name := parent)
    made = (instruction for _, instruction in instructions(role, entry) if not isinstance(instruction, Receive))
    return any(names.intersection(writes(instruction)) for instruction in made)


def _entries(program: Program) -> tuple[str, ...]:
    return tuple(dict.fromkeys(entry.name for role in program.roles for entry in role.entries))


def _all_instructions(program: Program) -> Iterator[tuple[Role, Instruction]]:
    for role in program.roles:
        for segment in role.segments:
            for instruction in segment.instructions:
                yield role, instruction
