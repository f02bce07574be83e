"""Communication of all groups of a mesh at once: against every message counted one by one, on random clusters."""

from __future__ import annotations

import random
import time
from math import inf, prod

import numpy as np
import pytest

from dlc.cluster import fabric as fabrics
from dlc.cluster import groups as groups_of
from dlc.cluster.collectives import Processing, lower_bound, seconds, seconds_together
from dlc.cluster.fabric import Fabric
from dlc.cluster.rounds import ALGORITHMS, Digit, Pattern, Shape, flows, ring_order, rounds
from dlc.cluster.topology import Cluster, Device, Group, Link
from dlc.ir.mesh import Mesh
from tests.cluster import message_by_message as one_by_one

CORE = Device("core", kind="cpu", bandwidth=1e10, compute=(("f32", 5e10),))
GPU = Device("gpu", kind="gpu", bandwidth=1e12, compute=(("f32", 1e13),))
SIZES = (0.0, 100.0, 1e4, 1e6)


def pod(nodes: int, gpus: int = 8, **net: object) -> Cluster:
    links = (Link("net", 5e10, 2e-6, **net), Link("nvlink", 3e11, 2e-6, shape="switch"))  # type: ignore[arg-type]
    return Cluster("pod", (GPU,), links, (Group("node", nodes, "net", (Group("gpu", gpus, "nvlink"),)),))


def torus(*extents: int) -> Cluster:
    count = prod(extents)
    link = Link("ici", 5e10, 1e-6, shape="torus", dimensions=extents)
    return Cluster("torus", (GPU,), (link,), (Group("gpu", count, "ici"),))


def mesh_of(*extents: int, first: int = 0) -> Mesh:
    return Mesh(tuple((f"m{i}", extent) for i, extent in enumerate(extents)), first)


# Random clusters: nested, wired in rings, tori and single edges, shared, not duplex, oversubscribed, uneven.


