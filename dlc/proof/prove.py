"""The proof, entry by entry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from dlc.ir.graph import Graph
from dlc.ir.mesh import Mesh
from dlc.ir.problem import Problem
from dlc.ir.program import Program, Role, Row
from dlc.ir.ranks import schedule
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

ENTRIES = (("train_step",), ("eval_step", "eval_totals"), ("predict",))
"""Entry points that follow one another; those of a group find what the one before has left."""


def prove(program: Program, graph: Graph) -> tuple[Problem, ...]:
    """The faults in what the buffers of a program hold, none if it computes its training graph."""
    meshes = tuple(_mesh(role) for role in program.roles)
    around = Around(program, meshes)
    found = tuple(around.problems())
    if found:
        return found
    forms = Forms()
    rules = [_rules(role, graph, mesh, forms) for role, mesh in zip(program.roles, meshes, strict=True)]
    return tuple(problem for names in ENTRIES for problem in _prove(program, graph, around, rules, names))


def _rules(role: Role, graph: Graph, mesh: Mesh, forms: Forms) -> tuple[Layout, Rules]:
    """Where a role's buffers lie, and what passes of ops make of forms on its mesh."""
    layout, shards = Layout(role, graph), role.shards if role.mesh is None and len(role.ranks) > 1 else ()
    return layout, Rules(graph, mesh, layout.storage.microbatches, forms, shards)


def _mesh(role: Role) -> Mesh:
    """The mesh of a role's ranks; samples alone are split where it says none."""
    if role.mesh is not None:
        return role.mesh
    return Mesh((("data", len(role.ranks)),) if len(role.ranks) > 1 else (), role.ranks[0])


def _prove(
    program: Program, graph: Graph, around: Around, rules: Sequence[tuple[Layout, Rules]], names: Sequence[str]
) -> Iterator[Problem]:
    rows = [_rows(program, name, [layout for layout, _ in rules]) for name in names]
    numbers = tuple(sorted({at.microbatch for of_role in rows[0] for at in of_role}))
    meaning, changes = Meaning(graph, inference=names[0] != "train_step"), changes_of(graph)
    states = [State(program, names[0], meaning, of_role, layout, numbers, changes) for layout, of_role in rules]
    outputs = tuple(buffer for _, buffer in program.outputs) if names[0] == "predict" else ()
    for name, of_roles in zip(names, rows, strict=True):
        for state in states:
            state.entry = name
        Walk(states, of_roles, around, outputs).run()
    if names[0] == "train_step":
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
