"""Which kernels of a program's training step are one call, what that saves, and what stands against others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import pairwise

from dlc.inspect.tables import table
from dlc.ir.program import TRAIN_STEP, Compute, Instruction, Program, Role
from dlc.ops.fusion import UPDATE
from dlc.units import format_seconds
from passes.lowering.fuse import missed


@dataclass(frozen=True, slots=True)
class Chain:
    """Alike chains of kernels: (op, pass) of their members, and by members the addresses of each chain.

    `calls` are those of a step, `seconds` what they save of it on a rank; `reason` says why chains are none, "" of what
    is fused.
    """

    kernels: tuple[tuple[str, str], ...]
    members: tuple[tuple[str, ...], ...]
    calls: int
    seconds: float
    reason: str = ""


def chains(program: Program, price: Callable[[Instruction, Role, int], float], in_c: bool = False) -> tuple[Chain, ...]:
    """The chains of a step, what saves most first, then what is not fused; `price` gives an instruction's seconds.

    `in_c` says that the kernels are those in C.
    """
    found: dict[tuple[tuple[tuple[str, str], ...], str], Chain] = {}
    for members, calls, seconds, reason in (*_fused(program, price), *_missed(program, in_c)):
        kernels = tuple((made.kernel[0], made.kernel[1]) for made in members)
        known = found.get((kernels, reason), Chain(kernels, (), 0, 0.0, reason))
        addresses = (*known.members, tuple(made.address for made in members))
        found[kernels, reason] = Chain(kernels, addresses, known.calls + calls, known.seconds + seconds, reason)
    return tuple(sorted(found.values(), key=lambda chain: (bool(chain.reason), -chain.seconds)))


Found = tuple[tuple[Compute, ...], int, float, str]
"""Members, calls a step, seconds that they save, why not."""


def _fused(program: Program, price: Callable[[Instruction, Role, int], float]) -> Iterator[Found]:
    for role in program.roles:
        for name, often in role.runs(TRAIN_STEP).items():
            for made in role.segment(name).instructions:
                if isinstance(made, Compute) and made.members:
                    apart = sum(price(each, role, role.largest_shard) for each in made.members)
                    yield made.members, often, often * (apart - price(made, role, role.largest_shard)), ""


def _missed(program: Program, in_c: bool) -> Iterator[Found]:
    for role, segment, members, reason in missed(program, in_c):
        often = role.runs(TRAIN_STEP)[segment.name]
        if often:
            yield members, often, 0.0, reason


def around(found: Iterable[Chain], address: str) -> tuple[Chain, ...]:
    """The chains that an op's kernels are in, or would be in; those of updates are none of an op."""
    kept = ((chain, _with(chain, address)) for chain in found if chain.kernels[0][1] != UPDATE)
    return tuple(
        replace(
            chain,
            members=members,
            calls=chain.calls * len(members) // len(chain.members),
            seconds=chain.seconds * len(members) / len(chain.members),
        )
        for chain, members in kept
        if members
    )


def _with(chain: Chain, address: str) -> tuple[tuple[str, ...], ...]:
    return tuple(names for names in chain.members if address in map(_op, names))


def _op(name: str) -> str:
    """The op that a kernel is of: `c1.conv` of `c1.conv@dx`."""
    return name.partition("@")[0]


def handed_on(found: Iterable[Chain]) -> frozenset[tuple[str, str]]:
    """(op, op) where the first one's result goes to the second within a call, forward."""
    fused = (chain for chain in found if not chain.reason and chain.kernels[0][1] == "forward")
    return frozenset(pair for chain in fused for names in chain.members for pair in pairwise(names))


def one_call(found: Iterable[Chain]) -> dict[str, dict[str, str]]:
    """By op, pass by pass, the kernels that are one call with the op's: {"fused forward": "bn + relu"}."""
    known: dict[str, dict[str, str]] = {}
    for chain in found:
        for names in () if chain.reason or chain.kernels[0][1] == UPDATE else chain.members:
            title = " + ".join(op for op, _ in chain.kernels)
            for name, (_, stage) in zip(names, chain.kernels, strict=True):
                known.setdefault(_op(name), {})[f"fused {stage}"] = title
    return known


def chains_document(found: tuple[Chain, ...]) -> list[dict[str, object]]:
    """The chains as JSON; seconds."""
    return [asdict(each) for each in found]


def chains_text(found: tuple[Chain, ...]) -> str:
    """One row for alike chains."""
    header = ("chain", "calls", "saves", "first", "why not")
    return table(header, [_row(each) for each in found], right=(1, 2))


def _row(each: Chain) -> tuple[str, ...]:
    seconds = "" if each.reason else format_seconds(each.seconds)
    (op, stage), *others = each.kernels
    if not {(op, stage)}.symmetric_difference(others):
        title = f"{op} {stage} of {len(each.kernels):,}"
        return title, f"{each.calls:,}", seconds, each.members[0][-1], each.reason
    stages = tuple(dict.fromkeys(stage for _, stage in each.kernels))
    name = " + ".join(op if len(stages) == 1 else " ".join(dict.fromkeys((op, stage))) for op, stage in each.kernels)
    title = f"{name} {stages[0]}" if len(stages) == 1 else name
    return title, f"{each.calls:,}", seconds, each.members[0][-1], each.reason
