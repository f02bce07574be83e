"""Other hardware: settings changed by their paths, and clusters of other sizes."""

from __future__ import annotations

import pytest

from dlc.cluster.change import DEVICE, LINK, changed, scaled
from dlc.cluster.topology import Cluster, Device, Group, Link
from dlc.diagnostics import DiagnosticError
from dlc.expand import clusters as language

GPU = Device("v100", "gpu", 32 * 2**30, 900e9, (("f32", 15.7e12), ("f16", 125e12)), 5e-6, profile="v100.json")


def pod(*counts: int, links: tuple[Link, ...] = ()) -> Cluster:
    """Nested groups, outermost first, over nvlink inside and infiniband around."""
    group = Group("v100", counts[-1], "nvlink", (), "v100")
    for count in reversed(counts[:-1]):
        group = Group("node", count, "infiniband", (group,))
    given = {link.name: link for link in links}
    known = (Link("nvlink", 150e9, 2e-6), Link("infiniband", 12.5e9, 1.5e-6, shape="fat_tree"))
    return Cluster("pod", (GPU,), tuple(given.get(link.name, link) for link in known), (group,))


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("link.infiniband.bandwidth", "400Gbit/s", 50e9),
        ("link.infiniband.bandwidth", "400 Gbit/s", 50e9),
        ("link.infiniband.latency", "0 us", 0.0),
        ("link.infiniband.oversubscription", "2.5", 2.5),
        ("link.nvlink.shared", "yes", True),
        ("device.v100.memory", "80GiB", 80 * 2**30),
        ("device.v100.overlap", "0.5", 0.5),
        ("device.v100.cores", "12", 12),
    ],
)
def test_one_setting_is_changed_and_nothing_else(path: str, text: str, value: float) -> None:
    what, name, key = path.split(".")
    before, after = pod(4, 8), changed(pod(4, 8), path, text)
    member = after.device(name) if what == "device" else after.link(name)
    assert getattr(member, key) == value
    assert type(getattr(member, key)) is type(value)
    untouched = before.device(name) if what == "device" else before.link(name)
    assert [getattr(member, f) == getattr(untouched, f) for f in type(member).__dataclass_fields__].count(False) == 1
    assert after.topology == before.topology


def test_a_speed_of_one_element_type() -> None:
    after = changed(pod(8), "device.v100.compute.f32", "60 TFLOP/s").device("v100")
    assert dict(after.compute) == {"f32": 60e12, "f16": 125e12}
    assert dict(changed(pod(8), "device.v100.compute.bf16", "1PFLOP/s").device("v100").compute)["bf16"] == 1e15


@pytest.mark.parametrize(
    ("key", "text", "kept"),
    [
        ("memory", "1GiB", True),
        ("bandwidth", "1TB/s", False),
        ("compute.f32", "1TFLOP/s", False),
        ("launch", "1us", False),
    ],
)
def test_measured_figures_hold_only_for_the_speed_that_was_measured(key: str, text: str, kept: bool) -> None:
    assert (changed(pod(8), f"device.v100.{key}", text).device("v100").profile is not None) == kept


