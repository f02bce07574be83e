"""Which weights a step packs once for several microbatches, what that saves and takes, and why others are not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from dlc.inspect.tables import table
from dlc.ir.program import TRAIN_STEP, Compute, Program, Role
from dlc.ir.storage import Storage
from dlc.ops.fusion import UPDATES, main_of
from dlc.units import format_bytes, format_seconds
from passes.context import Context
from passes.lowering.pack import apart, gains_of

if TYPE_CHECKING:
    from dlc.cost.price import Prices

NO_MEMORY = "there is no memory for it"


@dataclass(frozen=True, slots=True)
class Pack:
    """A call that reads its weights packed, or, with a `reason`, packs them itself each of so many times in a step.

    `bytes` are those of what is packed, `seconds` what a step saves on a rank.
    """

    address: str
    kernel: tuple[str, str, str]
    reads: int
    bytes: int
    seconds: float
    reason: str = ""


def packs(program: Program, price: Prices, threads: int, context: Context) -> tuple[Pack, ...]:
    """Those of a step of a program with kernels in C, each once."""
    assert context.pack is not None
    against = "" if context.packs("c") else "the plan forbids it"
    found: dict[tuple[str, str], Pack] = {}
    for role in program.roles:
        for each in _packed(role, price):
            found.setdefault((role.name, each.address), each)
    for role, made, reads, reason in apart(program, threads, context.pack, gains_of(context)):
        why = against or reason or NO_MEMORY
        found.setdefault((role.name, made.address), Pack(made.address, made.kernel, reads, 0, 0.0, why))
    return tuple(found.values())


def _packed(role: Role, price: Prices) -> Iterator[Pack]:
    """What is read packed: a step saves as many times as it is read, and packs it once."""
    runs = role.runs(TRAIN_STEP)
    storage, samples = Storage(role, role.largest_shard), role.largest_shard
    calls = [(each, segment.name) for segment in role.segments for each in segment.instructions if runs[segment.name]]
    packing = {name: price(each, role, samples) for each, _ in calls if isinstance(each, Compute)
               for name in each.outputs if role.buffer(name).kind == "packed"}  # fmt: skip
    reads = Counter[str]()
    readers: dict[str, Compute] = {}
    for each, segment in calls:
        if isinstance(each, Compute) and each.kernel[1] != UPDATES:
            for name in each.packs:
                reads[name] += runs[segment]
                readers.setdefault(name, main_of(each))
    for name, made in readers.items():
        saves = reads[name] * price.saved(made, role, samples) - packing[name]
        yield Pack(made.address, made.kernel, reads[name], storage.bytes(role.buffer(name)), saves)


def packs_document(found: Iterable[Pack]) -> list[dict[str, object]]:
    """The same as JSON, one by one; bytes and seconds."""
    return [asdict(each) for each in found]


def packs_text(found: Iterable[Pack]) -> str:
    """One row for those of a kind, what is packed first."""
    kinds = sorted(found, key=lambda each: (bool(each.reason), _kind(each), each.reason))
    rows = [_row(tuple(alike)) for _, alike in groupby(kinds, lambda each: (_kind(each), each.reason))]
    return table(
        ("weights packed once", "ops", "reads", "takes", "saves", "first", "why not"), rows, right=(1, 2, 3, 4)
    )


def _kind(each: Pack) -> str:
    op, stage, algorithm = each.kernel
    return " ".join(filter(None, (op, stage, algorithm)))


def _row(alike: tuple[Pack, ...]) -> tuple[str, ...]:
    first, count, reads = alike[0], f"{len(alike):,}", f"{alike[0].reads:,}"
    if first.reason:
        return _kind(first), count, reads, "", "", first.address, first.reason
    size, saves = sum(each.bytes for each in alike), sum(each.seconds for each in alike)
    return _kind(first), count, reads, format_bytes(size), format_seconds(saves), first.address, ""
