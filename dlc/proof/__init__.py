"""The proof that a Program computes its network: the static check of its contents.

`dlc.ir.check` looks at a Program by itself: who meets whom, what is written before it is read, what fits. This looks at
it beside its graph: every entry point is followed once for each role, and for each buffer what it holds is known (which
value, of which microbatch, how the ranks hold it between them). Every kernel must read just the values of its node, in
a form that its op can be split in; what each collective, message and copy makes of a form follows from the mesh; and at
the end every weight must be updated by the sum of its gradient's parts over all microbatches and ranks, each once, and
every result be whole.
"""

from __future__ import annotations

from dlc.collection import no_collection
from dlc.ir.check import check as check_alone
from dlc.ir.graph import Graph
from dlc.ir.problem import Problem
from dlc.ir.program import Program
from dlc.ir.storage import storages_of
from dlc.proof.entries import prove


def check(program: Program, graph: Graph, memory_limit: int | None = None) -> tuple[Problem, ...]:
    """All faults of a program of a training graph; `memory_limit` in bytes a rank.

    Contents are looked at where nothing else is wrong: before that they mean nothing.
    """
    with no_collection():
        storages = storages_of(program)
        return check_alone(program, memory_limit, storages) or prove(program, graph, storages)


__all__ = ["check", "prove"]
