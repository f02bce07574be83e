"""Plan blocks: settings, mesh, limits, pins and forbids, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlc.expand.pins import KEYS
from dlc.ir.request import Limit, MeshAxis, Request, Rule, Split
from dlc.ir.training import Choice
from tests.expand.blocks import expanded, plan

ATTENTION = """
network tiny {
  input text: i32[batch = 8, seq = 16]
  x = text -> embedding(100, 48)
  q = x -> linear(48) -> split_heads(12)
  y = q @ transpose(q) -> softmax
  output y
}
"""


def request(folder: Path, *rules: str, network: str | None = None) -> Request:
    text = plan(*rules) if network is None else plan(*rules, network=network)
    (found,) = expanded(text, folder).job.requests
    return found


def reached(rules: tuple[Rule, ...]) -> list[tuple[str, object, tuple[str, ...]]]:
    return [(rule.key, rule.value, rule.addresses) for rule in rules]


def test_an_empty_plan_leaves_all_to_the_planner(tmp_path: Path) -> None:
    assert request(tmp_path) == Request("tiny", "pod")


@pytest.mark.parametrize(
    ("text", "field", "expected"),
    [
        ("objective = memory", "objective", "memory"),
        ("strategy = spatial", "strategy", Choice("spatial")),
        ("allreduce = shared", "allreduce", "shared"),
        ("layout = CHWN", "layout", "CHWN"),
        ("pipeline.schedule = zero_bubble", "schedule", "zero_bubble"),
        ("pipeline.microbatches = 8", "microbatches", 8),
        ("pipeline.microbatches = auto", "microbatches", None),
        ("shard = gradients", "shard", "gradients"),
        ("recompute = all", "recompute", "all"),
        ("overlap = yes", "overlap", "yes"),
        ("overlap = no", "overlap", "no"),
        ("overlap = auto", "overlap", "auto"),
        ("kernels = c", "kernels", "c"),
    ],
)
def test_one_setting(text: str, field: str, expected: object, tmp_path: Path) -> None:
    found = request(tmp_path, text)
    assert getattr(found, field) == expected
    assert found.span(text.partition(" =")[0]) is not None


def test_hybrid_degrees(tmp_path: Path) -> None:
    degrees = (("data", 8), ("model", "auto"), ("spatial", 1), ("pipeline", 2))
    assert request(tmp_path, "strategy = hybrid(8, auto, pipeline = 2)").strategy == Choice("hybrid", degrees)
    assert request(tmp_path, "strategy = hybrid(data = 8, model = 4)").strategy.get("pipeline") == 1
    for wrong in ("hybrid(data = 8)", "hybrid(data = 3, model = auto)", "hybrid(64, auto)"):
        assert expanded(plan(f"strategy = {wrong}"), tmp_path).codes == ["E0508"]


def test_a_mesh_takes_groups_whole_and_in_factors(tmp_path: Path) -> None:
    found = request(tmp_path, "mesh { model = core / 2; pipeline = node; data = core / 4 }")
    assert found.mesh == (MeshAxis("pipeline", 4, "node"), MeshAxis("model", 2, "core"), MeshAxis("data", 4, "core"))
    assert found.span("mesh") is not None


@pytest.mark.parametrize(
    ("axes", "code"),
    [
        ("data = node", "E0508"),
        ("data = node; model = core; pipeline = core / 2", "E0508"),
        ("data = node; model = core / 3", "E0518"),
        ("data = node; model = core / 0", "E0516"),
        ("data = node / 2; model = core; pipeline = core / 2", "E0518"),
        ("data = nodes", "E0507"),
        ("data = 32", "E0511"),
        ("data = node * core", "E0511"),
        ("data = core / 2 / 2", "E0511"),
        ("data = core / x", "E0511"),
        ("data = node; data = core", "E0513"),
    ],
)
def test_meshes_that_are_refused(axes: str, code: str, tmp_path: Path) -> None:
    assert expanded(plan(f"mesh {{ {axes} }}"), tmp_path).codes == [code]


def test_a_refused_mesh_is_the_only_mistake(tmp_path: Path) -> None:
    text = plan("mesh { rows = core / 3 }", "pin c1.conv { partition = split(height, over = rows) }")
    assert expanded(text, tmp_path).codes == ["E0518"]


def test_strategy_and_mesh_agree(tmp_path: Path) -> None:
    mesh = "mesh { data = node; model = core }"
    assert request(tmp_path, mesh, "strategy = hybrid(data = 4, model = auto)").mesh[0].extent == 4
    assert expanded(plan(mesh, "strategy = hybrid(data = 8, model = 4)"), tmp_path).codes == ["E0523", "E0523"]


def test_limits_in_their_units(tmp_path: Path) -> None:
    found = request(
        tmp_path,
        "limit memory <= 2 GiB",
        "limit bubble <= 0.25",
        "limit communication <= 1 MB",
        "limit workspace <= 0 B",
    )
    assert [(limit.subject, limit.bound) for limit in found.limits] == [
        ("memory", 2.0 * 2**30),
        ("bubble", 0.25),
        ("communication", 1e6),
        ("workspace", 0.0),
    ]
    assert isinstance(found.limits[0], Limit)


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ("limit memory <= 0.5", "E0511"),
        ("limit bubble <= 1 GiB", "E0511"),
        ("limit bubble <= 1", "E0516"),
        ("limit memory < 1 GiB", "E0519"),
        ("limit memry <= 1 GiB", "E0505"),
        ("limit memory <= 1 GiB; limit memory <= 2 GiB", "E0513"),
    ],
)
def test_limits_that_are_refused(rule: str, code: str, tmp_path: Path) -> None:
    assert expanded(plan(rule), tmp_path).codes == [code]


def test_each_setting_of_a_pin_reaches_the_ops_that_use_it(tmp_path: Path) -> None:
    rules = request(
        tmp_path, "pin ** { algorithm = im2col, layout = NHWC, recompute = yes, stage = 1, microbatch = 2 }"
    )
    found = {rule.key: rule.addresses for rule in rules.pins}
    every = found["recompute"]
    assert found["algorithm"] == ("c1.conv", "c2.conv")
    assert found["layout"] == ("c1.conv", "c1.relu", "c2.conv", "c2.relu")
    assert every == found["stage"] == found["microbatch"]
    assert len(every) == 8
    assert {*found, "partition"} == set(KEYS)
    assert {rule.selector for rule in rules.pins} == {"**"}


def test_selectors_are_kept_as_they_are_written(tmp_path: Path) -> None:
    where = "window == 3x3 and (stride == 1 or not bias)"
    (pin,) = request(tmp_path, f"pin **.conv where {where} {{ algorithm = winograd(2) }}").pins
    assert (pin.value, pin.addresses) == ("winograd(2)", ("c1.conv",))
    assert pin.selector == f"**.conv where {where}"
    assert pin.value_span.line == pin.span.line


def test_partitions(tmp_path: Path) -> None:
    mesh = "mesh { data = node; rows = core / 2; columns = core / 4 }"
    found = request(
        tmp_path,
        mesh,
        "pin c1.conv { partition = [split(height, over = rows), split(width, over = columns)] }",
        "pin c2.conv { partition = replicate }",
        "pin logits { partition = split(feature, over = core) }",
        "pin aux.linear { partition = split(reduce, over = rows) }",
    )
    assert reached(found.pins) == [
        ("partition", (Split("height", "rows"), Split("width", "columns")), ("c1.conv",)),
        ("partition", (), ("c2.conv",)),
        ("partition", (Split("feature", "core"),), ("logits.linear",)),
        ("partition", (Split("reduce", "rows"),), ("aux.linear",)),
    ]


def test_heads_are_split_evenly(tmp_path: Path) -> None:
    found = request(tmp_path, "pin y { partition = split(heads, over = node) }", network=ATTENTION)
    assert found.pins[0].addresses == ("y.transpose", "y.matmul", "y.softmax")
    result = expanded(plan("pin y { partition = split(heads, over = core) }", network=ATTENTION), tmp_path)
    assert result.error.message == "12 heads do not divide by the 8 devices of `core`"


def test_a_forbid_names_families_of_algorithms(tmp_path: Path) -> None:
    found = request(tmp_path, "forbid ** { algorithm = winograd }", "forbid c1 { algorithm = fft }")
    assert [(rule.value, rule.addresses) for rule in found.forbids] == [
        ("winograd(2)", ("c1.conv", "c2.conv")),
        ("winograd(4)", ("c1.conv", "c2.conv")),
        ("fft", ("c1.conv",)),
        ("fft_tiled", ("c1.conv",)),
    ]
    (one,) = request(tmp_path, "forbid ** { algorithm = winograd(4) }").forbids
    assert one.value == "winograd(4)"


def test_algorithms_without_kernels_pass(tmp_path: Path) -> None:
    found = request(tmp_path, "pin c2.conv { algorithm = implicit_gemm, layout = NHWC }")
    assert [rule.value for rule in found.pins] == ["implicit_gemm", "NHWC"]


def test_two_pins_may_agree(tmp_path: Path) -> None:
    found = request(tmp_path, "pin c1.conv { algorithm = im2col }", "pin ** { algorithm = im2col }")
    assert reached(found.pins) == [
        ("algorithm", "im2col", ("c1.conv",)),
        ("algorithm", "im2col", ("c1.conv", "c2.conv")),
    ]


@pytest.mark.parametrize(
    ("rules", "code", "part"),
    [
        (("pin c1.conv { algorithm = im2col }", "pin ** { algorithm = direct }"), "E0501", "pinned twice on c1.conv"),
        (("pin c1 { recompute = yes }", "pin c1.relu { recompute = no }"), "E0501", "twice on c1.relu"),
        (("pin c9 { recompute = yes }",), "E0502", "matches no op"),
        (("pin c1[0] { recompute = yes }",), "E0502", "matches no op"),
        (("pin ** where stride == 7 { recompute = yes }",), "E0502", "matches no op"),
        (("pin ** where strid == 1 { recompute = yes }",), "E0201", "`strid` is not defined"),
        (("pin logits { layout = NHWC }",), "E0503", "a use for `layout`"),
        (("pin c1.relu { algorithm = im2col }",), "E0503", "a use for `algorithm`"),
        (("pin ** { algorithm = winograd(4) }",), "E0504", "winograd(4) cannot compute c2.conv"),
        (("pin c2.conv { algorithm = winograd(3) }",), "E0504", "winograd(3) cannot compute c2.conv"),
        (("pin c1.conv { algorithm = winograd }",), "E0520", "`winograd` needs the argument `tile`"),
        (("pin c1.conv { algorithm = winograd(1) }",), "E0516", "at least 2"),
        (("pin c1.conv { algorithm = auto }",), "E0505", "`auto` is not an algorithm"),
        (("pin c1.conv { layout = NCWH }",), "E0505", "`NCWH` is not a value of `layout`"),
        (("pin c1.conv { recompute = 1 }",), "E0511", "`recompute`"),
        (("pin c1.conv { partition = 3 }",), "E0505", "not a partition"),
        (("pin c1.conv { partition = split(channel, over = rank) }",), "E0507", "`rank` is not a group"),
        (("pin c1.conv { partition = split(depth, over = core) }",), "E0514", "c1.conv cannot be split by `depth`"),
        (("mesh { pipeline = node; data = core }", "pin c1 { stage = 4 }"), "E0516", "below the 4"),
        (("pin c1 { stage = -1 }",), "E0516", "at least 0"),
        (("pin c1 { stage = 1, stage = 2 }",), "E0513", "`stage` is set twice in a pin"),
        (("pin c1.conv { algorithm = fft }", "forbid ** { algorithm = fft }"), "E0512", "fft by line"),
        (
            ("forbid ** { layout = NCHW }", "forbid c1 { layout = NHWC }", "forbid c1 { layout = CHWN }"),
            "E0512",
            "layout",
        ),
        (("forbid c1 { recompute = yes }", "forbid c1 { recompute = no }"), "E0512", "every recompute of c1.conv"),
    ],
)
def test_rules_that_are_refused(rules: tuple[str, ...], code: str, part: str, tmp_path: Path) -> None:
    error = expanded(plan(*rules), tmp_path).error
    assert error.code == code
    assert part in error.message


def test_what_rules_out_every_algorithm_is_told(tmp_path: Path) -> None:
    rules = tuple(f"forbid ** {{ algorithm = {name} }}" for name in ("direct", "im2col", "fft"))
    error = expanded(plan(*rules), tmp_path).error
    first = plan(*rules).split("\n").index("  " + rules[0]) + 2  # counted from 1, below `dlspec 1`
    assert error.code == "E0512"
    assert error.message.startswith("every algorithm of c2.conv is ruled out: ")
    for number, name in enumerate(("direct", "im2col", "fft", "fft_tiled")):
        assert f"{name} by line {first + min(number, 2)}" in error.message
    assert "winograd because the stride is 2" in error.message


def test_a_mistake_is_told_once_with_the_number_of_ops(tmp_path: Path) -> None:
    network = """
network tiny {
  input image: f32[batch = 4, channel = 8, height = 8, width = 8]
  y = image -> repeat 50 { conv(8, 3x3, pad = same, stride = 1, dilation = 2) }
  output y
}
"""
    error = expanded(plan("pin ** { algorithm = winograd(2) }", network=network), tmp_path).error
    assert (error.code, error.message) == ("E0504", "winograd(2) cannot compute y[0].conv")
    assert error.notes == ("the same holds for 49 more ops, the next is y[1].conv",)
