"""The Programs that faults are planted in: small networks under plans of every kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from typing import Any

from dlc.driver import Options, context_of, read, training_graph
from dlc.ir.graph import Graph
from dlc.ir.plan import Plan
from dlc.ir.program import Program
from dlc.ir.request import Split
from dlc.ir.training import Choice, Precision
from passes.context import Context
from passes.lower import lower
from tests.passes.lowering.compared import drawn, serial, stacked
from tests.passes.lowering.plans import by, megatron, on, plan_of, reduced, trained
from tests.passes.lowering.virtual_ranks import World
from tests.passes.sample_networks import TRAINING, Network, context
from tests.specs.reduced import REDUCED

Case = dict[str, Any]
DATA, BOTH = by(data="batch"), by(data="batch", model="channel feature")
TWO = {"data": 2, "model": 2}


@dataclass(frozen=True)
class Base:
    """A sound Program with its graph and plan, and what runs of it are compared with."""

    name: str
    graph: Graph
    plan: Plan
    context: Context | None = None
    overlap: float = 0.0

    @cached_property
    def program(self) -> Program:
        """The Program of the plan."""
        return lower(self.graph, self.plan, on(self.plan.ranks, self.context, self.overlap))

    @cached_property
    def given(self) -> dict[str, Any]:
        """Data and weights to run with."""
        return drawn(self.graph)

    @cached_property
    def alone(self) -> World:
        """The serial program, run once."""
        return serial(self.graph, self.given, self.context)

    @cached_property
    def stacked(self) -> dict[str, int]:
        """Weights that hold several tensors."""
        return stacked(self.graph, self.plan)


def mlp(base: Context | None = None) -> Graph:
    """Two layers of one size, so that their tensors can be taken for one another."""
    net = Network(8)
    x = net("relu", net("linear", net("flatten", net.image(2, 2, 2)), features=8))
    return trained(net, net("add", x, net("tanh", net("linear", x, features=8))), base=base)


REGULARISED = replace(
    context(),
    training=replace(TRAINING, regularise=(Choice("l1", (("strength", 0.01),)), Choice("l2", (("strength", 0.02),)))),
)


def convolutions() -> Graph:
    """Windows that overlap, and means over what is split."""
    net = Network(4)
    x = net("relu", net("conv", net.image(4, 8, 8), filters=4, window=3, pad="same"))
    x = net("add", net("conv", x, filters=4, window=3, pad="same"), x)
    return trained(net, net("global_avgpool", net("maxpool", x, window=3, stride=2, pad=1)))


def normalised() -> Graph:
    """Groups of batch norm that span ranks, and some that do not."""
    net = Network(8)
    x = net("relu", net("bn", net("conv", net.image(2, 4, 4), filters=4, window=3, pad="same", bias=False), group=8))
    return trained(net, net("global_avgpool", net("bn", net("conv", x, filters=4, window=1), group=2)))


def residual() -> Graph:
    """Batch norm with a ReLU, and with an addition and a ReLU behind it."""
    net = Network(8)
    x = net("relu", net("bn", net("conv", net.image(2, 4, 4), filters=4, window=3, pad="same", bias=False), group=2))
    y = net("bn", net("conv", x, filters=4, window=3, pad="same"), group=2)
    return trained(net, net("global_avgpool", net("relu", net("add", x, y))))


def chained() -> Graph:
    """Element-wise ops one behind the other: sums, activations and dropout, forward and back."""
    net = Network(4)

    def convolved(x: str) -> str:
        return net("conv", x, filters=2, window=3, pad="same")

    once = net("tanh", convolved(net.image(2, 4, 4)))
    twice = convolved(net("add", net("dropout", convolved(once), p=0.25), once))
    x = net("add", net("sigmoid", twice), convolved(twice))
    y = convolved(net("dropout", net("relu", convolved(x)), p=0.25))
    return trained(net, net("global_avgpool", net("relu", net("add", x, y))))


PIPELINE: Case = {"microbatches": 4, "stages": 2}
CASES: dict[str, tuple[Callable[[], Graph], Case]] = {
    "data": (mlp, {"mesh": {"data": 2}, "rule": DATA, "overlap": 0.9}),
    "model": (mlp, {"mesh": {"model": 2}, "rule": by(model="channel feature"), "microbatches": 2}),
    "what is summed": (mlp, {"mesh": TWO, "rule": by(data="batch", model="reduce channel feature")}),
    "spatial": (convolutions, {"mesh": TWO, "rule": by(data="width", model="height")}),
    "inner rows first": (
        convolutions,
        {"mesh": TWO, "rule": by(data="batch", model="height"), "overlap": 0.9, "asked": "yes"},
    ),
    "samples and rows": (convolutions, {"mesh": TWO, "rule": by(data="batch", model="height")}),
    "batch norm": (normalised, {"mesh": TWO, "rule": by(data="batch", model="height")}),
    "fused": (residual, {"mesh": {"data": 2}, "rule": DATA, "kernels": "c", "microbatches": 2}),
    "fused, over ranks": (normalised, {"mesh": TWO, "rule": by(data="batch", model="height"), "kernels": "c"}),
    "fused, element by element": (chained, {"mesh": {"data": 2}, "rule": DATA, "kernels": "c"}),
    "ZeRO 1": (mlp, {"mesh": TWO, "rule": BOTH, "shard": "optimizer"}),
    "ZeRO 2": (mlp, {"mesh": {"data": 2}, "rule": DATA, "shard": "gradients", "microbatches": 2, "overlap": 0.9}),
    "ZeRO 3": (mlp, {"mesh": TWO, "rule": BOTH, "shard": "weights", "microbatches": 2}),
    "recompute": (convolutions, {"mesh": {"data": 2}, "rule": DATA, "recompute": "all", "microbatches": 2}),
    "gpipe": (mlp, {"mesh": {"pipeline": 2}, "rule": DATA, "schedule": "gpipe"} | PIPELINE),
    "1F1B": (mlp, {"mesh": {"pipeline": 2, "data": 2}, "rule": DATA, "schedule": "one_f_one_b"} | PIPELINE),
    "interleaved": (
        mlp,
        {"mesh": {"pipeline": 2, "model": 2}, "rule": by(model="feature"), "schedule": "interleaved", "chunks": 2}
        | PIPELINE
        | {"stages": 4},
    ),
    "zero bubble": (mlp, {"mesh": {"pipeline": 2, "data": 2}, "rule": DATA, "schedule": "zero_bubble"} | PIPELINE),
    "regularised": (
        partial(mlp, REGULARISED),
        {"mesh": {"pipeline": 2, "data": 2}, "rule": DATA, "schedule": "gpipe", "shard": "optimizer"} | PIPELINE,
    ),
    "classes": (mlp, {"mesh": {"model": 2}, "rule": by(model="channel feature"), "classes": True}),
}
"""Plans by hand; with `classes` the loss is split by classes."""

TRANSFORMERS: dict[str, Case] = {
    "three ways": {"mesh": {"pipeline": 2, "data": 2, "model": 2}, "rule": megatron, "schedule": "one_f_one_b"}
    | {"microbatches": 2, "stages": 2},
    "sequence": {"mesh": {"model": 2}, "rule": by(model="seq")},
}
"""GPT-2 with one block: tied weights, dropout, clipping by the norm of all gradients."""


HALF: dict[str, Case] = {
    "half, three ways": TRANSFORMERS["three ways"],
    "half, ZeRO 3": {"mesh": {"data": 2}, "rule": DATA, "shard": "weights", "microbatches": 2},
}
"""The same in half precision as it is printed: casts around kernels, masters, a loss scale."""


def _in_half(name: str) -> Base:
    given = {key: str(value).replace(" ", "") for key, value in (REDUCED["gpt2"] | {"depth": 1}).items()}
    options = Options(ranks=1)
    job, found = context_of(read("specs/gpt2.dlspec", given), options)
    precision = Precision("f16", "f32", "dynamic")
    found = found.with_(training=replace(found.training, precision=precision), compute="f16", widens=True)
    choices, graph = dict(HALF[name]), _clipped(training_graph(job, found, options))
    return Base(name, graph, plan_of(graph, choices.pop("mesh"), choices.pop("rule"), **choices), found)


@cache
def base(name: str) -> Base:
    """A base by its name."""
    if name in HALF:
        return _in_half(name)
    if name in TRANSFORMERS:
        graph, found = reduced("gpt2", depth=1)
        choices = dict(TRANSFORMERS[name])
        return Base(name, _clipped(graph), plan_of(graph, choices.pop("mesh"), choices.pop("rule"), **choices), found)
    network, found = CASES[name]
    choices, graph = dict(found), network()
    overlap, classes, asked = (choices.pop(key, 0) for key in ("overlap", "classes", "asked"))
    plan = plan_of(graph, choices.pop("mesh"), choices.pop("rule"), **choices)
    if classes:
        plan = plan.with_(ops=tuple(_by_classes(op) for op in plan.ops))
    return Base(name, graph, plan, context(overlap=asked) if asked else None, overlap)


def _by_classes(op: Any) -> Any:
    return replace(op, partition=(Split("feature", "model"),)) if op.address.endswith("cross_entropy") else op


def _clipped(graph: Graph) -> Graph:
    """The graph with a bound on the norm that gradients reach."""
    nodes = (replace(n, attrs=(("kind", "norm"), ("bound", 0.01))) if n.stage == "clip" else n for n in graph.nodes)
    return graph.with_(nodes=tuple(nodes))


NAMES = (*CASES, *TRANSFORMERS, *HALF)
