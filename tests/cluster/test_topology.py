"""`-n RANKS` resizes a cluster's innermost group; which device the others wait for."""

from __future__ import annotations

import pytest

from dlc.cluster.topology import MAX_DEVICES, Cluster, Device, Group, Link

NODES = Group("node", 4, "net", (Group("gpu", 8, "nvlink", device="gpu"),))


def cluster(*topology: Group, **shape: object) -> Cluster:
    links = (Link("net", 1e9, 1e-5), Link("nvlink", 1e10, 1e-6, **shape))  # type: ignore[arg-type]
    return Cluster("pod", (Device("gpu"), Device("cpu")), links, topology)


def counts(found: Cluster | None) -> list[int] | None:
    return None if found is None else [level.count for level in found.levels]


@pytest.mark.parametrize(
    ("ranks", "expected"),
    [
        (32, [4, 8]),
        (64, [4, 16]),
        (8, [4, 2]),
        (4, [4, 1]),
        (3, [1, 3]),
        (1, [1, 1]),
        (6, None),
        (0, None),
        (-4, None),
        (MAX_DEVICES, [4, MAX_DEVICES // 4]),
        (MAX_DEVICES + 4, None),
    ],
)
def test_resizing_nested_groups(ranks: int, expected: list[int] | None) -> None:
    found = cluster(NODES).resized(ranks)
    assert counts(found) == expected
    assert found is None or found.ranks == ranks


def test_ranks_in_one_memory_are_those_of_an_innermost_group() -> None:
    assert cluster(NODES).ranks_in_one_memory == 8
    assert cluster(Group("core", 2, "net", device="cpu")).ranks_in_one_memory == 2


def test_a_group_without_a_link_holds_one_rank() -> None:
    alone = cluster(Group("gpu", 1, None, device="gpu"))
    assert alone.resized(1) == alone
    assert alone.resized(2) is None


def test_a_link_that_joins_a_fixed_number_is_kept_to_it() -> None:
    torus = cluster(NODES, shape="torus", dimensions=(2, 4))
    assert counts(torus.resized(32)) == [4, 8]
    assert torus.resized(16) is None
    assert counts(torus.resized(4)) == [4, 1]


def test_uneven_clusters_keep_their_size() -> None:
    children = (Group("gpu", 2, "nvlink", device="gpu"), Group("cpu", 1, None, device="cpu"))
    uneven = cluster(Group("machine", 1, "net", children))
    assert uneven.resized(3) == uneven
    assert uneven.resized(6) is None


def test_the_slowest_device_is_that_of_the_lowest_peak_among_the_first_ranks() -> None:
    devices = tuple(Device(name, compute=(("f32", peak),)) for name, peak in (("fast", 4e12), ("slow", 1e12)))
    groups = (Group("fast", 2, "net", device="fast"), Group("slow", 2, "net", device="slow"))
    mixed = Cluster("mixed", devices, (Link("net", 1e9, 1e-5),), (Group("all", 1, "net", groups),))
    assert [mixed.slowest(range(ranks)).name for ranks in (1, 2, 3, 4)] == ["fast", "fast", "slow", "slow"]
