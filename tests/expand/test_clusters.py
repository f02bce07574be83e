"""Cluster blocks: figures in SI units, topologies, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlc.cluster.topology import Cluster, Device, Group, Link
from tests.expand.blocks import DEVICE, LINK, Result, cluster, expanded


def only(result: Result) -> Cluster:
    assert result.spec is not None, result.diagnostics
    (found,) = result.spec.clusters
    return found


def test_every_setting_of_devices_and_links(tmp_path: Path) -> None:
    text = cluster(
        "device v100 { kind = gpu, memory = 32 GiB, bandwidth = 900 GB/s, compute.f32 = 15.7 TFLOP/s, "
        "compute.f16 = 125 TFLOP/s, launch = 5 us, cores = 80, isa = avx512, overlap = 0.5, profile = 'v100.json' }",
        "link ib { bandwidth = 100 Gbit/s, latency = 1.5 us, duplex = no, shape = fat_tree, "
        "oversubscription = 2, shared = yes }",
        "topology { v100[4] over ib }",
    ).replace("'", '"')
    found = only(expanded(text, tmp_path))
    assert found.devices == (
        Device(
            "v100",
            kind="gpu",
            memory=32 * 2**30,
            bandwidth=9e11,
            compute=(("f32", 1.57e13), ("f16", 1.25e14)),
            launch=5e-6,
            cores=80,
            isa="avx512",
            overlap=0.5,
            profile="v100.json",
        ),
    )
    assert found.links == (
        Link("ib", 12.5e9, 1.5e-6, duplex=False, shape="fat_tree", oversubscription=2.0, shared=True),
    )
    assert found.topology == (Group("v100", 4, "ib", device="v100"),)
    assert isinstance(found.devices[0].memory, int)


def test_torus_and_edges_say_how_many_they_join(tmp_path: Path) -> None:
    text = cluster(
        DEVICE,
        "link torus { bandwidth = 8 GB/s, latency = 0 s, shape = torus(2x4) }",
        "link line { bandwidth = 8 GB/s, latency = 0 s, edges = [[0, 1], [1, 2]] }",
        "topology { node[3] over line { core[8] over torus } }",
    )
    torus, line = only(expanded(text, tmp_path)).links
    assert (torus.shape, torus.dimensions, torus.members) == ("torus", (2, 4), 8)
    assert (line.shape, line.edges, line.members) == ("edges", ((0, 1), (1, 2)), 3)


def test_uneven_nesting_numbers_ranks_row_by_row(tmp_path: Path) -> None:
    text = cluster(
        DEVICE,
        DEVICE.replace("core", "slow"),
        LINK,
        "link net { bandwidth = 1 GB/s, latency = 9 us }",
        "topology { machine over net { core[2] over shm; slow[3] over shm } }",
    )
    found = only(expanded(text, tmp_path))
    assert found.ranks == 5
    assert [found.device_of(rank).name for rank in range(5)] == ["core", "core", "slow", "slow", "slow"]
    links = {(a, b): link.name for a in range(5) for b in range(5) if (link := found.link_between(a, b))}
    assert links[0, 1] == links[2, 4] == "shm"
    assert links[1, 2] == links[4, 0] == "net"
    assert found.resized(4) is None


def test_devices_and_links_may_stand_alone_and_are_kept_where_named(tmp_path: Path) -> None:
    alone = f"{DEVICE}\n{DEVICE.replace('core', 'spare')}\n{LINK}\n"
    own = "link shm { bandwidth = 1 GB/s, latency = 0 s }"
    found = only(expanded(alone + cluster(own, "topology { core[2] over shm }"), tmp_path))
    assert [device.name for device in found.devices] == ["core"]
    assert [link.bandwidth for link in found.links] == [1e9]


def test_parameters_and_conditions_in_settings(tmp_path: Path) -> None:
    text = "param fast = yes\nparam nodes = 3\nparam rate = 8 GB/s\n" + cluster(
        DEVICE.replace("10 GB/s", "rate"),
        "link net { bandwidth = rate, latency = 0 s, shape = if fast then switch else ring }",
        "topology { core[2 * nodes] over net }",
    )
    found = only(expanded(text, tmp_path))
    assert (found.ranks, found.links[0].shape, found.devices[0].bandwidth) == (6, "switch", 8e9)


def test_mistakes_of_a_block_come_together(tmp_path: Path) -> None:
    text = cluster(
        "device core { memory = 4, bandwidth = 4 GiB, compute.f32 = 0 FLOP/s, cores = 1.5 }",
        "link shm { bandwidth = 8 GB/s, latency = 1 us, duplex = 2, shape = torus }",
        "topology { core[0] over shm }",
    )
    assert expanded(text, tmp_path).codes == ["E0401", "E0401", "E0404", "E0401", "E0401", "E0403", "E0404"]


@pytest.mark.parametrize(
    ("edges", "fault"),
    [
        ("[[0, 0]]", "are no list of pairs"),
        ("[[0, -1]]", "are no list of pairs"),
        ("[0, 1]", "are no list of pairs"),
        ("[[yes, no]]", "are no list of pairs"),
        ("[[0, 1, 2]]", "are no list of pairs"),
        ("3", "are no list of pairs"),
        ("[[0, 65536]]", "beyond the 65,536"),
        ("[[0, 1], [1, 0]]", "hold a pair twice"),
        ("[[1, 2]]", "do not join all members"),
    ],
)
def test_edges_that_are_refused(edges: str, fault: str, tmp_path: Path) -> None:
    link = f"link shm {{ bandwidth = 8 GB/s, latency = 1 us, edges = {edges} }}"
    error = expanded(cluster(DEVICE, link, "topology { core[2] over shm }"), tmp_path).error
    assert error.code == "E0412"
    assert fault in error.message


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../up.json", "a/../../up.json", "~/p.json", "..", "C:\\p", "//host/p"]
)
def test_paths_that_leave_the_root(path: str, tmp_path: Path) -> None:
    device = DEVICE.replace("50 GFLOP/s", f'50 GFLOP/s, profile = "{path}"')
    assert expanded(cluster(device, LINK, "topology { core }"), tmp_path).codes == ["E0413"]


def test_the_largest_cluster(tmp_path: Path) -> None:
    text = cluster(DEVICE, LINK, "topology { a[256] over shm { core[COUNT] over shm } }")
    assert only(expanded(text.replace("COUNT", "256"), tmp_path)).ranks == 65_536
    assert expanded(text.replace("COUNT", "257"), tmp_path).codes == ["E0410"]
    assert expanded(text.replace("COUNT", "9007199254740991"), tmp_path).codes == ["E0410"]
