"""Programs of tests' plans, and what is asked of them."""

from __future__ import annotations

from typing import Any

from dlc.ir.graph import Graph
from dlc.ir.program import Collective, Instruction, Program
from passes.lower import lower
from tests.passes.lowering.plans import Rule, on, plan_of

PIPELINE: dict[str, Any] = {"schedule": "one_f_one_b", "microbatches": 4, "stages": 2}


def program(graph: Graph, mesh: dict[str, int], rule: Rule, overlap: float = 0.0, **more: Any) -> Program:
    plan = plan_of(graph, mesh, rule, **more)
    return lower(graph, plan, on(plan.ranks, overlap=overlap))


def run(made: Program, role: str, *segments: str) -> list[Instruction]:
    """The instructions of some segments of a role."""
    (found,) = (each for each in made.roles if each.name == role)
    return [i for name in segments for i in found.segment(name).instructions]


def collectives(made: Program, *segments: str, role: str = "worker") -> list[tuple[str, str, str]]:
    return [(i.kind, i.group, i.buffer) for i in run(made, role, *segments) if isinstance(i, Collective)]
