"""Parts of ops that exchange tables, or are told where they begin: every split, beside the serial program.

Real kernels within a bound, and integer stand-ins bit by bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from dlc.ir.graph import Graph, Node, Value
from dlc.ir.tensor import tensor
from dlc.ir.training import Choice
from dlc.ops.indexing import Indexing
from passes.context import Context
from tests.passes.lowering.compared import drawn, largest_error, parallel, serial, whole_numbers
from tests.passes.lowering.plans import by, in_double, megatron, plan_of, reduced, trained
from tests.passes.lowering.test_numbers import CASES as ALL
from tests.passes.lowering.test_numbers import GPT, NETWORKS, SPECS
from tests.passes.sample_networks import Network, context
from tests.slices import first

BOUND = 1e-9
Case = dict[str, Any]
TWO, SIX = {"data": 2, "model": 2}, {"data": 2, "model": 3}


def tokens(smoothing: float = 0.0, batch: int = 12) -> Graph:
    """An embedding, dropout and a classifier of each token."""
    net = Network(batch)
    net.values["tokens"] = Value("tokens", tensor("i32", batch=batch, seq=6), "input")
    net.inputs.append("tokens")
    x = net("dropout", net("embedding", "tokens", vocab=11, width=8), p=0.4)
    logits = net("linear", net("gelu", net("linear", x, features=10)), features=11)
    net.values["data.label"] = Value("data.label", tensor("i32", batch=batch, seq=6), "field")
    loss = net("cross_entropy", logits, "data.label", smoothing=smoothing)
    metrics = (("accuracy", net("accuracy", logits, "data.label")),)
    nodes, values = tuple(net.nodes), tuple(net.values.values())
    return in_double(
        Graph("net", "loss", nodes, values, ("tokens",), ("data.label",), (("y", logits),), loss, metrics, batch)
    )


def images() -> Graph:
    """Group norm, a mean over the image, and losses of images."""
    net = Network(12)
    x = net("groupnorm", net("conv", net.image(4, 9, 6), filters=6, window=3, pad="same"), groups=3)
    x = net("dropout", net("avgpool", net("relu", x), window=3, stride=2, pad=1), p=0.3)
    return trained(net, net("global_avgpool", net("groupnorm", x, groups=2)))


def denoised(loss: str = "mse") -> Graph:
    """A loss of images, which takes the mean over their elements."""
    net = Network(12)
    x = net.image(2, 6, 6)
    y = net(
        "conv", net("bn", net("conv", x, filters=4, window=3, pad="same"), group=4), filters=2, window=3, pad="same"
    )
    made = net(loss, y, x)
    nodes, values = tuple(net.nodes), tuple(net.values.values())
    return in_double(Graph("net", "loss", nodes, values, ("image",), (), (("y", y),), made, (), 12))


GRAPHS: dict[str, Callable[[], Graph]] = {
    "tokens": tokens,
    "smoothed": lambda: tokens(0.1),
    "images": images,
    "mse": denoised,
    "huber": lambda: denoised("huber"),
    **NETWORKS,
}
BY_ROWS = by(data="batch", model="height")

CASES: dict[str, tuple[str, Case]] = {
    "classes": ("tokens", {"mesh": {"model": 2}, "rule": by(model="reduce feature"), "losses": "cross_entropy"}),
    "classes of Megatron-LM": (
        "smoothed",
        {"mesh": TWO, "rule": by(data="batch", model="reduce feature"), "losses": "cross_entropy"},
    ),
    "uneven classes of Megatron-LM": (
        "smoothed",
        {"mesh": SIX, "rule": by(data="batch", model="reduce feature"), "losses": "cross_entropy", "microbatches": 2},
    ),
    "classes over both axes": (
        "tokens",
        {"mesh": TWO, "rule": by(data="feature", model="seq"), "losses": "cross_entropy"},
    ),
    "uneven samples and classes": (
        "tokens",
        {"mesh": {"data": 5, "model": 2}, "rule": by(data="batch", model="feature"), "losses": "cross_entropy"},
    ),
    "labels of a sequence": ("tokens", {"mesh": {"model": 3}, "rule": by(model="seq"), "losses": "cross_entropy"}),
    "dropout by features": ("tokens", {"mesh": {"model": 3}, "rule": by(model="feature")}),
    "dropout by sequence and features": ("tokens", {"mesh": TWO, "rule": by(data="seq", model="feature")}),
    "dropout in microbatches": ("tokens", {"mesh": TWO, "rule": by(data="batch", model="seq"), "microbatches": 3}),
    "rows of groups": ("images", {"mesh": {"model": 2}, "rule": by(model="height")}),
    "rows of groups, computed again": (
        "images",
        {"mesh": {"model": 3}, "rule": by(model="height"), "recompute": "all"},
    ),
    "rows of groups of uneven samples": ("images", {"mesh": {"data": 5, "model": 2}, "rule": BY_ROWS}),
    "rows, columns and samples of groups": (
        "images",
        {"mesh": {"data": 2, "model": 2, "more": 2}, "rule": by(data="batch", model="height", more="width")},
    ),
    "channels and rows of groups": ("images", {"mesh": SIX, "rule": by(data="height", model="channel feature")}),
    "rows of groups in layouts": (
        "images",
        {"mesh": TWO, "rule": BY_ROWS, "layouts": {"groupnorm": "NHWC", "conv": "CHWN", "dropout": "NCHW"}},
    ),
    "a mean over rows": ("mse", {"mesh": {"model": 2}, "rule": by(model="height"), "losses": "mse"}),
    "a mean over channels, in microbatches": (
        "huber",
        {"mesh": TWO, "rule": by(data="batch", model="channel"), "losses": "huber", "microbatches": 3},
    ),
    "rows of batch norm in microbatches": ("mse", {"mesh": TWO, "rule": BY_ROWS, "losses": "mse", "microbatches": 3}),
    "groups of batch norm over ranks and rows": ("mse", {"mesh": {"data": 2, "model": 3}, "rule": BY_ROWS}),
    "parts of the samples": ("convolutions", {"mesh": {"data": 2}, "rule": by(data="batch"), "parts": 3}),
    "parts of the samples, layouts": (
        "convolutions",
        {"mesh": {"data": 2}, "rule": by(data="height"), "parts": 3, "layouts": {"conv": "CHWN"}},
    ),
    "parts of the samples, rows": (
        "convolutions",
        {"mesh": TWO, "rule": BY_ROWS, "parts": 2, "layouts": {"conv": "NHWC"}, "microbatches": 2},
    ),
}


def compared(graph: Graph, case: Case, base: Context | None = None, exact: bool = False) -> tuple[float, str]:
    choices, given = dict(case), drawn(graph)
    given = whole_numbers(given) if exact else given
    plan = plan_of(graph, choices.pop("mesh"), choices.pop("rule"), **choices)
    alone = serial(graph, given, base, exact=exact)
    return largest_error(graph, parallel(graph, plan, given, base, exact=exact), alone)


@pytest.mark.parametrize("case", CASES)
def test_parts_are_the_serial_step(case: str) -> None:
    name, choices = CASES[case]
    error, where = compared(GRAPHS[name](), choices)
    assert error < BOUND, where


@pytest.mark.parametrize("case", CASES)
def test_stand_ins_are_exact(case: str) -> None:
    name, choices = CASES[case]
    error, where = compared(GRAPHS[name](), choices, exact=True)
    assert error == 0, where


# --- networks of the other tests, with stand-ins ------------------------------------------------------------------


@pytest.mark.parametrize("case", first(6, ALL))
@pytest.mark.parametrize("name", NETWORKS)
def test_stand_ins_are_exact_in_every_plan(name: str, case: str) -> None:
    choices = dict(ALL[case])
    if name == "normalised" and choices.get("microbatches", 1) > 2:
        choices["microbatches"] = 2  # whole groups
    error, where = compared(NETWORKS[name](), choices, exact=True)
    assert error == 0, where


@pytest.mark.parametrize("case", first(4, GPT))
def test_stand_ins_of_a_transformer_are_exact(case: str) -> None:
    graph, base = reduced("gpt2", depth=2)
    error, where = compared(graph, GPT[case], base, exact=True)
    assert error == 0, where


@pytest.mark.parametrize("name", first(2, SPECS))
def test_stand_ins_of_networks_of_the_zoo_are_exact(name: str) -> None:
    graph, base = reduced(name)
    error, where = compared(graph, {"mesh": TWO, "rule": SPECS[name]}, base, exact=True)
    assert error == 0, where


def vocabulary(node: Node, space: Indexing) -> Mapping[str, str]:
    """Megatron-LM's, with the table of tokens, the logits and the loss split by the vocabulary besides."""
    if node.op in ("embedding", "cross_entropy"):
        return by(data="batch", model="reduce" if node.op == "embedding" else "feature")(node, space)
    return megatron(node, space)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("microbatches", [1, 2])
