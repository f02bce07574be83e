"""Lower bounds: below every plan's price, whatever it is cut along, by hand where that is easy, and fast."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from math import inf

import pytest

from dlc.cluster.topology import Cluster, Device, Group, Link
from dlc.cost.bounds import bounds
from dlc.cost.compute import seconds
from dlc.ir.graph import Graph, Node
from dlc.ir.tensor import TensorType
from dlc.ops import operator
from dlc.ops.operator import LAYOUTS, Shapes
from passes.planning.plan import plan
from passes.planning.search import Effort
from tests.passes.sample_networks import Network, context, googlenet, laptop, lenet, resnet50
from tests.slices import first

GPU = Device("gpu", kind="gpu", bandwidth=9e11, compute=(("f32", 1.57e13), ("f16", 1.25e14)), launch=5e-6, cores=80)
SLOW = Device("slow", kind="gpu", bandwidth=3e11, compute=(("f32", 4e12),), launch=5e-6)
LINK = Link("link", 1e10, 1e-6)


def of(device: Device, ranks: int = 1) -> Cluster:
    return Cluster("one", (device,), (LINK,), (Group(device.name, ranks, "link", device=device.name),))


def mixed(fast: int, slow: int) -> Cluster:
    groups = (Group("gpu", fast, "link", device="gpu"), Group("slow", slow, "link", device="slow"))
    return Cluster("mixed", (GPU, SLOW), (LINK,), (Group("all", 1, "link", groups),))


def linear(batch: int = 64, features: int = 512) -> Graph:
    net = Network(batch)
    return net.trained(net("linear", net("flatten", net.image(1, 32)), features=features))


@pytest.mark.parametrize("ranks", [1, 2, 8])
@pytest.mark.parametrize("make", first(2, [lenet, resnet50, googlenet]))
def test_no_plan_is_predicted_to_be_faster(make: object, ranks: int) -> None:
    graph = make()  # type: ignore[operator]
    for cluster in (laptop(ranks), of(GPU, ranks)):
        objective = plan(graph, context(ranks, cluster), inf, Effort()).plan.predicted.objective
        found = bounds(graph, cluster, ranks, "f32", 0)
        assert 0 < found.step <= objective
        assert found.work > 0.05 * objective or make is lenet


def parts(graph: Graph, node: Node, count: int) -> Iterator[Shapes]:
    """What a node leaves to each of `count` ranks, cut along each extent that divides, wherever that extent stands."""
    types = [[graph.type(name) for name in names] for names in (node.inputs, node.outputs)]
    for extent in sorted({extent for side in types for type_ in side for extent in type_.shape if not extent % count}):

        def cut(type_: TensorType, extent: int = extent) -> TensorType:
            axes = (a._replace(extent=a.extent // count) if a.extent == extent else a for a in type_.axes)
            return TensorType(type_.dtype, tuple(axes))

        yield Shapes(tuple(map(cut, types[0])), tuple(map(cut, types[1])), dict(node.attrs))


@pytest.mark.parametrize("device", [laptop().devices[0], GPU, SLOW], ids=lambda device: device.name)
def test_no_cut_of_a_convolution_takes_less_than_its_bounds(device: Device) -> None:
    """Batch, channels or rows: all ranks together, by the fastest algorithm, on a graph of one convolution."""
    net = Network(24)
    graph = net.trained(net("relu", net("conv", net.image(16, 28), filters=48, window=3, pad=1)))
    convolutions = [node for node in graph.nodes if node.op == "conv"]
    op = operator("conv")
    assert op is not None
    for count in (1, 2, 4):
        least = {node.address: inf for node in convolutions}
        for node in convolutions:
            for shapes, layout, algorithm in product(parts(graph, node, count), LAYOUTS, op.algorithms):
                if (
                    algorithm.excluded(node.stage, shapes) is None
                    and device.kind in algorithm.devices
                    and layout in algorithm.layouts
                ):
                    spent = seconds(op, node.stage, shapes, algorithm.name, layout, device).seconds
                    least[node.address] = min(least[node.address], spent * count)
        alone = graph.with_(nodes=tuple(convolutions))
        found = bounds(alone, of(device), 1, "f32", 0)
        assert max(found.work, found.memory_traffic) <= sum(least.values())


def test_products_by_hand() -> None:
    """64 x 1024 to 512, whose input needs no gradient, and 512 to 10; nothing else multiplies."""
    found = bounds(linear(), of(GPU, 4), 4, "f32", 0)
    flops = 2 * (2 * 64 * 1024 * 512) + 3 * (2 * 64 * 512 * 10)
    assert found.work == pytest.approx(flops / (4 * 1.57e13))


def test_tensor_cores_lower_the_bound_of_half_precision() -> None:
    graph = linear()
    half = graph.with_(
        values=tuple(replace(v, type=v.type.with_dtype("f16")) if v.type.dtype == "f32" else v for v in graph.values)
    )
    single, found = (bounds(g, of(GPU), 1, dtype, 0) for g, dtype in ((graph, "f32"), (half, "f16")))
    assert found.work == pytest.approx(single.work * 1.57e13 / 1.25e14)
    assert found.memory_traffic < 0.6 * single.memory_traffic


def test_communication_is_bounded_only_where_something_has_to_be_summed() -> None:
    graph, cluster = linear(), of(GPU, 8)
    assert bounds(graph, cluster, 8, "f32", 0).communication == 0.0
    assert bounds(graph, cluster, 8, "f32", 10**8).communication >= 2 * 10**8 * 7 / 8 / LINK.bandwidth


def test_depth_is_the_longest_chain_of_launches() -> None:
    """Forward three kernels and the loss, backward as many, and an update; a view has none."""
    one, two = (bounds(graph, of(GPU), 1, "f32", 0).depth for graph in (chain(1), chain(2)))
    assert two - one == pytest.approx(2 * 5e-6, rel=0.01)  # one more op forward, and its gradient
    assert one == pytest.approx(round(one / 5e-6) * 5e-6, rel=0.01)


def chain(length: int) -> Graph:
    net = Network(16)
    x = net("linear", net("flatten", net.image(1, 8)), features=32)
    for _ in range(length):
        x = net("tanh", x)
    return net.trained(net("linear", x, features=10))


def test_a_slow_device_adds_what_it_can() -> None:
    graph = resnet50()
    fast, slow, both = (
        bounds(graph, cluster, cluster.ranks, "f32", 0) for cluster in (of(GPU, 2), of(SLOW, 2), mixed(2, 2))
    )
    assert both.work < fast.work < slow.work
    assert both.work == pytest.approx(1 / (1 / fast.work + 1 / slow.work), rel=1e-6)  # equal ratios for all nodes
    assert both.memory_traffic == pytest.approx(1 / (1 / fast.memory_traffic + 1 / slow.memory_traffic))


def test_bounds_of_deep_networks_take_less_than_making_them() -> None:
    """13,000 nodes in some 45 ms on a quiet core."""
    start = time.process_time()
    net = Network(8)
    x = net("conv", net.image(4, 8), filters=8, window=3, pad=1)
    for _ in range(1000):
        x = net("relu", net("bn", net("conv", x, filters=8, window=3, pad=1, bias=False)))
    graph = net.trained(net("global_avgpool", x))
    assert len(graph.nodes) > 8000
    made = time.process_time()
    bounds(graph, of(GPU, 8), 8, "f32", 0)
    assert time.process_time() - made < made - start
