"""The Programs of plans that are compared: simulated before their arrays share memory, measured after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from dlc.cost.memory import peak_bytes
from dlc.cost.price import default_price
from dlc.cost.timeline import makespan
from dlc.ir.graph import Graph
from dlc.ir.plan import Plan
from dlc.ir.program import TRAIN_STEP, Program
from dlc.ir.tensor import NARROW
from passes.context import Context
from passes.lower import lower, lower_apart
from passes.lowering.lowered import Lowered
from passes.planning.compare import decisions

KEPT = 8
"""How many Programs are kept: where nothing fits, many are looked at once."""


@dataclass(slots=True)
class Programs:
    """Those of the plans of one training graph under one context. The first `KEPT` are not lowered again.

    On processors they are measured as the backend prints them, with the f32 arrays in which NumPy's kernels compute
    half precision; other devices compute with it as it is.
    """

    graph: Graph
    context: Context
    apart: list[tuple[Plan, Lowered]] = field(default_factory=list)
    simulated: list[tuple[Plan, float]] = field(default_factory=list)
    whole: list[tuple[Plan, Program]] = field(default_factory=list)

    def seconds(self, plan: Plan) -> float:
        """Seconds of a plan's simulated step."""
        found = _known(self.simulated, plan)
        if found is None:
            made = self._lowered(plan).apart
            price = default_price(made, self.context.cluster, self.context.profile)
            overlap = 0.0 if self.context.request.overlap == "no" else self.context.cluster.device_of(0).overlap
            found = makespan(made, TRAIN_STEP, price, overlap)
            self.simulated.append((plan, found))
        return found

    def _lowered(self, plan: Plan) -> Lowered:
        """A plan's Program, each array in memory of its own as yet."""
        found = _known(self.apart, plan)
        if found is None:
            found = lower_apart(self.graph, plan, self.context)
            if len(self.apart) < KEPT:
                self.apart.append((plan, found))
        return found

    def allocated(self, graph: Graph, context: Context, plan: Plan) -> int:
        """Bytes that the Program of a plan allocates on the rank with most, for this graph or that of a way out."""
        context = context.with_(widens=widens(context))
        if graph is self.graph and _lowering(context) == _lowering(self.context):
            return peak_bytes(self.program(plan))
        return peak_bytes(lower(graph, plan, context))

    def program(self, plan: Plan) -> Program:
        """The Program of a plan."""
        found = _known(self.whole, plan)
        if found is None:
            found = self._lowered(plan).program()
            if len(self.whole) < KEPT:
                self.whole.append((plan, found))
        return found


Made = TypeVar("Made")


def _known(made: Sequence[tuple[Plan, Made]], plan: Plan) -> Made | None:
    """What was made of a plan that decides the same."""
    alike = decisions(plan)
    return next((each for other, each in made if decisions(other) == alike), None)


def widens(context: Context) -> bool:
    """Whether the devices compute half precision in arrays of f32, which take memory."""
    return context.compute in NARROW and context.cluster.device_of(0).kind == "cpu"


def _lowering(context: Context) -> tuple[object, ...]:
    """What lowering goes by, beside the graph and the plan."""
    return (
        context.cluster,
        context.ranks,
        context.training,
        context.compute,
        context.widens,
        context.hides,
        context.request.allreduce,
    )
