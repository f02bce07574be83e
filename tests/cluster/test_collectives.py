"""Costs of collectives: the closed forms of §4, a simulation of every message, and the thresholds in the literature."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from math import ceil, log2

import pytest

from dlc.cluster.collectives import MPI_SHORT, Processing, lower_bound, seconds, seconds_together, shares_memory
from dlc.cluster.topology import Cluster, Device, Group, Link

L, G = 2e-6, 1 / 5e9
CORE = Device("core", bandwidth=1e10, compute=(("f32", 5e10),))


def flat(ranks: int, link: Link | None = None) -> Cluster:
    link = link or Link("wire", 1 / G, L)
    return Cluster("flat", (CORE,), (link,), (Group("core", ranks, link.name, device="core"),))


def nested(nodes: int, cores: int) -> Cluster:
    slow, fast = Link("net", 1e9, 1e-5), Link("shm", 1e10, 1e-6)
    inner = Group("core", cores, "shm", device="core")
    return Cluster("nested", (CORE,), (slow, fast), (Group("node", nodes, "net", (inner,)),))


def cost(kind: str, size: float, ranks: int, cluster: Cluster | None = None) -> float:
    return seconds(kind, size, tuple(range(ranks)), cluster or flat(ranks))


# Closed forms.


PLAIN = {"allgather": "ring", "reduce_scatter": "ring", "all_to_all": "pairwise", "broadcast": "tree"}


def plainly(kind: str, size: float, ranks: int) -> float:
    """The cost of the algorithm that §4 gives."""
    return seconds_together(kind, PLAIN.get(kind, ""), size, (tuple(range(ranks)),), flat(ranks))


def folds(P: int) -> int:
    return 0 if P & (P - 1) == 0 else 2


FORMULAS: dict[str, Callable[[int, float], float]] = {
    "tree": lambda P, m: 2 * ceil(log2(P)) * (L + m * G),
    "butterfly": lambda P, m: (int(log2(P)) + folds(P)) * (L + m * G),
    "ring": lambda P, m: 2 * (P - 1) * (L + m / P * G),
    "rabenseifner": lambda P, m: (
        2 * L * int(log2(P)) + 2 * m * G * (1 - 1 / 2 ** int(log2(P))) + folds(P) * (L + m * G)
    ),
    "allgather": lambda P, m: (P - 1) * (L + m / P * G),
    "reduce_scatter": lambda P, m: (P - 1) * (L + m / P * G),
    "all_to_all": lambda P, m: (P - 1) * (L + m / P**2 * G),
    "broadcast": lambda P, m: ceil(log2(P)) * (L + m * G),
}


@pytest.mark.parametrize("kind", FORMULAS)
def test_closed_forms(kind: str) -> None:
    for P in range(2, 97):
        for size in (0.0, 4.0, 1e3, 1e6):
            assert plainly(kind, size, P) == pytest.approx(FORMULAS[kind](P, size), rel=1e-12)


def test_one_rank_has_nothing_to_send() -> None:
    assert cost("ring", 1e6, 1) == lower_bound(1e6, (0,), flat(1)) == 0.0


def test_there_is_no_other_collective() -> None:
    with pytest.raises(ValueError, match="'gossip'"):
        cost("gossip", 1.0, 2)


# Every message simulated: each rank a program that sends and receives, with its own clock.

Chunks = list[float]
Step = tuple[int | None, Chunks, int | None]
"""(send to, what, receive from); what arrives is handed in as the result of the yield."""
Program = Generator[Step, Chunks, Chunks]


def simulate(program: Callable[[int, int, Chunks], Program], P: int, values: list[Chunks], each: float) -> float:
    """Run all ranks and check that all hold the sums; a chunk has `each` bytes. The clock of the last one to end."""
    running = {rank: program(rank, P, list(values[rank])) for rank in range(P)}
    waiting = {rank: next(running[rank]) for rank in range(P)}
    clock = [0.0] * P
    sent: dict[tuple[int, int], list[tuple[float, Chunks]]] = {}
    posted: set[int] = set()
    results: list[Chunks] = []
    while waiting:
        for rank in list(waiting):
            to, what, source = waiting[rank]
            if rank not in posted:
                begun = clock[rank]
                if to is not None:
                    took = L + len(what) * each * G
                    sent.setdefault((rank, to), []).append((begun + took, what))
                    clock[rank] = begun + took
                posted.add(rank)
            arrived: Chunks = []
            if source is not None:
                if not sent.get((source, rank)):
                    continue
                at, arrived = sent[source, rank].pop(0)
                clock[rank] = max(clock[rank], at)
            posted.discard(rank)
            try:
                waiting[rank] = running[rank].send(arrived)
            except StopIteration as end:
                results.append(end.value)
                del waiting[rank]
    expected = pytest.approx([sum(column) for column in zip(*values, strict=True)])
    assert all(result == expected for result in results)
    return max(clock)


def tree(rank: int, P: int, mine: Chunks) -> Program:
    span, down = 1, []
    while span < P:
        if rank % (2 * span) == span:
            yield rank - span, mine, None
            mine = yield None, [], rank - span
            break
        if rank + span < P:
            mine = [a + b for a, b in zip(mine, (yield None, [], rank + span), strict=True)]
            down.append(rank + span)
        span *= 2
    for child in reversed(down):
        yield child, mine, None
    return mine


def ring(rank: int, P: int, mine: Chunks) -> Program:
    right, left = (rank + 1) % P, (rank - 1) % P
    for round_ in range(P - 1):
        (arrived,) = yield right, [mine[(rank - round_) % P]], left
        mine[(rank - round_ - 1) % P] += arrived
    for round_ in range(P - 1):
        (arrived,) = yield right, [mine[(rank + 1 - round_) % P]], left
        mine[(rank - round_) % P] = arrived
    return mine


def folded(inner: Callable[[int, int, Chunks, Callable[[int], int]], Program]) -> Callable[[int, int, Chunks], Program]:
    def program(rank: int, P: int, mine: Chunks) -> Program:
        core = 2 ** int(log2(P))
        extra = P - core
        if rank < 2 * extra and rank % 2:
            yield rank - 1, mine, None
            return (yield None, [], rank - 1)
        if rank < 2 * extra:
            mine = [a + b for a, b in zip(mine, (yield None, [], rank + 1), strict=True)]
        place = rank // 2 if rank < 2 * extra else rank - extra
        mine = yield from inner(place, core, mine, lambda p: 2 * p if p < extra else p + extra)
        if rank < 2 * extra:
            yield rank + 1, mine, None
        return mine

    return program


@folded
def butterfly(place: int, core: int, mine: Chunks, rank_of: Callable[[int], int]) -> Program:
    span = 1
    while span < core:
        partner = rank_of(place ^ span)
        mine = [a + b for a, b in zip(mine, (yield partner, mine, partner), strict=True)]
        span *= 2
    return mine


@folded
def rabenseifner(place: int, core: int, mine: Chunks, rank_of: Callable[[int], int]) -> Program:
    low, high, span, cuts = 0, len(mine), core // 2, []
    while span:
        middle, partner = (low + high) // 2, rank_of(place ^ span)
        kept, given = ((middle, high), (low, middle)) if place & span else ((low, middle), (middle, high))
        arrived = yield partner, mine[slice(*given)], partner
        mine[slice(*kept)] = [a + b for a, b in zip(mine[slice(*kept)], arrived, strict=True)]
        cuts.append((partner, kept, given))
        (low, high), span = kept, span // 2
    for partner, kept, given in reversed(cuts):
        mine[slice(*given)] = yield partner, mine[slice(*kept)], partner
    return mine


@pytest.mark.parametrize("name", ["tree", "ring", "butterfly", "rabenseifner"])
def test_simulated_messages_take_the_time_of_the_formula(name: str) -> None:
    program = {"tree": tree, "ring": ring, "butterfly": butterfly, "rabenseifner": rabenseifner}[name]
    for P in [*range(2, 34), 48, 63, 64, 96]:
        chunks = {"ring": P, "rabenseifner": 2 ** int(log2(P))}.get(name, 1)
        values = [[float(rank * chunks + i) for i in range(chunks)] for rank in range(P)]
        size = 3e5
        simulated = simulate(program, P, values, size / chunks)
        if name == "tree" and P & (P - 1):  # ranks that have no partner in a round start earlier
            assert cost(name, size, P) * (1 - 2 / ceil(log2(P))) < simulated <= cost(name, size, P) * (1 + 1e-12)
        else:
            assert simulated == pytest.approx(cost(name, size, P), rel=1e-12)


# Thresholds and bounds.


THRESHOLDS = {4: 4.0, 8: 2.4, 16: 1.882, 32: 1.633, 64: 1.488, 128: 1.396, 256: 1.332, 1024: 1.25}


@pytest.mark.parametrize(("P", "threshold"), THRESHOLDS.items())
def test_butterfly_wins_up_to_the_published_threshold(P: int, threshold: float) -> None:
    """The survey's model: butterfly iff γmG/L is below lgP/(lgP - 2(P-1)/P)."""
    crossing_size = threshold * L / G
    below, above = crossing_size * 0.999, crossing_size * 1.001
    assert cost("butterfly", below, P) < cost("rabenseifner", below, P)
    assert cost("butterfly", above, P) > cost("rabenseifner", above, P)


