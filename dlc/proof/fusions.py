"""Fused calls: what is proved of their members holds for them, if they are just what the members make together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from dlc.ir.program import Compute
from dlc.ops.fusion import fused, keeps
from dlc.proof.memory import Content
from dlc.proof.state import At, State
from dlc.proof.terms import term

FUSED = -1
"""Stands for the split in what is known to be right of calls."""


def compute(state: State, at: At, made: Compute, member: Callable[[State, At, Compute], None]) -> None:
    """A fused call: its members in order, behind which nothing has what one of them has handed to another."""
    if (id(made), FUSED) not in state.layout.checked:
        call = fused(made.members, state.role.buffer, keeps(made))
        if call is None or replace(call, workspaces=made.workspaces) != made:  # they change for kernels in C
            words = ", ".join(f"`{each.address}`" for each in made.members)
            state.problem("content", made, f"`{made.address}` is not what {words} are together")
        state.layout.checked.add((id(made), FUSED))
    for each in made.members:
        member(state, at, each)
    for name in made.inner:
        state.memory.write(name, at.row.slot, Content(term(f"what `{made.address}` has not stored"), -1))