def test_a_vocabulary_on_several_ranks(microbatches: int, exact: bool) -> None:
    """Tied weights: rows of the table of tokens are those of the map to logits."""
    graph, base = reduced("gpt2", depth=1)
    case = {"mesh": TWO, "rule": vocabulary, "losses": "cross_entropy", "microbatches": microbatches}
    plan = plan_of(graph, TWO, vocabulary, losses="cross_entropy")
    split = {op.address: tuple(each.axis for each in op.partition) for op in plan.ops}
    assert split["loss.cross_entropy"] == ("batch", "feature")
    error, where = compared(graph, case, base, exact)
    assert error == 0 if exact else error < BOUND, where


# --- updates ------------------------------------------------------------------------------------------------------

RULES = {
    "sgd": Choice("sgd", (("momentum", 0.9), ("nesterov", False), ("weight_decay", 0.01))),
    "lars": Choice("lars", (("momentum", 0.9), ("trust", 0.5), ("weight_decay", 0.01))),
    "lamb": Choice("lamb", (("beta1", 0.9), ("beta2", 0.99), ("eps", 1e-3), ("weight_decay", 0.01))),
}
CLIP = Choice("norm", (("kind", "norm"), ("bound", 0.05)))
BOTH = by(data="batch", model="channel feature")
PLANS: dict[str, Case] = {
    "channels": {"mesh": {"model": 3}, "rule": by(model="channel feature")},
    "samples and channels": {"mesh": SIX, "rule": BOTH},
    "what is summed": {"mesh": TWO, "rule": by(data="batch", model="reduce channel feature")},
    "rows": {"mesh": TWO, "rule": BY_ROWS},
    "ZeRO optimizer": {"mesh": {"data": 3}, "rule": by(data="batch"), "shard": "optimizer"},
    "ZeRO gradients and channels": {"mesh": TWO, "rule": BOTH, "shard": "gradients", "microbatches": 2},
    "ZeRO weights and channels": {"mesh": TWO, "rule": BOTH, "shard": "weights"},
    "a pipeline": {"mesh": {"pipeline": 2, "data": 2}, "rule": by(data="batch"), "shard": "optimizer"}
    | {"schedule": "one_f_one_b", "microbatches": 2, "stages": 2},
    "a pipeline of channels": {"mesh": {"pipeline": 2, "model": 2}, "rule": by(model="channel feature")}
    | {"schedule": "gpipe", "microbatches": 2, "stages": 2},
}


def asked(rule: str, clip: bool) -> Context:
    base = context()
    return base.with_(training=replace(base.training, optimizer=RULES[rule], clip=CLIP if clip else None))


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("case", first(3, reversed(PLANS)))
def test_updates_by_norms_of_wholes(case: str, rule: str, clip: bool, exact: bool) -> None:
    """Norms of whole tensors, and of all gradients together, on meshes that hold some of them several times."""
    base = asked(rule, clip)
    net = Network(12)
    x = net("relu", net("conv", net.image(4, 6, 6), filters=6, window=3, pad="same"))
    graph = trained(net, net("linear", net("flatten", net("maxpool", x, window=2, stride=2)), features=7), base=base)
    error, where = compared(graph, PLANS[case], base, exact)
    assert error == 0 if exact else error < BOUND, where