def test_for_powers_of_two_neither_tree_nor_ring_wins() -> None:
    for P in (2, 4, 8, 16, 32, 64):
        for size in (4.0, 1e3, 1e5, 1e8):
            best = min(cost("butterfly", size, P), cost("rabenseifner", size, P))
            assert best <= cost("tree", size, P)
            assert best <= cost("ring", size, P) * (1 + 1e-12)


def test_the_ring_wins_large_messages_on_other_counts() -> None:
    for P in (3, 5, 6, 7, 12, 48):
        assert cost("ring", 1e8, P) < min(cost("rabenseifner", 1e8, P), cost("butterfly", 1e8, P))


def test_the_ring_wins_where_only_neighbours_are_linked() -> None:
    wires = flat(8, Link("wire", 1 / G, L, shape="ring"))
    assert cost("ring", 1e7, 8, wires) == pytest.approx(cost("ring", 1e7, 8))
    assert cost("rabenseifner", 1e7, 8, wires) > 1.5 * cost("ring", 1e7, 8, wires)


def test_bandwidth_of_the_bus_as_nccl_counts_it() -> None:
    """nccl-tests: bytes a second times 2(n-1)/n of an allreduce, (n-1)/n of a gather or scatter are the link's own."""
    size = 1e12
    for P in (2, 6, 8):
        assert size / cost("ring", size, P) * 2 * (P - 1) / P == pytest.approx(1 / G, rel=1e-6)
        for kind in ("allgather", "reduce_scatter"):
            assert size / cost(kind, size, P) * (P - 1) / P == pytest.approx(1 / G, rel=1e-6)


