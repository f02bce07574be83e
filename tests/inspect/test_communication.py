"""Messages of a step: alike ones together, as often as the schedule has them."""

from __future__ import annotations

from dataclasses import replace

from dlc.inspect.communication import SHOWN, Exchange, communication_text, exchanges
from dlc.ir.program import Collective, CommunicationGroup, Entry, Instruction, Program, Role, Row, Segment, Send


def sum_of(name: str, size: int, algorithm: str = "ring") -> Collective:
    return Collective(name, "allreduce", "data", algorithm, name, size, reason="sums")


def role(name: str, ranks: tuple[int, ...], forward: tuple[Instruction, ...], microbatches: int) -> Role:
    rows = (*(Row("forward", m) for m in range(microbatches)), Row("update"))
    segments = (
        Segment("forward", forward),
        Segment("update", (sum_of("all", 800),)),
        Segment("eval", (sum_of("e", 8),)),
    )
    entries = (Entry("train_step", rows), Entry("eval_step", (Row("eval"),)))
    return Role(name, ranks, tuple((0, 4) for _ in ranks), (), segments, entries)


def price(instruction: Instruction, role: Role, samples: int) -> float:
    """A microsecond a byte, twice that on the second role; every rank has 4 samples."""
    assert samples == 4
    assert isinstance(instruction, Collective | Send)
    return instruction.bytes * 1e-6 * (2 if role.name == "second" else 1)


PROGRAM = Program(
    "net",
    8,
    "f32",
    (
        role("first", (0, 1), (sum_of("a", 100), sum_of("b", 100), Send("s", "pipeline", 1, "x", 50)), 3),
        role("second", (2, 3), (sum_of("c", 100),), 3),
    ),
    (CommunicationGroup("data", ((0, 1), (2, 3))), CommunicationGroup("pipeline", ((0, 2), (1, 3)))),
)


def test_alike_messages_of_a_step() -> None:
    found = {(each.kind, each.bytes): each for each in exchanges(PROGRAM, price)}
    assert set(found) == {("allreduce", 100), ("allreduce", 800), ("send", 50)}, "nothing of the evaluation"
    # the first role has two of them three times at 100 us, the second one three times at 200 us
    assert (found["allreduce", 100].times, round(found["allreduce", 100].seconds, 9)) == (6, 600e-6)
    assert (found["allreduce", 800].times, round(found["allreduce", 800].seconds, 9)) == (1, 1600e-6)
    assert found["send", 50].times == 3
    assert found["send", 50].reason == "to the next stage"
    assert found["allreduce", 100].ranks == 2


def test_what_takes_longest_stands_first() -> None:
    seconds = [each.seconds for each in exchanges(PROGRAM, price)]
    assert seconds == sorted(seconds, reverse=True)


def test_long_tables_end_in_a_sum() -> None:
    one = Exchange("allreduce", "data", 2, "ring", 10, "sums", 2, 0.001)
    text = communication_text(tuple(replace(one, bytes=size) for size in range(SHOWN + 3)))
    last = text.splitlines()[-1].split()
    assert last == ["and", "3", "more", "6", "3", "ms"]
