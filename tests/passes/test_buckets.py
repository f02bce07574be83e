"""Data parallelism as planned: shards, buckets, and which allreduce."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dlc.cluster.topology import Cluster, Device, Group, Link
from dlc.cost.communication import allreduce_seconds
from dlc.diagnostics import DiagnosticError
from passes.buckets import ALGORITHMS, BUCKET_BYTES, FIRST_BUCKET_BYTES, shards
from passes.choose import choose
from passes.lower import lower
from tests.passes.sample_networks import Network, context, laptop, lenet, resnet50

CORE = Device("core", bandwidth=1e10, compute=(("f32", 5e10),))


def pod(nodes: int, cores: int = 1, **link: float) -> Cluster:
    net, shm = Link("net", **{"bandwidth": 1e9, "latency": 1e-5, **link}), Link("shm", 1e10, 1e-6)
    inner = Group("core", cores, "shm", device="core")
    return Cluster("pod", (CORE,), (net, shm), (Group("node", nodes, "net", (inner,)),))


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
    plan = choose(lenet(), context())
    assert (plan.buckets, plan.shards, plan.mesh) == ((), ((0, 32),), (("data", 1),))
    assert plan.predicted.communication_seconds == plan.bounds.communication == 0


def test_buckets_hold_every_gradient_once_in_the_order_of_the_backward_pass() -> None:
    graph = resnet50(2)
    plan = choose(graph, context(2, laptop(2)))
    members = [name for bucket in plan.buckets for name in bucket.members]
    assert len(members) == len(set(members))
    assert {name for name in members if "@grad" in name} == {f"{v.name}@grad" for v in graph.of_kind("weight")}
    position = {name: i for i, node in enumerate(graph.nodes) for name in node.outputs}
    gradients = [position[name] for name in members if "@grad" in name]
    assert gradients == sorted(gradients)
    # loss, metrics and the sums behind running averages come last, in the last bucket
    rest = {name for name in members if "@grad" not in name}
    assert {graph.loss, *(value for _, value in graph.metrics)} <= rest <= set(plan.buckets[-1].members)
    assert {name.removesuffix("@sum") for name in rest if name.endswith("@sum")} == {
        value.name for value in graph.of_kind("statistic")
    }
    sizes = [bucket.bytes for bucket in plan.buckets]
    largest = max(graph.type(name).bytes for name in members)
    assert sizes[0] <= max(FIRST_BUCKET_BYTES, largest)
    assert all(size <= max(BUCKET_BYTES, largest) + 2**17 for size in sizes[1:])
    assert len(sizes) >= 100e6 / BUCKET_BYTES


def test_collectives_of_the_program_are_those_of_the_plan() -> None:
    graph, asked = lenet(33), context(3, laptop(3))
    plan = choose(graph, asked)
    program = lower(graph, plan, asked)
    made = [i for i in program.roles[0].segment("backward").instructions if type(i).__name__ == "Collective"]
    assert [(c.name, c.algorithm, c.bytes) for c in made] == [  # type: ignore[union-attr]
        (bucket.name, bucket.algorithm, bucket.bytes) for bucket in plan.buckets
    ]
    assert plan.shards == ((0, 11), (11, 22), (22, 33))


@pytest.mark.parametrize("ranks", [2, 3, 4, 8])
@pytest.mark.parametrize("link", [{}, {"latency": 1e-3}, {"bandwidth": 1e7}])
def test_each_bucket_takes_the_cheapest_algorithm(ranks: int, link: dict[str, float]) -> None:
    cluster = pod(ranks, **link)
    plan = choose(lenet(), context(ranks, cluster))
    for bucket in plan.buckets:
        costs = {
            name: allreduce_seconds(name, bucket.bytes, tuple(range(ranks)), cluster, CORE)
            for name in ALGORITHMS
            if name != "shared"
        }
        assert bucket.algorithm == min(costs, key=lambda name: costs[name])
        assert bucket.figure.seconds == costs[bucket.algorithm]


def test_latency_and_bandwidth_decide() -> None:
    """A small network over a slow wire sends little, over a far one seldom."""
    slow = choose(lenet(), context(3, pod(3, bandwidth=1e7))).buckets[0].algorithm
    far = choose(lenet(), context(3, pod(3, latency=1e-1))).buckets[0].algorithm
    assert slow == "ring"
    assert far in ("mpi", "butterfly", "tree")


def test_shared_memory_only_inside_a_node() -> None:
    big = lenet(64)
    assert choose(big, context(2, laptop(2))).buckets[0].algorithm == "shared"
    assert choose(big, context(2, pod(2))).buckets[0].algorithm != "shared"
    assert choose(big, context(2, pod(1, 2))).buckets[0].algorithm == "shared"
    with pytest.raises(DiagnosticError) as error:
        choose(big, context(2, pod(2), allreduce="shared"))
    assert [d.code for d in error.value.diagnostics] == ["E0701"]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_pinned_allreduce_is_obeyed(name: str) -> None:
    plan = choose(lenet(), context(2, laptop(2), allreduce=name))
    assert {(bucket.algorithm, bucket.reason.kind) for bucket in plan.buckets} == {(name, "pinned")}


def test_overlap_is_a_property_of_the_device_and_can_be_switched_off() -> None:
    graph = resnet50(4)
    cluster = pod(2, bandwidth=1e8)
    hides = replace(cluster, devices=(replace(CORE, overlap=1.0),))
    plain = choose(graph, context(2, cluster)).predicted
    hidden = choose(graph, context(2, hides)).predicted
    off = choose(graph, context(2, hides, overlap="no")).predicted
    assert hidden.communication_seconds < 0.7 * plain.communication_seconds
    assert off == plain


def test_groups_that_span_shards_are_paid_for() -> None:
    def communication(group: int) -> float:
        net = Network(8)
        x = net("bn", net("conv", net.image(3, 12), filters=16, window=3), group=group)
        return choose(net.trained(x), context(2, laptop(2))).predicted.communication_seconds

    assert communication(8) > communication(4) + 2e-5
    assert communication(4) == communication(2)