@pytest.mark.parametrize(
    ("path", "text", "said", "way_out"),
    [
        ("link.infinband.latency", "1us", "E0402 cluster `pod` has no link `infinband`", "similar name: `infiniband`"),
        ("device.a100.memory", "1GiB", "E0402 cluster `pod` has no device `a100`", "known names: `v100`"),
        ("link.nvlink.bandwith", "1GB/s", "E0402 link `nvlink` has no setting `bandwith`", "similar name: `bandwidth`"),
        ("nvlink.bandwidth", "1GB/s", "E0402 cluster `pod` has no setting `nvlink.bandwidth`", "such as `link.nvlink"),
        ("link.nvlink", "1GB/s", "E0402 cluster `pod` has no setting `link.nvlink`", "such as `link.nvlink"),
        ("device.v100.memory", "80GB/s", "E0401 `memory` is a size, `80 GB/s` is a rate", ""),
        ("device.v100.memory", "80", "E0401 `memory` is a size, `80` has no unit", "such as `80 GiB`"),
        ("link.nvlink.latency", "0", "E0401 `latency` is a time, `0` has no unit", "such as `2 us`"),
        ("device.v100.memory", "80Gib", "E0401 `memory` is a size, `Gib` is no unit", "similar name: `GiB`"),
        ("device.v100.memory", "much", "E0401 `memory` is a size, `much` is not", "write it as `memory = 80 GiB`"),
        ("device.v100.memory", "0GiB", "E0404 `memory` must be above 0, not 0GiB", ""),
        ("device.v100.memory", "1e400TB", "E0404 `memory` must be above 0", ""),
        ("device.v100.overlap", "1.5", "E0404 `overlap` must be at least 0 and at most 1, not 1.5", ""),
        ("device.v100.cores", "1.5", "E0401 `cores` is a whole number, `1.5` is not", ""),
        ("link.nvlink.shared", "1", "E0401 `shared` is `yes` or `no`, `1` is not", ""),
        ("link.nvlink.latency", "-1us", "E0404 `latency` must be at least 0, not -1us", ""),
    ],
)
def test_mistakes(path: str, text: str, said: str, way_out: str) -> None:
    with pytest.raises(DiagnosticError) as caught:
        changed(pod(4, 8), path, text)
    assert str(caught.value).startswith(said)
    assert way_out in " ".join(caught.value.diagnostics[0].helps)


def test_settings_are_those_of_the_language_with_the_same_ranges() -> None:
    fixed = {"kind", "isa", "profile"}
    for fields, figures in ((language.DEVICE, DEVICE), (language.LINK, LINK)):
        assert {field.key for field in fields} - fixed == set(figures)
        for field in fields:
            if field.key in figures and field.kind != "flag":
                figure = figures[field.key]
                assert {"count": "whole number"}.get(field.kind, field.kind) == figure.kind
                limits = [(bound, getattr(field, bound)) for bound in ("above", "minimum", "maximum")]
                assert {bound: limit for bound, limit in limits if limit is not None} == {
                    bound: getattr(figure, bound)
                    for bound, limit in limits
                    if abs(getattr(figure, bound)) < float("inf")
                }


@pytest.mark.parametrize(
    ("counts", "ranks", "expected"),
    [
        ((4, 8), 64, (8, 8)),
        ((4, 8), 32, (4, 8)),
        ((4, 8), 8, (1, 8)),
        ((4, 8), 4, (1, 4)),
        ((4, 8), 1, (1, 1)),
        ((4, 8), 12, (4, 3)),  # as `-n 12`: no whole servers
        ((8,), 24, (24,)),
        ((2, 3, 4), 48, (4, 3, 4)),
        ((2, 3, 4), 8, (1, 2, 4)),
        ((2, 3, 4), 2, (1, 1, 2)),
    ],
)
def test_sizes(counts: tuple[int, ...], ranks: int, expected: tuple[int, ...]) -> None:
    found = scaled(pod(*counts), ranks)
    assert found is not None
    assert tuple(level.count for level in found.levels) == expected
    assert found.ranks == ranks


def test_sizes_that_cannot_be() -> None:
    assert scaled(pod(4, 8), 9) is None, "no whole servers, and no equal parts of four"
    assert scaled(pod(4, 8), 10**6) is None
    torus = Link("infiniband", 1e9, 1e-6, shape="torus", dimensions=(2, 2))
    assert scaled(pod(4, 8, links=(torus,)), 64) == pod(4, 16, links=(torus,)), "four servers are what the torus joins"
    mixed = Cluster("mixed", (GPU,), (), (Group("a", 1, "x", (Group("v100", 1, None, (), "v100"),) * 2),))
    assert scaled(mixed, 4) is None
