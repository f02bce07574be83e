"""Programs of any partition, run on virtual ranks: a step of training leaves what the serial program leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from dlc.ir.graph import Graph, Node
from dlc.ops.indexing import Indexing
from passes.lower import lower
from tests.passes.lowering.compared import drawn, largest_error, parallel, serial
from tests.passes.lowering.plans import by, megatron, on, plan_of, reduced, trained
from tests.passes.lowering.virtual_ranks import World
from tests.passes.sample_networks import Network

BOUND = 1e-9
Case = dict[str, Any]


def mlp(batch: int = 12) -> Graph:
    net = Network(batch)
    x = net("relu", net("linear", net("flatten", net.image(4, 3, 2)), features=16))
    return trained(net, net("add", x, net("tanh", net("linear", x, features=16))))


def convolutions(batch: int = 8) -> Graph:
    """Strides, pads, overlapping pools, a fan-out whose gradients meet."""
    net = Network(batch)
    x = net("tanh", net("conv", net.image(4, 12, 8), filters=8, window=3, pad="same"))
    x = net("maxpool", x, window=2, stride=2)
    x = net("add", net("relu", net("conv", x, filters=8, window=3, pad=1)), x)
    x = net("conv", x, filters=6, window=3, stride=2, pad=1)
    return trained(net, net("avgpool", x, window=3, stride=1, pad=1))


def normalised(batch: int = 16) -> Graph:
    """Groups of batch norm within a shard, and over several."""
    net = Network(batch)
    x = net("bn", net("conv", net.image(4, 6, 6), filters=8, window=3, pad="same", bias=False), group=4)
    x = net("relu", x)
    x = net("add", net("bn", net("conv", x, filters=8, window=1), group=8), x)
    return trained(net, net("global_avgpool", x))


NETWORKS: dict[str, Callable[[], Graph]] = {"mlp": mlp, "convolutions": convolutions, "normalised": normalised}

DATA, CHANNEL = by(data="batch"), by(model="channel feature")
BOTH = by(data="batch", model="channel feature")
TWO = {"data": 2, "model": 2}

CASES: dict[str, Case] = {
    "several microbatches on one rank": {"mesh": {"data": 1}, "rule": DATA, "microbatches": 4},
    "samples": {"mesh": {"data": 2}, "rule": DATA},
    "samples in microbatches": {"mesh": {"data": 2}, "rule": DATA, "microbatches": 2},
    "uneven samples": {"mesh": {"data": 3}, "rule": DATA},
    "channels": {"mesh": {"model": 2}, "rule": CHANNEL},
    "uneven channels": {"mesh": {"model": 3}, "rule": CHANNEL},
    "what is summed": {"mesh": {"model": 2}, "rule": by(model="reduce channel feature")},
    "rows": {"mesh": {"model": 2}, "rule": by(model="height")},
    "uneven rows": {"mesh": {"model": 3}, "rule": by(model="height")},
    "rows and columns": {"mesh": TWO, "rule": by(data="width", model="height")},
    "samples and channels": {"mesh": TWO, "rule": BOTH},
    "samples over both axes": {"mesh": TWO, "rule": lambda node, space: twice(node, space)},
    "samples and what is summed": {"mesh": TWO, "rule": by(data="batch", model="reduce channel feature")},
    "channels and what is summed": {"mesh": TWO, "rule": by(data="reduce", model="channel feature")},
    "layouts": {"mesh": TWO, "rule": BOTH, "layouts": {"conv": "NHWC", "bn": "CHWN"}},
    "layouts of rows": {"mesh": TWO, "rule": by(data="batch", model="height"), "layouts": {"conv": "CHWN"}},
    "computed again": {"mesh": {"data": 2}, "rule": DATA, "recompute": "conv tanh relu maxpool bn"},
    "all computed again": {"mesh": {"data": 2}, "rule": DATA, "recompute": "all", "microbatches": 2},
    "moves computed again": {"mesh": TWO, "rule": BOTH, "recompute": "linear relu tanh bn avgpool"},
}
for shard in ("optimizer", "gradients", "weights"):
    CASES[f"ZeRO {shard}"] = {"mesh": {"data": 2}, "rule": DATA, "shard": shard}
    CASES[f"ZeRO {shard}, microbatches"] = {"mesh": {"data": 2}, "rule": DATA, "shard": shard, "microbatches": 2}
    CASES[f"ZeRO {shard}, channels"] = {"mesh": TWO, "rule": BOTH, "shard": shard, "microbatches": 2}
for schedule in ("gpipe", "one_f_one_b", "zero_bubble"):
    pipeline = {"schedule": schedule, "microbatches": 4, "stages": 2}
    CASES[schedule] = {"mesh": {"pipeline": 2}, "rule": DATA} | pipeline
    CASES[f"{schedule}, samples"] = {"mesh": {"pipeline": 2, "data": 2}, "rule": DATA} | pipeline
    CASES[f"{schedule}, again"] = {"mesh": {"pipeline": 2}, "rule": DATA, "recompute": "all"} | pipeline
INTERLEAVED = {"schedule": "interleaved", "chunks": 2, "rule": CHANNEL}
CASES |= {
    "interleaved on two": {"mesh": {"pipeline": 2}, "microbatches": 4, "stages": 4} | INTERLEAVED,
    "interleaved on three": {"mesh": {"pipeline": 3}, "microbatches": 2, "stages": 6} | INTERLEAVED,
    "interleaved, with messages under way": {"mesh": {"pipeline": 3}, "microbatches": 4, "stages": 6} | INTERLEAVED,
    "a pipeline of one microbatch": {"mesh": {"pipeline": 2}, "rule": DATA, "schedule": "gpipe", "stages": 2},
    "a pipeline of channels": {"mesh": {"pipeline": 2, "model": 2}, "rule": CHANNEL}
    | {"schedule": "one_f_one_b", "microbatches": 2, "stages": 2},
    "ZeRO weights in a pipeline": {"mesh": {"pipeline": 2, "data": 2}, "rule": DATA, "shard": "weights"}
    | {"schedule": "one_f_one_b", "microbatches": 2, "stages": 2},
}


@pytest.fixture(scope="module", params=NETWORKS)
def alone(request: pytest.FixtureRequest) -> tuple[str, Graph, dict[str, Any], World]:
    """A network, its data, and its serial step."""
    graph = NETWORKS[request.param]()
    given = drawn(graph)
    return request.param, graph, given, serial(graph, given)


@pytest.mark.parametrize("case", CASES)
def test_a_step_is_the_serial_step(alone: tuple[str, Graph, dict[str, Any], World], case: str) -> None:
    name, graph, given, world = alone
    choices = dict(CASES[case])
    if name == "normalised" and choices.get("microbatches", 1) > 2:
        choices["microbatches"] = 2  # whole groups
    plan = plan_of(graph, choices.pop("mesh"), choices.pop("rule"), **choices)
    error, where = largest_error(graph, parallel(graph, plan, given), world)
    assert error < BOUND, where


@pytest.mark.parametrize("case", ["samples", "ZeRO gradients", "ZeRO weights, microbatches", "zero_bubble, samples"])
def test_sums_under_way_beside_kernels_change_nothing(case: str) -> None:
    graph = convolutions()
    given, choices = drawn(graph), dict(CASES[case])
    plan = plan_of(graph, choices.pop("mesh"), choices.pop("rule"), **choices)
    error, where = largest_error(graph, parallel(graph, plan, given, overlap=0.9), serial(graph, given))
    assert error < BOUND, where


def apart(node: Node, space: Indexing) -> Mapping[str, str]:
    """The tied weight is split by feature where it is looked up, and whole where samples are split twice."""
    looked_up = node.op == "embedding" or node.address.startswith("body[0]")
    return by(data="batch", model="feature")(node, space) if looked_up else twice(node, space)


def twice(_node: Node, space: Indexing) -> Mapping[str, str]:
    """Samples over both axes."""
    return dict.fromkeys(TWO, "batch" if "batch" in space.axes else "")


GPT: dict[str, Case] = {
    "Megatron": {"mesh": {"data": 2, "model": 2}, "rule": megatron},
    "sequence": {"mesh": {"model": 2}, "rule": by(model="seq")},
    "features": {"mesh": {"model": 2}, "rule": by(model="feature heads")},
    "ZeRO weights": {"mesh": {"data": 2}, "rule": DATA, "shard": "weights"},
    "a pipeline with tied weights": {"mesh": {"pipeline": 3, "model": 2}, "rule": megatron}
    | {"schedule": "one_f_one_b", "microbatches": 2, "stages": 3},
    "tied weights in two forms": {"mesh": TWO, "rule": apart, "microbatches": 2},
    "a pipeline with tied weights in two forms": {"mesh": {"pipeline": 2} | TWO, "rule": apart}
    | {"schedule": "one_f_one_b", "microbatches": 2, "stages": 2},
    "zero bubble": {"mesh": {"pipeline": 2, "data": 2}, "rule": DATA}
    | {"schedule": "zero_bubble", "microbatches": 2, "stages": 2},
    "interleaved": {"mesh": {"pipeline": 2}, "rule": DATA, "chunks": 2}
    | {"schedule": "interleaved", "microbatches": 2, "stages": 4},
    "computed again": {"mesh": {"data": 2, "model": 2}, "rule": megatron}
    | {"recompute": "layernorm gelu softmax dropout div matmul split_heads merge_heads causal_mask transpose"},
}


@pytest.mark.parametrize("case", GPT)
def test_a_transformer(case: str) -> None:
    """Tied weights, dropout, clipping by the norm of all gradients, AdamW."""
    graph, base = reduced("gpt2", depth=2, batch=8)
    given, choices = drawn(graph), dict(GPT[case])
    plan = plan_of(graph, choices.pop("mesh"), choices.pop("rule"), **choices)
    error, where = largest_error(graph, parallel(graph, plan, given, base), serial(graph, given, base))
    assert error < BOUND, where


SPECS = {
    "alexnet": by(data="batch", model="channel feature"),
    "densenet121": by(data="batch", model="channel feature"),
    "googlenet": by(data="batch", model="height channel"),
    "lstm": by(data="batch", model="feature"),
    "transformer_encoder": by(data="batch", model="heads feature"),
    "treenet": by(data="height", model="channel feature"),
}


@pytest.mark.parametrize("name", SPECS)
def test_networks_of_the_zoo(name: str) -> None:
    graph, base = reduced(name)
    given = drawn(graph)
    plan = plan_of(graph, {"data": 2, "model": 2}, SPECS[name])
    error, where = largest_error(graph, parallel(graph, plan, given, base), serial(graph, given, base))
    assert error < BOUND, where


@pytest.mark.parametrize("case", ["samples and channels", "rows", "interleaved on two", "one_f_one_b, samples"])
def test_predictions_are_the_serial_ones(case: str) -> None:
    """Each rank has its part of the outputs."""
    graph, choices = convolutions(), dict(CASES[case])
    given = drawn(graph)
    expected = serial(graph, given, entry="predict").memories[0]
    plan = plan_of(graph, choices.pop("mesh"), choices.pop("rule"), **{**choices, "microbatches": 1})
    world = parallel(graph, plan, given, entry="predict")
    ((_, name),) = world.program.outputs
    ((_, value),) = graph.outputs
    holders = [m for m in world.memories.values() if any(b.name == name for b in m.role.buffers)]
    assert holders
    for memory in holders:
        whole = expected.logical(value, 0)
        part = tuple(slice(*span) for span in memory.box(name))
        np.testing.assert_allclose(memory.logical(name, 0), whole[part], atol=1e-12)


def test_microbatches_divide_the_batch() -> None:
    graph = mlp()
    plan = plan_of(graph, {"data": 1}, DATA, microbatches=5)
    with pytest.raises(ValueError, match="does not divide"):
        lower(graph, plan, on(1))
