"""Figures of a cluster change the predicted step; what no figure can say is refused."""

from __future__ import annotations

import pytest

from dlc.diagnostics import DiagnosticError
from dlc.expand.clusters import DEVICE, LINK
from tests.driver.conftest import CLUSTER, NETWORK, Compile, spec
from tests.driver.honoured import WIDE, another, assert_kept, train

HEAVY = NETWORK.replace("linear(10)", "linear(4000) -> linear(10)")


def on(cluster: str) -> str:
    return spec("overlap = no", network=HEAVY, cluster=cluster)


def device(setting: str) -> str:
    key = setting.partition(" = ")[0]
    settings = ["memory = 4 GiB", "bandwidth = 10 GB/s", "compute.f32 = 50 GFLOP/s"]
    kept = [other for other in settings if not other.startswith(f"{key} ")]
    return on(WIDE.replace(", ".join(settings), ", ".join((*kept, setting))))


UNUSED = ("compute.f64", "compute.tf32", "compute.f16", "compute.bf16")
"""Peaks of element types that the job does not compute in."""

DEVICES = {
    **{field.key: f"{field.key} = {another(field)}" for field in DEVICE},
    "memory": "memory = 1 MiB",
    "bandwidth": "bandwidth = 3 GB/s",
    "compute.f32": "compute.f32 = 3 GFLOP/s",
}


@pytest.mark.parametrize("key", [key for key in DEVICES if key not in (*UNUSED, "profile", "memory")])
def test_device_settings_are_honoured_or_refused(compiled: Compile, key: str) -> None:
    """How much a device hides counts where the plan has something to hide."""
    hiding = (lambda text: text.replace("overlap = no", "strategy = data, overlap = yes")) if key == "overlap" else str
    assert_kept(compiled, hiding(device(DEVICES[key])), hiding(on(WIDE)))


def test_the_memory_of_a_device_is_kept(compiled: Compile) -> None:
    """The batch alone does not fit 1 MiB, the best plan does; nothing fits 64 KiB."""
    assert compiled(device(DEVICES["memory"])).plan.predicted.peak_bytes <= 2**20
    for tight in (
        device(DEVICES["memory"]).replace("overlap = no", "strategy = data, shard = none"),
        device("memory = 64 KiB"),
    ):
        with pytest.raises(DiagnosticError) as error:
            compiled(tight)
        assert [diagnostic.code for diagnostic in error.value.diagnostics] == ["E0509"]


def test_a_profile_is_read(compiled: Compile) -> None:
    with pytest.raises(DiagnosticError) as error:
        compiled(device(DEVICES["profile"]))
    assert [diagnostic.code for diagnostic in error.value.diagnostics] == ["E0416"]


def test_the_peak_of_the_precision_counts(compiled: Compile) -> None:
    double = train("precision = f64")
    slow = double.replace("50 GFLOP/s", "50 GFLOP/s, compute.f64 = 2 GFLOP/s")
    assert compiled(slow).plan.predicted.compute_seconds > compiled(double).plan.predicted.compute_seconds


LINKS = {
    **{field.key: f"{field.key} = {another(field)}" for field in LINK if not field.required},
    "bandwidth": "bandwidth = 1 GB/s",
    "latency": "latency = 40 us",
    "shape": "shape = ring",
    "edges": "edges = [[0, 1], [1, 2], [2, 3], [3, 4], [4, 5]]",
}


@pytest.mark.parametrize("key", LINKS)
@pytest.mark.parametrize("allreduce", ["ring", "tree"])
def test_link_settings_change_what_an_allreduce_takes(compiled: Compile, key: str, allreduce: str) -> None:
    flat = CLUSTER.replace("core[2]", "core[6]")
    settings = [s for s in ("bandwidth = 8 GB/s", "latency = 1 us") if not s.startswith(key)]
    changed = flat.replace("bandwidth = 8 GB/s, latency = 1 us", ", ".join((*settings, LINKS[key])))
    seconds = [
        compiled(spec(f"allreduce = {allreduce}", network=HEAVY, cluster=cluster)).plan.predicted.communication_seconds
        for cluster in (flat, changed)
    ]
    if (key, allreduce) in {("shape", "ring"), ("duplex", "tree")}:
        assert seconds[1] >= seconds[0]  # a ring needs no more, and a tree sends one way at a time
    else:
        assert seconds[1] > seconds[0]