def test_mpi_switches_at_2048_bytes() -> None:
    assert cost("mpi", MPI_SHORT, 8) == cost("butterfly", MPI_SHORT, 8)
    assert cost("mpi", MPI_SHORT + 1, 8) == cost("rabenseifner", MPI_SHORT + 1, 8)


def test_nothing_beats_the_lower_bound() -> None:
    for P in range(2, 40):
        for size in (4.0, 1e3, 1e6):
            bound = lower_bound(size, tuple(range(P)), flat(P))
            if P & (P - 1) == 0:
                assert bound == pytest.approx(L * log2(P) + 2 * size * G * (P - 1) / P)
            for kind in ("tree", "ring", "butterfly", "rabenseifner"):
                # butterfly of two computes redundantly: both add, and save one of the two messages
                assert cost(kind, size, P) >= bound * (1 - 1e-12) or (kind, P) == ("butterfly", 2)
    for cluster in (nested(2, 4), nested(3, 2), nested(4, 8)):
        for kind in ("tree", "ring", "butterfly", "rabenseifner", "hierarchical"):
            assert cost(kind, 1e6, cluster.ranks, cluster) >= lower_bound(1e6, tuple(range(cluster.ranks)), cluster)


# Nested machines, links and processing.


def test_hierarchical_sends_a_share_across_nodes() -> None:
    cluster, size = nested(4, 8), 1e7
    inner = 2 * 7 * (1e-6 + size / 8 / 1e10)
    # eight ranks of a node use its one port into the network at once: together they send what one would
    outer = 2 * 2 * 1e-5 + 2 * size * 3 / 4 / 1e9
    assert cost("hierarchical", size, 32, cluster) == pytest.approx(inner + outer)
    assert cost("hierarchical", size, 32, cluster) < cost("rabenseifner", size, 32, cluster)


