"""Data parallelism as planned: shards, buckets, which allreduce, and what it costs."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import inf

import pytest

from dlc.cluster.fabric import Fabric
from dlc.cluster.topology import Cluster, Device, Group, Link
from dlc.cost.communication import processing
from dlc.diagnostics import DiagnosticError
from dlc.ir.graph import Graph
from dlc.ir.mesh import Mesh, shards
from dlc.ir.plan import Plan, Prediction
from dlc.ir.program import Collective
from dlc.ir.training import Choice
from passes.context import Context
from passes.lower import lower, with_buckets
from passes.packing import BUCKET_BYTES, FIRST_BUCKET_BYTES
from passes.planning.plan import plan
from passes.planning.search import Effort
from tests.passes.sample_networks import Network, context, laptop, lenet, resnet50

CORE = Device("core", bandwidth=1e10, compute=(("f32", 5e10),))
DATA = Choice("data")


def pod(nodes: int, cores: int = 1, **link: float) -> Cluster:
    net, shm = Link("net", **{"bandwidth": 1e9, "latency": 1e-5, **link}), Link("shm", 1e10, 1e-6)
    inner = Group("core", cores, "shm", device="core")
    return Cluster("pod", (CORE,), (net, shm), (Group("node", nodes, "net", (inner,)),))


def planned(graph: Graph, asked: Context) -> Plan:
    """The best plan that splits nothing but the batch."""
    only = asked.with_(request=replace(asked.request, strategy=DATA))
    return with_buckets(graph, plan(graph, only, inf, Effort()).plan, only)


def test_shards_cover_the_batch_and_differ_by_at_most_one() -> None:
    for batch in range(1, 40):
        for ranks in range(1, batch + 1):
            table = shards(batch, ranks)
            extents = [stop - start for start, stop in table]
            assert [start for start, _ in table] == [0, *(stop for _, stop in table[:-1])]
            assert table[-1][1] == batch
            assert max(extents) - min(extents) <= 1
            assert extents == sorted(extents, reverse=True)


def test_one_rank_sums_nothing() -> None:
    made = planned(lenet(), context())
    assert (made.buckets, made.shards, made.mesh) == ((), ((0, 32),), (("data", 1),))
    assert made.bounds is not None
    assert made.predicted.communication_seconds == made.bounds.communication == 0


def test_buckets_hold_every_gradient_once_as_the_backward_pass_completes_them() -> None:
    graph = resnet50(2)
    made = planned(graph, context(2, laptop(2)))
    members = [name for bucket in made.buckets for name in bucket.members]
    assert len(members) == len(set(members))
    assert {name for name in members if "@grad" in name} == {f"{v.name}@grad" for v in graph.of_kind("weight")}
    position = {name: i for i, node in enumerate(graph.nodes) for name in node.outputs}
    completed = [[position[name] for name in bucket.members if "@grad" in name] for bucket in made.buckets]
    assert all(max(first) <= min(then) for first, then in pairwise(completed))
    # loss, metrics and the sums behind running averages come last, in the last bucket
    rest = {name for name in members if "@grad" not in name}
    assert {graph.loss, *(value for _, value in graph.metrics)} <= rest <= set(made.buckets[-1].members)
    assert {name.removesuffix("@sum") for name in rest if name.endswith("@sum")} == {
        value.name for value in graph.of_kind("statistic")
    }
    sizes = [bucket.bytes for bucket in made.buckets]
    largest = max(graph.type(name).bytes for name in members)
    assert sizes[0] <= max(FIRST_BUCKET_BYTES, largest)
    assert all(size <= max(BUCKET_BYTES, largest) + 2**17 for size in sizes[1:])
    assert len(sizes) >= 100e6 / BUCKET_BYTES


@pytest.mark.parametrize("make", [lenet, resnet50])
def test_collectives_of_the_program_are_those_of_the_plan(make: object) -> None:
    graph, asked = make(33), context(3, laptop(3))  # type: ignore[operator]
    made = planned(graph, asked)
    (role,) = lower(graph, made, asked).roles
    sums = [i for i in role.segment("backward").instructions if isinstance(i, Collective) and "bucket" in i.name]
    assert [(each.name, each.bytes) for each in sums] == [(bucket.name, bucket.bytes) for bucket in made.buckets]
    assert made.shards == ((0, 11), (11, 22), (22, 33))


@pytest.mark.parametrize("ranks", [2, 3, 4, 8])
@pytest.mark.parametrize("link", [{}, {"latency": 1e-3}, {"bandwidth": 1e7}])
def test_each_bucket_takes_the_cheapest_algorithm(ranks: int, link: dict[str, float]) -> None:
    cluster = pod(ranks, **link)
    fabric = Fabric(cluster, Mesh((("data", ranks),)), processing(CORE))
    for bucket in planned(lenet(), context(ranks, cluster)).buckets:
        costs = fabric.algorithms("allreduce", bucket.bytes, ("data",))
        assert {"tree", "butterfly", "ring", "rabenseifner", "mpi"} <= costs.keys()
        assert bucket.algorithm == min(costs, key=lambda name: costs[name])
        assert bucket.figure.seconds == costs[bucket.algorithm]


def test_latency_and_bandwidth_decide() -> None:
    """A small network over a slow wire sends little, over a far one seldom."""
    slow = planned(lenet(), context(3, pod(3, bandwidth=1e7))).buckets[0].algorithm
    far = planned(lenet(), context(3, pod(3, latency=1e-1))).buckets[0].algorithm
    assert slow == "ring"
    assert far in ("mpi", "butterfly", "tree")


def test_shared_memory_only_inside_a_node() -> None:
    big = lenet(64)
    assert planned(big, context(2, laptop(2))).buckets[0].algorithm == "shared"
    assert planned(big, context(2, pod(2))).buckets[0].algorithm != "shared"
    assert planned(big, context(2, pod(1, 2))).buckets[0].algorithm == "shared"
    with pytest.raises(DiagnosticError) as error:
        planned(big, context(2, pod(2), allreduce="shared"))
    assert [d.code for d in error.value.diagnostics] == ["E0528"]


@pytest.mark.parametrize("name", ["tree", "butterfly", "ring", "rabenseifner", "shared", "mpi"])
def test_a_pinned_allreduce_is_obeyed(name: str) -> None:
    made = planned(lenet(), context(2, laptop(2), allreduce=name))
    assert {(bucket.algorithm, bucket.reason.kind) for bucket in made.buckets} == {(name, "pinned")}


def test_overlap_is_a_property_of_the_device_and_can_be_switched_off() -> None:
    net = Network(512)
    x = net("flatten", net.image(1, 32))
    for _ in range(12):
        x = net("relu", net("linear", x, features=1024))
    graph, cluster = net.trained(x), pod(2, bandwidth=2e8)
    hides = replace(cluster, devices=(replace(CORE, overlap=1.0),))
    plain = planned(graph, context(2, cluster)).predicted
    hidden = planned(graph, context(2, hides)).predicted
    off = planned(graph, context(2, hides, overlap="no")).predicted
    assert hidden.communication_seconds < 0.7 * plain.communication_seconds
    assert off == plain


def test_nothing_is_hidden_behind_a_backward_pass_that_waits_for_sums_itself() -> None:
    """Batch norms over the whole batch sum over the same ranks what their gradients need."""
    graph, hides = resnet50(4), pod(2, bandwidth=1e8)
    able = replace(hides, devices=(replace(CORE, overlap=1.0),))
    plain, hidden = (planned(graph, context(2, cluster)).predicted for cluster in (hides, able))
    assert hidden.communication_seconds == plain.communication_seconds


def test_groups_that_span_shards_are_paid_for() -> None:
    def predicted(group: int) -> Prediction:
        net = Network(8)
        x = net("bn", net("conv", net.image(3, 12), filters=16, window=3), group=group)
        return planned(net.trained(x), context(2, laptop(2))).predicted

    assert predicted(8).objective > predicted(4).objective + 1e-5
    assert predicted(4).objective == pytest.approx(predicted(2).objective, rel=0.01)
