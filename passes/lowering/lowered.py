"""A Program on its way from single arrays to those that share memory, and how many of its weights are packed once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat

from dlc.cost.memory import peak_bytes
from dlc.ir.plan import Plan
from dlc.ir.program import Program
from passes.context import Context
from passes.lowering.memory import shared
from passes.lowering.pack import gains_of, packed_program
from passes.lowering.rooms import with_rooms

TRIES = 5
"""How often the bytes of packed weights are halved, to find how many fit."""


@dataclass(frozen=True, slots=True)
class Lowered:
    """A Program in which no arrays share memory, `apart`, which takes as long as the `program`; by role, the outputs
    that it hands on, and what is read when an entry is over."""

    apart: Program
    outputs: tuple[tuple[str, ...], ...]
    scalars: tuple[str, ...]
    plan: Plan
    context: Context

    def roomy(self) -> Program:
        """With what its kernels work in, still apart: it takes no less memory than the `program`."""
        return with_rooms(self.apart, self.plan, self.context)

    def program(self) -> Program:
        """The Program whose arrays share memory (`passes.lowering.memory`), with what its kernels work in."""
        roomy = self.roomy()
        return replace(roomy, roles=tuple(map(shared, roomy.roles, self.outputs, repeat(self.scalars))))


def with_packs(program: Program, lowered: Callable[[Program], Lowered]) -> Lowered:
    """What `lowered` makes of a program whose weights are packed once, as many of them as there is memory for: that is
    looked at where it may not suffice."""
    bare = lowered(program)
    context, plan = bare.context, bare.plan
    assert context.pack is not None
    packing = partial(packed_program, program, plan.threads, context.pack, gains_of(context))
    limit, made = context.memory.bytes, packing()
    if made is program:
        return bare
    found = lowered(made)
    if peak_bytes(found.roomy()) <= limit or peak_bytes(found.program()) <= limit:
        return found
    best, low = bare, 0.0
    high = float(sum(buffer.type.bytes for role in made.roles for buffer in role.buffers if buffer.kind == "packed"))
    for _ in range(TRIES):  # what calls have packed they need not work in: less may be added than packs take
        found = lowered(packing(most=(low + high) / 2))
        if peak_bytes(found.program()) <= limit:
            best, low = found, (low + high) / 2
        else:
            high = (low + high) / 2
    return best
