"""Prices and programs of tests of timelines, and what happens in one."""

from __future__ import annotations

from collections.abc import Iterable
from zlib import crc32

from dlc.cost.timeline import Lane
from dlc.ir.execution import Price
from dlc.ir.program import (
    Buffer,
    Collective,
    CommunicationGroup,
    Compute,
    Entry,
    Instruction,
    Program,
    Receive,
    Role,
    Row,
    Segment,
    Send,
)
from dlc.ir.storage import title
from dlc.ir.tensor import tensor
from tests.ir.sample_programs import shards

COMMUNICATES = (Collective, Send, Receive)


def by_name(**seconds: float) -> Price:
    """Fixed seconds for the instructions of these names, `_` standing for `@`; nothing for all others."""
    return lambda instruction, role, samples: seconds.get(title(instruction).replace("@", "_"), 0.0)


def by_sample(messages: float) -> Price:
    """A kernel takes a second a sample, a collective or message always the same."""
    return lambda i, role, samples: messages if isinstance(i, COMMUNICATES) else float(samples)


def drawn_price(seed: int) -> Price:
    """Prices that depend on the instruction, the role and the samples, and on nothing else."""

    def price(instruction: Instruction, role: Role, samples: int) -> float:
        key = f"{seed} {title(instruction)} {type(instruction).__name__}"
        own = "" if isinstance(instruction, COMMUNICATES) else role.name
        return (1 + crc32((key + own).encode()) % 97) * (1.0 if own == "" else 0.25 + samples)

    return price


def one_segment(instructions: Iterable[Instruction], ranks: int = 2) -> Program:
    """Ranks that do nothing but these instructions, in an entry `train_step`."""
    batch = ranks
    buffers = (
        Buffer("w", tensor("f32", element=4), "weight"),
        *(Buffer(f"b{i}", tensor("f32", element=4), "gradient") for i in range(3)),
    )
    role = Role(
        "worker",
        tuple(range(ranks)),
        shards(batch, ranks),
        buffers,
        (Segment("all", tuple(instructions)),),
        (Entry("train_step", (Row("all"),)),),
    )
    return Program("p", batch, "f32", (role,), (CommunicationGroup("data", (tuple(range(ranks)),)),))


def spans(lane: Lane) -> list[tuple[str, str, float, float]]:
    """(stream, name, start, end) of the events that take time."""
    return [(e.stream, e.name, e.start, e.end) for e in lane.events if e.end > e.start]


def passes(forward: float, backward: float) -> Price:
    """Even stages: every forward and every backward kernel takes as long, all else nothing."""

    def price(instruction: Instruction, role: Role, samples: int) -> float:
        if not isinstance(instruction, Compute) or not instruction.address.startswith("s"):
            return 0.0
        return {"forward": forward, "dx": backward, "dw": 0.0}[instruction.kernel[1]]

    return price
