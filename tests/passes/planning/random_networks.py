"""Small random networks on small random clusters, with and without rules: what the whole planner is tested on."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from dlc.cluster.topology import Cluster, Device, Group, Link
from dlc.diagnostics import Span
from dlc.ir.graph import Graph, Value
from dlc.ir.request import Rule, Split
from dlc.ir.tensor import tensor
from passes.context import Context
from passes.planning.strategies import divisors
from tests.passes.sample_networks import Network, context

NOWHERE = Span("", 1, 1, 1, 1)


@dataclass(frozen=True, slots=True)
class Case:
    """A training graph with its context; `name` says what it is made of."""

    name: str
    graph: Graph
    context: Context


def random_case(seed: int) -> Case:
    """A network of a few ops on 2 to 8 devices."""
    rng = random.Random(seed)
    shape = rng.choice(tuple(NETWORKS))
    machine = random_cluster(rng)
    batch = rng.choice((2, 4, 6, 8, 12, 16))
    net = Network(batch)
    graph = net.trained(NETWORKS[shape](net, rng), classes=rng.choice((2, 6, 10)))
    layout, overlap = rng.choice(("auto", "NCHW", "NHWC")), rng.choice(("auto", "auto", "no"))
    around = context(machine.ranks, machine, overlap=overlap, layout=layout)
    return Case(f"{seed}: {shape}, batch {batch}, {machine.name}", graph, with_rules(rng, graph, around))


# Networks: each gives the value that is mapped to classes.


def chain(net: Network, rng: random.Random) -> str:
    return _images(net, _image(net, rng), rng, rng.randint(1, 3))


def perceptron(net: Network, rng: random.Random) -> str:
    x = net("flatten", _image(net, rng))
    for _ in range(rng.randint(1, 3)):
        x = net("linear", x, features=rng.choice((8, 12, 64, 256)))
        x = net("dropout", x, p=0.5) if rng.random() < 0.3 else net(rng.choice(("relu", "tanh")), x)
    return x


def diamond(net: Network, rng: random.Random) -> str:
    """Two or more ways between a value and its sum, one of them perhaps empty."""
    x = net("conv", _image(net, rng), filters=8, window=3, pad="same")
    for _ in range(rng.randint(1, 2)):
        ways = [_keeping(net, x, rng) for _ in range(rng.randint(1, 3))] + ([x] if rng.random() < 0.5 else [])
        x = ways[0]
        for way in ways[1:]:
            x = net("add", x, way)
    return x


def branches(net: Network, rng: random.Random) -> str:
    """A fan-out of 2 to 4, joined by a concatenation."""
    x = net("relu", net("conv", _image(net, rng), filters=4, window=3, pad="same"))
    ways = [_keeping(net, x, rng) for _ in range(rng.randint(2, 4))]
    return net("concat", *ways, axis="channel")


def acyclic(net: Network, rng: random.Random) -> str:
    """Every op reads one or two of the values before it."""
    values = [net("conv", _image(net, rng), filters=8, window=3, pad="same")]
    for _ in range(rng.randint(2, 4)):
        one, other = rng.choice(values), rng.choice(values)
        if one != other and rng.random() < 0.6:
            values.append(net("add", one, other))
        else:
            values.append(_keeping(net, one, rng))
    x = values[-1]
    readers = {operand for node in net.nodes for operand in node.inputs}
    for loose in [value for value in values[:-1] if value not in readers]:
        x = net("add", x, loose)
    return x


def attention(net: Network, rng: random.Random) -> str:
    width, heads = rng.choice((8, 16)), rng.choice((2, 4))
    x = _tokens(net, rng, width)
    normed = net("layernorm", x)
    q, k, v = (net("split_heads", net("linear", normed, features=width), heads=heads) for _ in range(3))
    scores = net("matmul", q, net("transpose", k))
    scores = net("causal_mask", scores) if rng.random() < 0.5 else scores
    read = net("merge_heads", net("matmul", net("softmax", scores), v))
    return net("add", x, net("linear", read, features=width))


def decoder(net: Network, rng: random.Random) -> str:
    width = rng.choice((8, 32))
    x = _tokens(net, rng, width)
    for _ in range(rng.randint(1, 2)):
        inner = net("gelu", net("linear", net("layernorm", x), features=4 * width))
        x = net("add", x, net("linear", inner, features=width))
    return x


NETWORKS: dict[str, Callable[[Network, random.Random], str]] = {
    each.__name__: each for each in (chain, perceptron, diamond, branches, acyclic, attention, decoder)
}


def _image(net: Network, rng: random.Random) -> str:
    return net.image(rng.choice((2, 3, 4)), rng.choice((6, 7, 12)), rng.choice((6, 8)))


def _tokens(net: Network, rng: random.Random, width: int) -> str:
    seq = rng.choice((4, 6))
    net.values["text"] = Value("text", tensor("i32", batch=net.batch, seq=seq), "input")
    net.inputs.append("text")
    words = net("embedding", "text", vocab=rng.choice((10, 64)), width=width)
    return net("add", words, net("position_embedding", "text", width=width)) if rng.random() < 0.5 else words


def _images(net: Network, x: str, rng: random.Random, count: int) -> str:
    for _ in range(count):
        match rng.randrange(5):
            case 0:
                x = net("conv", x, filters=rng.choice((4, 6, 16)), window=rng.choice((1, 3, 5)), pad="same")
            case 1:
                x = net("conv", x, filters=8, window=3, stride=2, pad=1)
            case 2:
                pool = rng.choice(("maxpool", "avgpool"))
                x = net(pool, net("conv", x, filters=4, window=3, pad=1), window=2)
            case 3:
                x = _normed(net, net("conv", x, filters=4, window=3, pad="same", bias=False), rng)
            case _:
                x = net("relu", x)
    return x


def _keeping(net: Network, x: str, rng: random.Random) -> str:
    """An op or two that leave the extents as they are."""
    channels = net.type(x).shape[1]
    match rng.randrange(4):
        case 0:
            return net("relu", x)
        case 1:
            return _normed(net, x, rng)
        case 2:
            return net("maxpool", x, window=3, stride=1, pad=1)
        case _:
            return net("conv", x, filters=channels, window=rng.choice((1, 3)), pad="same")


def _normed(net: Network, x: str, rng: random.Random) -> str:
    group = rng.choice(divisors(net.batch))
    return net("bn", x, group=group)


# Clusters.


def random_cluster(rng: random.Random) -> Cluster:
    """2 to 8 devices behind a switch, in a ring, on a shared bus, or in groups of such; CPU cores or GPUs."""
    device = random_device(rng)
    speed, latency = 10 ** rng.uniform(8, 11), 10 ** rng.uniform(-6.5, -4.5)
    near = Link("near", speed, latency, shape=rng.choice(("switch", "ring", "all_to_all")), shared=rng.random() < 0.25)
    if rng.random() < 0.5:
        count = rng.choice((2, 3, 4, 6, 8))
        (group,) = (Group(device.name, count, "near", device=device.name),)
        return Cluster(f"{count} {device.name} {_word(near)}", (device,), (near,), (group,))
    far = Link("far", speed / rng.choice((2, 10)), 2 * latency, shape=rng.choice(("switch", "fat_tree")))
    outer, inner = rng.choice(((2, 2), (2, 4), (4, 2), (2, 3)))
    nodes = Group("node", outer, "far", (Group(device.name, inner, "near", device=device.name),))
    return Cluster(f"{outer} x {inner} {device.name} {_word(near)}", (device,), (near, far), (nodes,))


def random_device(rng: random.Random) -> Device:
    if rng.random() < 0.4:
        return Device("core", memory=2**30, bandwidth=10e9, compute=(("f32", 50e9),))
    overlap = rng.choice((0.0, 0.5, 0.8, 1.0))
    return Device("gpu", "gpu", 2**33, 300e9, (("f32", 6e12),), 10 ** rng.uniform(-7, -5), overlap=overlap)


def _word(link: Link) -> str:
    return f"{link.shape}{' shared' if link.shared else ''} {link.bandwidth / 1e9:.2g} GB/s"


# Rules.


def with_rules(rng: random.Random, graph: Graph, around: Context) -> Context:
    """Now and then a pinned layout, a forbidden partition, a forbidden algorithm."""
    forbids = list[Rule]()
    for node in graph.forward:
        if rng.random() < 0.15:
            axis = rng.choice(("batch", "channel", "feature", "height", "reduce"))
            split = (Split(axis, rng.choice(("data", "model"))),)
            forbids.append(Rule("partition", split, (node.address,), node.address, NOWHERE, NOWHERE))
    if rng.random() < 0.3:
        convolutions = tuple(node.address for node in graph.forward if node.op == "conv")
        forbids.append(Rule("algorithm", "im2col", convolutions, "**.conv", NOWHERE, NOWHERE))
    return replace(around, request=replace(around.request, forbids=tuple(forbids)))
