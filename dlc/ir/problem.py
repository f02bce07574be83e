"""What the static check of a Program finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ProblemKind = Literal[
    "structure",  # a name, a group or a shard that does not fit the rest
    "unwritten",  # read before it is written
    "unsummed",  # used before it is summed over the ranks
    "twice",  # summed twice
    "unused",  # computed for nothing
    "in flight",  # touched while a non-blocking collective holds it
    "wait",  # a wait without a start, or a start without a wait
    "overlap",  # two buffers of one instruction share bytes
    "bytes",  # a count of bytes that is not the buffer's
    "mismatch",  # ranks that meet do different things
    "deadlock",  # ranks wait for each other for ever
    "memory",  # more than the limit
    "content",  # read where something else lies than what is meant
    "parts",  # held by the ranks otherwise than what reads it needs, or with parts missing
]


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of a Program: a sentence that stands alone, and where it lies.

    `role` and `entry` are names, `instruction` an address or an instruction's name; "" where it has none.
    """

    kind: ProblemKind
    sentence: str
    role: str = ""
    entry: str = ""
    instruction: str = ""

    def __str__(self) -> str:
        where = ", ".join(f"{what} `{name}`" for what, name in (("role", self.role), ("entry", self.entry)) if name)
        return f"{self.sentence} ({where})" if where else self.sentence
