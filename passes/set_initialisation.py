"""First weights by the train block's `init`; without one, each op starts as PyTorch's does."""

from __future__ import annotations

from dataclasses import replace

from dlc.ir.graph import Graph, Init, Value
from dlc.ir.training import Choice
from passes.context import Context


def set_initialisation(graph: Graph, context: Context) -> Graph:
    """Under `init = he`, `c1.conv.weight` starts normal with std √(2/fan_in) and its bias at zero.

    It reaches the weights and biases that have a fan-in: those of convolutions, linear maps, attention and recurrent
    networks. Directions of a weight norm start as the weight would, magnitudes as their norms whatever the directions
    are.
    """
    return initialised(graph, context.training.init)


def initialised(graph: Graph, init: Choice | None) -> Graph:
    """The same without a context; None leaves each op its own."""
    if init is None:
        return graph
    arguments = dict(init.arguments)
    value = arguments.get("value", 0.0)
    number = float(value) if isinstance(value, int | float) else 0.0
    return graph.with_(values=tuple(_started(v, init.kind, number) for v in graph.values))


def _started(value: Value, kind: str, number: float) -> Value:
    if value.init is None or value.init.kind not in ("kaiming_uniform", "glorot"):
        return value
    if value.name.rpartition(".")[2].startswith("bias") and kind != "constant":
        return replace(value, init=Init("constant"))
    return replace(value, init=replace(value.init, kind=kind, value=number))
