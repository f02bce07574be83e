"""Every candidate for one op with its costs, and the rule that excludes each other one: data for `dlc explain`."""

from __future__ import annotations

from dataclasses import dataclass

from dlc.ir.graph import Graph
from dlc.ir.plan import Figure, OpPlan, Plan
from passes.context import Context
from passes.layouts import conversions
from passes.survey import survey


@dataclass(frozen=True, slots=True)
class Priced:
    """One way to compute one pass: its figure where it is legal, else why it is not; whether the plan takes it."""

    stage: str
    layout: str
    algorithm: str
    figure: Figure | None
    excluded: str | None
    taken: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    """An op's decisions, all candidates by pass and layout, and the conversions that its neighbours make around it.

    `conversions` are (value, from, to, seconds).
    """

    op: OpPlan
    candidates: tuple[Priced, ...]
    conversions: tuple[tuple[str, str, str, float], ...]


def explain(graph: Graph, context: Context, plan: Plan, address: str) -> Explanation:
    """Why the op at an address is computed as the plan says; KeyError where the plan has no such op."""
    found, op = survey(graph, context), plan.op(address)
    priced = []
    for candidate in found.candidates[address]:
        node, layout, algorithm = candidate.node, candidate.layout, candidate.algorithm
        figure = None if candidate.excluded else found.prices.figure(node, layout, algorithm)
        taken = layout == op.layout and algorithm == op.algorithm(node.stage)
        priced.append(Priced(node.stage, layout, algorithm, figure, candidate.excluded, taken))
    around = {name for node in graph.nodes if node.base == address for name in (*node.inputs, *node.outputs)}
    layouts = {other.address: other.layout for other in plan.ops}
    copies = tuple(
        (made.value, made.source, made.target, found.prices.conversion(made.type))
        for made in conversions(graph, layouts)
        if made.value in around
    )
    return Explanation(op, tuple(priced), copies)