def test_ranks_of_one_node_pay_for_its_own_link_only() -> None:
    cluster = nested(2, 4)
    assert seconds("ring", 1e6, (4, 5, 6, 7), cluster) == pytest.approx(6 * (1e-6 + 1e6 / 4 / 1e10))
    assert seconds("ring", 1e6, (0, 1, 4, 5), cluster) == pytest.approx(6 * (1e-5 + 1e6 / 4 / 1e9))


def test_oversubscription_sharing_and_half_duplex_divide_the_bandwidth() -> None:
    wire = Link("wire", 1 / G, 0.0)
    once = cost("ring", 1e6, 4, flat(4, wire))
    assert cost("ring", 1e6, 4, flat(4, replace(wire, oversubscription=3.0))) == pytest.approx(3 * once)
    assert cost("ring", 1e6, 4, flat(4, replace(wire, duplex=False))) == pytest.approx(2 * once)
    assert cost("ring", 1e6, 4, flat(4, replace(wire, shared=True))) == pytest.approx(4 * once)


def test_the_core_of_a_tree_is_shared_by_those_that_use_it() -> None:
    """Half of the members of a tree that is oversubscribed twice have their full bandwidth."""
    tree = flat(8, Link("tree", 1 / G, 0.0, shape="fat_tree", oversubscription=2.0))
    assert cost("ring", 1e6, 4, tree) == pytest.approx(cost("ring", 1e6, 4, flat(8, Link("wire", 1 / G, 0.0))))
    assert seconds("tree", 1e6, (0, 1), tree) == pytest.approx(2 * 1e6 * G)
    assert cost("ring", 1e6, 8, tree) == pytest.approx(2 * 7 * 1e6 / 8 * 2 * G)


def test_messages_take_the_shortest_way_over_wires() -> None:
    def wires(cluster: Cluster, source: int, target: int) -> float:
        return seconds("broadcast", 0.0, (source, target), cluster) / L

    torus = flat(16, Link("wire", 1 / G, L, shape="torus", dimensions=(4, 4)))
    assert wires(torus, 0, 1) == wires(torus, 0, 3) == wires(torus, 0, 12) == pytest.approx(1)
    assert wires(torus, 0, 10) == pytest.approx(4)
    line = flat(4, Link("wire", 1 / G, L, shape="edges", edges=((0, 1), (1, 2), (2, 3))))
    assert wires(line, 0, 3) == pytest.approx(3)


def test_memory_is_shared_by_cores_of_one_node_only() -> None:
    assert shares_memory((0, 1, 2), nested(2, 4))
    assert not shares_memory((3, 4), nested(2, 4))
    gpus = replace(flat(4), devices=(replace(CORE, kind="gpu"),))
    assert not shares_memory((0, 1), gpus)


def test_shared_memory_reduction() -> None:
    """Two barriers, and every byte read and written once: execution.md measured 4 to 6 times less than messages."""
    local = Processing(call=4e-6, reduce=3e-10, copy=2e-10)
    for P in (2, 4, 7):
        found = seconds("shared", 1e7, tuple(range(P)), flat(P), local)
        assert found == pytest.approx(2 * (4e-6 + ceil(log2(P)) * L) + 1e7 * 2e-10)


def test_processing_is_paid_for_each_round_and_each_reduced_byte() -> None:
    local = Processing(call=1e-5, reduce=1e-9)
    ranks = tuple(range(8))
    for kind, rounds, reduced in (
        ("butterfly", 3, 3.0),
        ("ring", 14, 7 / 8),
        ("rabenseifner", 6, 7 / 8),
        ("tree", 6, 3.0),
    ):
        extra = seconds(kind, 1e6, ranks, flat(8), local) - cost(kind, 1e6, 8)
        assert extra == pytest.approx(rounds * 1e-5 + reduced * 1e-3)
    tests = 3 * 1e-5 / 2  # the library goes on with each of its rounds while the program tests it
    assert seconds("mpi", 4.0, ranks, flat(8), local) == pytest.approx(cost("mpi", 4.0, 8) + 1e-5 + tests + 3 * 4e-9)