def random_link(rng: random.Random, name: str, count: int) -> Link:
    shape = rng.choice(("all_to_all", "switch", "ring", "torus", "fat_tree", "edges" if count > 1 else "switch"))
    tori = [(a, count // a) for a in range(1, count + 1) if count % a == 0] + [(2, 2, 2)] * (count == 8)
    edges = [(i, rng.randrange(i)) for i in range(1, count)]
    more = [(a, b) for a in range(count) for b in range(a) if rng.random() < 0.2]
    return Link(
        name,
        bandwidth=rng.choice((1e9, 2e9, 7e9)),
        latency=rng.choice((0.0, 1e-6, 1e-5)),
        duplex=rng.random() < 0.7,
        shape=shape,
        dimensions=rng.choice(tori) if shape == "torus" else (),
        edges=tuple(dict.fromkeys((*edges, *more))) if shape == "edges" else (),
        oversubscription=rng.choice((1.0, 1.0, 2.0, 3.0)),
        shared=rng.random() < 0.2,
    )


def random_cluster(rng: random.Random) -> Cluster:
    links, uneven = list[Link](), rng.random() < 0.25

    def group(depth: int) -> Group:
        count = rng.choice((1, 2, 2, 3, 4, 4, 6, 8) if depth < 2 else (2, 3, 4))
        link = random_link(rng, f"link{len(links)}", count)
        links.append(link)
        nested = depth < 2 and rng.random() < 0.7
        children = tuple(group(depth + 1) for _ in range(rng.choice((1, 2) if uneven else (1,)))) if nested else ()
        return Group("group", count, link.name, children, None if children else "core")

    top = group(0)
    return Cluster("random", (CORE,), tuple(links), (top,)) if 2 <= top.ranks <= 64 else random_cluster(rng)


def random_mesh(rng: random.Random, cluster: Cluster) -> Mesh:
    everyone = cluster.ranks
    ranks = rng.choice((everyone, everyone, everyone, max(2, everyone // 2), rng.randint(2, everyone)))
    extents, rest = list[int](), ranks
    while rest > 1:
        extents.append(rng.choice([d for d in range(2, rest + 1) if rest % d == 0]))
        rest //= extents[-1]
    return mesh_of(*extents, first=rng.choice((0, 0, everyone - ranks, rng.randint(0, everyone - ranks))))


Flows = list[tuple[int, int]]


def together(groups: tuple[tuple[int, ...], ...], pairs: Flows) -> Flows:
    return [(group[a], group[b]) for group in groups for a, b in pairs]


@pytest.mark.parametrize("seed", range(60))
def test_all_algorithms_cost_what_their_messages_do(seed: int) -> None:
    rng = random.Random(seed)
    cluster = random_cluster(rng)
    mesh, size = random_mesh(rng, cluster), rng.choice(SIZES)
    axes = tuple(name for name in mesh.names if rng.random() < 0.6) or mesh.names[:1]
    groups, fabric = mesh.groups(axes), Fabric(cluster, mesh)
    shape = groups_of.of_mesh(cluster, mesh.first, fabrics._blocks(mesh, axes)).shape
    counted: dict[tuple[Pattern, float], float] = {}
    for kind, names in ALGORITHMS.items():
        found = fabric.algorithms(kind, size, axes)
        for name in names:
            plan = rounds(kind, name, shape)
            assert (plan is not None) == (name in found)
            for r in plan or ():
                pairs = list(zip(*(ends.tolist() for ends in flows(r.pattern, shape)), strict=True))
                if (r.pattern, r.share) not in counted:
                    taken = one_by_one.round_seconds(together(groups, pairs), r.share * size, cluster)
                    counted[r.pattern, r.share] = taken
            expected = sum(r.times * counted[r.pattern, r.share] for r in plan or ())
            assert found.get(name, 0.0) == pytest.approx(expected, rel=1e-9, abs=1e-18)
        assert fabric.seconds(kind, size, axes) == min(found.values())
        if kind == "allreduce":
            bound = fabric.lower_bound(size, axes)
            assert all(seconds >= bound * (1 - 1e-9) for seconds in found.values())


@pytest.mark.parametrize("seed", range(40))
def test_plain_algorithms_by_their_definitions(seed: int) -> None:
    """The rounds too are worked out apart: i to i + k, exchanges, binomial trees, folding."""
    rng = random.Random(1000 + seed)
    cluster = random_cluster(rng)
    mesh, size = random_mesh(rng, cluster), rng.choice(SIZES)
    axes = tuple(name for name in mesh.names if rng.random() < 0.6) or mesh.names[:1]
    groups, fabric = mesh.groups(axes), Fabric(cluster, mesh)
    kinds = ["tree", "butterfly", "ring", "rabenseifner", "allgather", "reduce_scatter", "broadcast", "all_to_all"]
    for kind in kinds:
        plan = list(one_by_one.rounds(kind, len(groups[0])))
        expected = sum(one_by_one.round_seconds(together(groups, f), share * size, cluster) for f, share in plan)
        found = fabric.algorithms(kind if kind in ALGORITHMS else "allreduce", size, axes)
        names = {"allgather": "ring", "reduce_scatter": "ring", "broadcast": "tree"}
        name = names.get(kind, kind) if kind != "all_to_all" else ("linear" if "linear" in found else "pairwise")
        assert found[name] == pytest.approx(expected, rel=1e-9, abs=1e-18)
        assert seconds_together(kind, name, size, groups, cluster) == pytest.approx(expected, rel=1e-9, abs=1e-18)


@pytest.mark.parametrize("seed", range(30))
def test_messages_between_neighbours(seed: int) -> None:
    rng = random.Random(2000 + seed)
    cluster = random_cluster(rng)
    mesh, size = random_mesh(rng, cluster), rng.choice(SIZES)
    fabric = Fabric(cluster, mesh)
    for axis in mesh.names:
        groups, extent = mesh.groups((axis,)), mesh.extent(axis)
        for offset in (1, -1, 2, 1 - extent):
            pairs = [(i, i + offset) for i in range(extent) if 0 <= i + offset < extent]
            expected = one_by_one.round_seconds(together(groups, pairs), size, cluster) if pairs else 0.0
            assert fabric.send(size, axis, offset) == pytest.approx(expected, rel=1e-9)
        both = [(i, j) for i in range(extent) for j in (i - 1, i + 1) if 0 <= j < extent]
        expected = one_by_one.round_seconds(together(groups, both), size, cluster)
        assert fabric.neighbours(size, axis) == pytest.approx(expected, rel=1e-9)


# Algorithms reach everyone, with no more data than they need.


def shapes() -> list[Shape]:
    digits = [(2, 4), (3, 4), (4, 3), (2, 2, 2), (2, 3, 4), (8, 8), (5, 2)]
    flat = [Shape(P, (Digit(P),), (Digit(P),)) for P in (2, 3, 5, 8, 12, 16)]
    nested = [Shape(prod(d), tuple(map(Digit, d)), tuple(map(Digit, d))) for d in digits]
    wired = [Shape(prod(d), (Digit(prod(d), True, False),), tuple(Digit(n, True, False) for n in d)) for d in digits]
    return [*flat, *nested, *wired]


@pytest.mark.parametrize("shape", shapes())
@pytest.mark.parametrize("kind", ["allreduce", "allgather", "broadcast"])
def test_everybody_learns_of_everything(kind: str, shape: Shape) -> None:
    for name in ALGORITHMS[kind]:
        known = np.eye(shape.ranks, dtype=bool)
        for r in rounds(kind, name, shape) or ():
            sources, targets = flows(r.pattern, shape)
            assert len(set(targets.tolist())) == len(targets)  # one message a round
            for _ in range(r.times):
                before = known.copy()
                known[targets] |= before[sources]
        if rounds(kind, name, shape) is not None:
            assert known[:, 0].all() if kind == "broadcast" else known.all()


@pytest.mark.parametrize("shape", shapes())
def test_how_much_each_rank_sends(shape: Shape) -> None:
    P = shape.ranks
    for kind, names in ALGORITHMS.items():
        for name in names:
            plan = rounds(kind, name, shape)
            if plan is None or name in ("tree", "butterfly") or (name == "rabenseifner" and P & (P - 1)):
                continue
            sent = sum(r.share * r.times for r in plan)
            if kind in ("allgather", "reduce_scatter"):
                assert sent == pytest.approx((P - 1) / P)
            elif kind == "allreduce" and name != "hierarchical":
                assert sent == pytest.approx(2 * (P - 1) / P)
            elif name in ("linear", "pairwise"):
                assert sent == pytest.approx((P - 1) / P**2)
            else:
                assert sent >= (P - 1) / P**2


def test_a_ring_along_a_torus_goes_from_neighbour_to_neighbour() -> None:
    cluster = torus(4, 8)
    shape = groups_of.of_mesh(cluster, 0, ((32, True),)).shape
    order = ring_order(shape).tolist()
    assert sorted(order) == list(range(32))
    steps = zip(order, [*order[1:], order[0]], strict=True)
    wires = {one_by_one.round_seconds([step], 0.0, cluster) for step in steps}
    assert wires == {1e-6}
    found = Fabric(cluster, mesh_of(32)).algorithms("allreduce", 0.0, ("m0",))
    assert found["embedded_ring"] == pytest.approx(62e-6)
    assert found["ring"] == pytest.approx(2 * 62e-6)


def test_a_ring_along_edges_follows_a_cycle() -> None:
    """The eight GPUs of a hybrid cube mesh: two cliques of four, and an edge from each to its like."""
    cliques = [(a + base, b + base) for base in (0, 4) for a in range(4) for b in range(a + 1, 4)]
    link = Link("nvlink", 2e10, 1e-6, shape="edges", edges=(*cliques, *((i, i + 4) for i in range(4))))
    cube = Cluster("cube", (GPU,), (link,), (Group("gpu", 8, "nvlink"),))
    found = Fabric(cube, mesh_of(8)).algorithms("allreduce", 1e6, ("m0",))
    assert found["embedded_ring"] == pytest.approx(14 * (1e-6 + 1e6 / 8 / 2e10))
    assert found["ring"] > found["embedded_ring"]


# What groups share.


def test_groups_share_the_port_of_their_node() -> None:
    """Four nodes of eight GPUs: an allreduce across nodes has eight flows a port, within a node one."""
    fabric = Fabric(pod(4), mesh_of(4, 8))
    across, within = (fabric.algorithms("allreduce", 1e8, (axis,))["ring"] for axis in ("m0", "m1"))
    assert across == pytest.approx(6 * (2e-6 + 8 * 1e8 / 4 / 5e10))
    assert within == pytest.approx(14 * (2e-6 + 1e8 / 8 / 3e11))
    alone = seconds("ring", 1e8, (0, 8, 16, 24), pod(4))
    assert alone == pytest.approx(6 * (2e-6 + 1e8 / 4 / 5e10))


def test_the_bound_counts_all_groups() -> None:
    fabric = Fabric(pod(4), mesh_of(4, 8))
    bound = fabric.lower_bound(1e8, ("m0",))
    assert bound == pytest.approx(2 * 2e-6 + 8 * 2 * 1e8 * 3 / 4 / 5e10)
    assert lower_bound(1e8, (0, 8, 16, 24), pod(4)) == pytest.approx(2 * 2e-6 + 2 * 1e8 * 3 / 4 / 5e10)
    assert fabric.seconds("allreduce", 1e8, ("m0",)) >= bound


def test_stages_of_a_pipeline_send_through_one_port_of_a_node() -> None:
    fabric = Fabric(pod(4), mesh_of(4, 8))
    assert fabric.send(1e6, "m0") == pytest.approx(2e-6 + 8 * 1e6 / 5e10)
    assert fabric.send(1e6, "m1") == pytest.approx(2e-6 + 1e6 / 3e11)
    assert fabric.neighbours(1e6, "m0") == pytest.approx(2e-6 + 16 * 1e6 / 5e10)


def test_hierarchies_win_where_nodes_have_one_port() -> None:
    fabric = Fabric(pod(16), mesh_of(16, 8))
    found = fabric.algorithms("allreduce", 1e9, ("m0", "m1"))
    assert found["hierarchical"] < 0.2 * found["rabenseifner"]
    assert fabric.cheapest("allreduce", 1e7, ("m0", "m1"))[0] == "hierarchical_halving"
    gathered = fabric.algorithms("allgather", 1e9, ("m0", "m1"))
    assert gathered["hierarchical_doubling"] < 0.5 * gathered["doubling"]


def test_small_gathers_take_few_rounds() -> None:
    fabric = Fabric(pod(6), mesh_of(6, 8))
    assert fabric.cheapest("allgather", 600.0, ("m0",))[0] == "bruck"
    assert fabric.seconds("allgather", 0.0, ("m0",)) == pytest.approx(3 * 2e-6)
    assert fabric.seconds("reduce_scatter", 0.0, ("m1",)) == pytest.approx(3 * 2e-6)


def test_groups_of_one_have_nothing_to_send() -> None:
    fabric = Fabric(pod(2), mesh_of(16, 1))
    assert fabric.seconds("allreduce", 1e6, ("m1",)) == 0.0
    assert fabric.seconds("allreduce", 1e6, ()) == 0.0
    assert fabric.cheapest("allgather", 1e6, ("m1",)) == ("", 0.0)
    assert fabric.algorithms("all_to_all", 1e6, ("nothing",)) == {}
    assert fabric.send(1e6, "m1") == 0.0
    assert fabric.neighbours(np.ones(3), "m1").tolist() == [0.0, 0.0, 0.0]


def test_many_sizes_at_once() -> None:
    local = Processing(5e-6, 3e-12, 2e-12)
    fabric = Fabric(pod(6), mesh_of(6, 8), local)
    sizes = np.array([0.0, 1.0, 2048.0, 2049.0, 1e5, 1e7, 1e9])
    for kind in ALGORITHMS:
        for axes in (("m0",), ("m1",), ("m0", "m1")):
            one_by_one_ = [fabric.seconds(kind, float(size), axes) for size in sizes]
            assert fabric.seconds(kind, sizes, axes) == pytest.approx(one_by_one_, rel=1e-12)
            assert one_by_one_ == [min(fabric.algorithms(kind, float(size), axes).values()) for size in sizes]
    assert fabric.send(sizes, "m0") == pytest.approx([fabric.send(float(size), "m0") for size in sizes])


def test_memory_that_all_groups_share_is_used_where_there_is_some() -> None:
    inner = Group("core", 4, "shm", device="core")
    links = (Link("net", 1e9, 1e-5), Link("shm", 1e10, 1e-6))
    nodes = Cluster("nodes", (CORE,), links, (Group("node", 2, "net", (inner,)),))
    fabric = Fabric(nodes, mesh_of(2, 4), Processing(4e-6, 3e-10, 2e-10))
    assert "shared" in fabric.algorithms("allreduce", 1e6, ("m1",))
    assert "shared" not in fabric.algorithms("allreduce", 1e6, ("m0",))
    assert fabric.lower_bound(1e6, ("m1",)) <= fabric.seconds("allreduce", 1e6, ("m1",))


def test_a_collective_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="gossip"):
        Fabric(pod(2), mesh_of(16)).seconds("gossip", 1.0, ("m0",))
    with pytest.raises(ValueError, match="not for such groups"):
        seconds_together("allgather", "doubling", 1.0, ((0, 1, 2),), pod(2))


# At scale.


@pytest.mark.parametrize(
    ("small", "large"),
    [
        ((pod(512), mesh_of(4096)), (pod(8192), mesh_of(65536))),
        ((pod(32, oversubscription=2.0), mesh_of(8, 8, 4)), (pod(512, oversubscription=2.0), mesh_of(8, 128, 4))),
        ((pod(100), mesh_of(100, 8)), (pod(1000), mesh_of(125, 64))),
        ((torus(16, 16, 16), mesh_of(64, 64)), (torus(64, 32, 32), mesh_of(64, 1024))),
    ],
)
def test_first_prices_take_no_more_than_as_much_longer_as_there_are_more_devices(
    small: tuple[Cluster, Mesh], large: tuple[Cluster, Mesh]
) -> None:
    def seconds(cluster: Cluster, mesh: Mesh) -> float:
        found = inf
        for _ in range(3):
            groups_of.of_mesh.cache_clear()
            fabrics._table.cache_clear()
            begun = time.process_time()
            for axis in mesh.names:
                assert Fabric(cluster, mesh).seconds("allreduce", 1e6, (axis,)) > 0
            found = min(found, time.process_time() - begun)
        return found

    assert seconds(*large) < 3 * large[1].ranks / small[1].ranks * seconds(*small)
