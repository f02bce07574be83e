"""What the ranks of a program say to each other in one training step, alike messages together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace

from dlc.inspect.tables import table
from dlc.ir.program import TRAIN_STEP, Collective, Instruction, Program, Role, Send
from dlc.units import format_bytes, format_seconds


@dataclass(frozen=True, slots=True)
class Exchange:
    """Alike messages of one rank in a step: `times` of them, each of `bytes` in a group of so many `ranks`.

    `bytes` is the operand as in `dlc.ir.program.Collective`; `seconds` are those of all of them, on the rank where they
    take longest.
    """

    kind: str
    group: str
    ranks: int
    algorithm: str
    bytes: int
    reason: str
    times: int = 0
    seconds: float = 0.0


def exchanges(program: Program, price: Callable[[Instruction, Role, int], float]) -> tuple[Exchange, ...]:
    """Everything that is communicated in a step, what takes longest first; `price` gives an instruction's seconds."""
    groups = {group.name: max(map(len, group.members)) for group in program.groups}
    found: dict[Exchange, Exchange] = {}
    for role in program.roles:
        for alike, (times, seconds) in _of_role(role, groups, price).items():
            known = found.get(alike, alike)
            found[alike] = replace(alike, times=max(times, known.times), seconds=max(seconds, known.seconds))
    return tuple(sorted(found.values(), key=lambda each: -each.seconds))


def _of_role(
    role: Role, groups: dict[str, int], price: Callable[[Instruction, Role, int], float]
) -> dict[Exchange, tuple[int, float]]:
    """Alike messages of a role -> (how many a step, their seconds)."""
    found: dict[Exchange, tuple[int, float]] = {}
    largest = role.largest_shard
    for instruction, often in _messages(role):
        alike = _exchange(instruction, groups)
        times, seconds = found.get(alike, (0, 0.0))
        found[alike] = times + often, seconds + often * price(instruction, role, largest)
    return found


def _messages(role: Role) -> Iterator[tuple[Collective | Send, int]]:
    """Collectives and sends of a step, and how often its schedule has them."""
    for name, often in role.runs(TRAIN_STEP).items():
        for instruction in role.segment(name).instructions:
            if isinstance(instruction, Collective | Send):
                yield instruction, often


def _exchange(made: Collective | Send, groups: dict[str, int]) -> Exchange:
    if isinstance(made, Send):
        way = "to the next stage" if made.peer > 0 else "back to the stage before"
        return Exchange("send", made.group, 2, "", made.bytes, way)
    return Exchange(made.kind, made.group, groups.get(made.group, 1), made.algorithm, made.bytes, made.reason)


def communication_document(found: tuple[Exchange, ...]) -> list[dict[str, object]]:
    """The exchanges as JSON; seconds and bytes."""
    return [asdict(each) for each in found]


SHOWN = 12
"""So many rows are shown, the longest; what is left is summed up in one more."""


def communication_text(found: tuple[Exchange, ...]) -> str:
    """One row for messages that are alike in kind, group, algorithm and size."""
    rows = [_row(each) for each in found[:SHOWN]]
    if len(found) > SHOWN:
        rest = found[SHOWN:]
        times, seconds = sum(each.times for each in rest), sum(each.seconds for each in rest)
        rows.append((f"and {len(rest)} more", "", "", "", "", f"{times:,}", format_seconds(seconds), ""))
    header = ("communication", "group", "ranks", "algorithm", "size", "a step", "time", "why")
    return table(header, rows, right=(2, 4, 5, 6))


def _row(each: Exchange) -> tuple[str, ...]:
    return (
        each.kind,
        each.group,
        f"{each.ranks:,}",
        each.algorithm,
        format_bytes(each.bytes),
        f"{each.times:,}",
        format_seconds(each.seconds),
        each.reason,
    )
