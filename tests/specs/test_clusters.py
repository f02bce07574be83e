"""The machines in specs/clusters: sound at any size, with the links that the hardware has, and listed in the docs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dlc.cluster.collectives import seconds
from dlc.cluster.topology import Cluster
from dlc.driver import check_file, read
from dlc.messages.e04_cluster import SHAPE_MISMATCH

ROOT = Path(__file__).parents[2]
MACHINES = {path.stem: path for path in sorted((ROOT / "specs" / "clusters").glob("*.dlspec"))}

WITHOUT_OVERLAP = ("a100_pod", "v100_server")
"""Machines of networks that are compiled today, to programs that wait for messages."""


def cluster(name: str, **parameters: Any) -> Cluster:
    """The only cluster of a file."""
    (found,) = read(str(MACHINES[name]), {key: str(value) for key, value in parameters.items()}).spec.clusters
    return found


def allreduce(machine: Cluster, kind: str = "ring", size: float = 1e9) -> float:
    return seconds(kind, size, tuple(range(machine.ranks)), machine)


@pytest.mark.parametrize("name", MACHINES)
def test_is_sound(name: str) -> None:
    assert check_file(str(MACHINES[name]))[0] == ()
    assert cluster(name).name == name


def test_all_are_listed() -> None:
    lines = (ROOT / "docs" / "clusters.md").read_text(encoding="utf-8").splitlines()
    rows = [line.strip("|").split("|")[0].strip() for line in lines if line.startswith("| [")]
    assert rows == [f"[{name}](../specs/clusters/{name}.dlspec)" for name in MACHINES]


@pytest.mark.parametrize("name", MACHINES)
def test_every_file_says_where_its_figures_come_from(name: str) -> None:
    """Comments name a source of the devices' figures, and call measured what no data sheet states."""
    comment = "".join(line for line in MACHINES[name].read_text(encoding="utf-8").splitlines() if line.startswith("#"))
    assert any(word in comment for word in ("white paper", "data sheet", "product page", "specification", "CACM"))
    assert "usual" in comment
    assert "measured" in comment


@pytest.mark.parametrize(
    ("name", "parameters", "ranks"),
    [
        ("a100_pod", {}, 32),
        ("dgx1", {}, 8),
        ("dgx1", {"nodes": 16}, 128),
        ("dgx_h100_pod", {}, 32),
        ("dgx_h100_pod", {"nodes": 512, "taper": 2}, 4096),
        ("dgx_h200_pod", {"nodes": 1}, 8),
        ("k80_server", {}, 8),
        ("k80_server", {"boards": 8}, 16),
        ("laptop", {"cores": 2}, 2),
        ("mixed_pair", {}, 2),
        ("mixed_servers", {}, 6),
        ("mixed_servers", {"fast": 8}, 10),
        ("titanx_pcie", {}, 4),
        ("tpu_torus", {}, 32),
        ("tpu_torus", {"extents": "32x32", "chips": 1024}, 1024),
        ("v100_server", {}, 8),
    ],
)
def test_sizes(name: str, parameters: dict[str, Any], ranks: int) -> None:
    assert cluster(name, **parameters).ranks == ranks


def test_a_torus_of_another_number_of_chips_is_refused() -> None:
    (message,) = check_file(str(MACHINES["tpu_torus"]), {"chips": "31"})[0]
    assert message.code == SHAPE_MISMATCH.code


@pytest.mark.parametrize("name", [name for name in MACHINES if name not in WITHOUT_OVERLAP])
def test_processors_that_move_the_data_themselves_hide_nothing(name: str) -> None:
    for device in cluster(name).devices:
        assert (device.overlap > 0) == (device.kind != "cpu")


def test_links_of_a_dgx1() -> None:
    """`nvidia-smi topo -m` of a DGX-1 with V100: how many NVLinks join each pair of GPUs."""
    topology = """
        . 1 1 2 2 . . .
        1 . 2 1 . 2 . .
        1 2 . 2 . . 1 .
        2 1 2 . . . . 1
        2 . . . . 1 1 2
        . 2 . . 1 . 2 1
        . . 1 . 1 2 . 2
        . . . 1 2 1 2 ."""
    matrix = [line.split() for line in topology.strip().splitlines()]
    gpus = (0, 3, 2, 1, 5, 6, 7, 4)  # member -> GPU
    nvlinks = {(a, b): int(n) for a, row in enumerate(matrix) for b, n in enumerate(row) if n != "."}
    assert all(nvlinks[b, a] == n for (a, b), n in nvlinks.items())
    link = cluster("dgx1").link("nvlink")
    assert {frozenset((gpus[a], gpus[b])) for a, b in link.edges} == {frozenset(pair) for pair in nvlinks}
    assert all(nvlinks[gpus[i], gpus[(i + 1) % 8]] == 2 for i in range(8))
    ends = Counter(member for edge in link.edges for member in edge)
    assert {count * link.bandwidth for count in ends.values()} == {6 * 25e9}


def test_a_ring_of_a_dgx1_goes_over_a_wire_of_its_own_each() -> None:
    machine = cluster("dgx1")
    assert allreduce(machine) == pytest.approx(2 * 7 / 8 * 1e9 / 37.5e9, rel=0.02)


def test_all_messages_share_the_bus_of_the_titans() -> None:
    """A ring of four sends 2·3·4/4 times the data over one bus, whoever sends it."""
    assert allreduce(cluster("titanx_pcie")) == pytest.approx(6 * 1e9 / 12e9, rel=0.02)


def test_torus_has_wires_in_both_dimensions() -> None:
    """Numbered row by row, a ring takes one wire a step within a row; on to the next row two messages share wires."""
    one_wire = 2 * 31 / 32 * 1e9 / 82e9
    assert one_wire < allreduce(cluster("tpu_torus")) < 2.1 * one_wire


def test_taper_slows_what_leaves_a_server_only() -> None:
    def time(nodes: int, taper: int) -> float:
        return allreduce(cluster("dgx_h100_pod", nodes=nodes, taper=taper), "hierarchical")

    assert time(1, 4) == time(1, 1)
    assert time(4, 4) > 1.5 * time(4, 1)


def test_a_pod_of_slower_servers_is_slower() -> None:
    """The same sum on as many GPUs of three generations."""
    times = [allreduce(cluster(name, nodes=4), "hierarchical") for name in ("dgx1", "dgx_h100_pod")]
    assert times[0] > 3 * times[1]


def test_uneven_servers_hold_unequal_devices() -> None:
    machine = cluster("mixed_servers")
    assert [machine.device_of(rank).name for rank in range(6)] == ["v100"] * 4 + ["p100"] * 2
    between, within = machine.link_between(0, 4), machine.link_between(4, 5)
    assert [link and link.name for link in (between, within)] == ["ethernet", "pcie"]
