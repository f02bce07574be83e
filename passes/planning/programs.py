"""The Programs of plans that are compared: simulated before their arrays share memory, measured after."""

from __future__ import annotations

from dataclasses import dataclass, field

from dlc.cost.memory import peak_bytes
from dlc.cost.price import default_price
from dlc.cost.timeline import makespan
from dlc.ir.graph import Graph
from dlc.ir.plan import Plan
from dlc.ir.program import Program
from dlc.ir.tensor import NARROW
from passes.context import Context
from passes.lower import lower, lower_apart
from passes.lowering.program import Lowered
from passes.planning.plan import decisions


@dataclass(slots=True)
class Programs:
    """Those of the plans of one training graph under one context. What was simulated is not lowered again.

    On processors they are measured as the backend prints them, with the f32 arrays in which NumPy's kernels compute
    half precision; other devices compute with it as it is.
    """

    graph: Graph
    context: Context
    apart: list[tuple[Plan, Lowered]] = field(default_factory=list)
    simulated: list[float] = field(default_factory=list)  # seconds of the same
    whole: list[tuple[Plan, Program]] = field(default_factory=list)

    def seconds(self, plan: Plan) -> float:
        """Seconds of a plan's simulated step."""
        alike = decisions(plan)
        for (other, _), seconds in zip(self.apart, self.simulated, strict=True):
            if decisions(other) == alike:
                return seconds
        made = lower_apart(self.graph, plan, self.context)
        self.apart.append((plan, made))
        price = default_price(made.apart, self.context.cluster, self.context.profile)
        overlap = 0.0 if self.context.request.overlap == "no" else self.context.cluster.device_of(0).overlap
        self.simulated.append(makespan(made.apart, "train_step", price, overlap))
        return self.simulated[-1]

    def allocated(self, graph: Graph, context: Context, plan: Plan) -> int:
        """Bytes that the Program of a plan allocates on the rank with most, for this graph or that of a way out."""
        context = context.with_(widens=widens(context))
        if graph is self.graph and _lowering(context) == _lowering(self.context):
            return peak_bytes(self.program(plan))
        return peak_bytes(lower(graph, plan, context))

    def program(self, plan: Plan) -> Program:
        """The Program of a plan."""
        alike = decisions(plan)
        known = next((made for other, made in self.whole if decisions(other) == alike), None)
        if known is not None:
            return known
        simulated = next((made for other, made in self.apart if decisions(other) == alike), None)
        if simulated is None:
            return lower(self.graph, plan, self.context)
        self.whole.append((plan, simulated.program()))
        return self.whole[-1][1]


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
