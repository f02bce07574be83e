"""The proof, entry by entry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from dlc.ir.graph import Graph
from dlc.ir.problem import Problem
from dlc.ir.program import TRAIN_STEP, Program, Row
from dlc.ir.ranks import schedule
from dlc.ir.storage import Storage, storages_of
from dlc.proof.folding import followed
from dlc.proof.forms import Forms
from dlc.proof.memory import Layout
from dlc.proof.neighbours import Around
from dlc.proof.results import check_outputs, check_step, check_totals
from dlc.proof.rules import Rules
from dlc.proof.state import At, State
from dlc.proof.terms import Meaning
from dlc.proof.updates import changes_of
from dlc.proof.walk import Walk

ENTRIES = ((TRAIN_STEP,), ("eval_step", "eval_totals"), ("predict",))
"""Entry points that follow one another; those of a group find what the one before has left."""


def prove(program: Program, graph: Graph, storages: Sequence[Storage] | None = None) -> tuple[Problem, ...]:
    """The faults in what the buffers of a program hold, none if it computes its training graph.

    `storages` are those of `storages_of`, where they are there already.
    """
    bare = [role.name for role in program.roles if role.mesh is None]
    if bare:
        return tuple(Problem("structure", "the ranks of a role are no mesh", name) for name in bare)
    around = Around(program)
    found = tuple(around.problems())
    if found:
        return found
    forms = Forms()
    layouts = [Layout(graph, storage) for storage in storages or storages_of(program)]
    rules = [Rules(graph, each.mesh, each.storage.microbatches, forms) for each in layouts]
    return tuple(problem for names in ENTRIES for problem in _prove(program, around, layouts, rules, names))


def _prove(
    program: Program, around: Around, layouts: Sequence[Layout], rules: Sequence[Rules], names: Sequence[str]
) -> Iterator[Problem]:
    graph = layouts[0].graph
    rows = [_rows(program, name, layouts) for name in names]
    numbers = tuple(sorted({at.microbatch for of_role in rows[0] for at in of_role}))
    meaning, changes = Meaning(graph, inference=names[0] != TRAIN_STEP), changes_of(program, graph)
    states = [
        State(program, names[0], meaning, of_role, layout, numbers, changes)
        for of_role, layout in zip(rules, layouts, strict=True)
    ]
    outputs = tuple(buffer for _, buffer in program.outputs) if names[0] == "predict" else ()
    for name, of_roles in zip(names, rows, strict=True):
        for state in states:
            state.entry = name
        Walk(states, of_roles, around, outputs).run()
    if names[0] == TRAIN_STEP:
        check_step(states)
    elif names[0] == "predict":
        check_outputs(states, program.outputs)
    else:
        check_totals(states)
    for state in states:
        yield from state.found.values()


def _rows(program: Program, entry: str, layouts: Sequence[Layout]) -> list[list[At]]:
    """The rows of each role that are followed."""
    count = 1 + max((row.microbatch for role in program.roles for row in schedule(role, entry)), default=0)
    return followed(layouts, [numbered(schedule(role, entry), count) for role in program.roles], count)


def numbered(rows: Sequence[Row], count: int) -> list[At]:
    """The rows with the numbers of their microbatches: a segment's next run of one is of the next batch."""
    runs: Counter[tuple[str, int]] = Counter()
    found = []
    for row in rows:
        found.append(At(row, row.microbatch + count * runs[row.segment, row.microbatch]))
        runs[row.segment, row.microbatch] += 1
    return found
