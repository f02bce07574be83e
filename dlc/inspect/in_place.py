"""Which results of a program lie in the places of operands that nobody needs any more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from dlc.ir.program import Compute, Program
from dlc.ir.storage import Storage
from dlc.units import format_bytes


@dataclass(frozen=True, slots=True)
class Takeover:
    """A kernel's call whose result lies where an operand did; bytes of one on the rank that has most."""

    address: str
    kernel: str
    operand: str
    result: str
    bytes: int


def takeovers(program: Program) -> tuple[Takeover, ...]:
    """Those of all roles and functions, each pair of arrays once."""
    found: dict[tuple[str, str, str], Takeover] = {}
    for role in program.roles:
        storage = Storage(role, role.largest_shard)
        for segment in role.segments:
            for made in segment.instructions:
                if not isinstance(made, Compute):
                    continue
                op, stage, _ = made.kernel
                kernel = op if stage in ("forward", "sum") else f"{op} {stage}"
                for operand, result in storage.taken_over(made):
                    size = storage.bytes(role.buffer(result))
                    known = Takeover(made.address, kernel, operand, result, size)
                    found.setdefault((role.name, operand, result), known)
    return tuple(found.values())


def takeovers_line(found: Iterable[Takeover]) -> str:
    """`17 results lie where an operand did (12 add, 5 relu dx), 8 MiB the largest`."""
    several = tuple(found)
    kernels = Counter(each.kernel for each in several).most_common(4)
    counts = ", ".join(f"{count:,} {kernel}" for kernel, count in kernels)
    verb = "result lies" if len(several) == 1 else "results lie"
    largest = format_bytes(max(each.bytes for each in several))
    return f"{len(several):,} {verb} where an operand did ({counts}), {largest} the largest"


def takeovers_document(found: Iterable[Takeover]) -> list[dict[str, object]]:
    """The same as JSON, one by one; bytes."""
    return [asdict(each) for each in found]
