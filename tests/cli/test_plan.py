"""inspect, plan, explain and diff: what people look at, and the same for programs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from dlc.messages import MESSAGES
from tests.cli.conftest import SPECS, Dlc


def test_inspect_document(dlc: Dlc, lenet5: Path) -> None:
    document = dlc("inspect", lenet5, "--json").document
    assert document["network"] == "lenet5"
    assert document["parameters"] == 61_706
    assert document["macs"] == 416_520  # 117,600 + 240,000 + 48,000 + 10,080 + 840, by hand
    first = document["ops"][0]
    assert first["address"] == "c1.conv"
    assert first["parameters"] == 6 * 25 + 6
    assert first["macs"] == 28 * 28 * 6 * 25
    assert first["depth"] == 6  # lg 1 + lg 5 + lg 5, rounded up
    assert set(first) == {"address", "op", "output", "parameters", "macs", "work", "depth"}
    assert sum(op["parameters"] for op in document["ops"]) == document["parameters"]


@pytest.mark.parametrize(("name", "parameters"), [("resnet50", "25,557,032"), ("gpt2", "124,439,808")])
def test_inspect_text_has_a_row_for_each_statement(dlc: Dlc, name: str, parameters: str) -> None:
    said = dlc("inspect", SPECS / f"{name}.dlspec")
    assert said.status == 0
    assert f"{parameters} parameters" in said.out
    assert len(said.out.splitlines()) < 15


def test_inspect_selects(dlc: Dlc) -> None:
    said = dlc("inspect", SPECS / "resnet50.dlspec", "--select", "stage1[0].**.conv where window == 3x3", "--json")
    assert [op["address"] for op in said.document["ops"]] == ["stage1[0].main.middle.conv"]


def test_inspect_selector_with_a_mistake_points_into_it(dlc: Dlc, lenet5: Path) -> None:
    said = dlc("inspect", lenet5, "--select", "c1 where windo == 5x5")
    assert said.status == 1
    assert "--select:1:10" in said.err
    assert "`window`" in said.err


@pytest.mark.parametrize("text", ["c1 { layout = NHWC }\npin c2", "c1 {", "", "c1 } }"])
def test_inspect_refuses_what_is_no_selector(dlc: Dlc, lenet5: Path, text: str) -> None:
    assert dlc("inspect", lenet5, "--select", text).status in (1, 2)


def test_inspect_selector_that_reaches_nothing(dlc: Dlc, lenet5: Path) -> None:
    said = dlc("inspect", lenet5, "--select", "c9")
    assert said.status == 2
    assert "no op of `lenet5` is reached by `c9`" in said.err


def test_dot_has_every_op_and_closes_every_brace(dlc: Dlc, lenet5: Path, tmp_path: Path) -> None:
    dlc("plan", lenet5, "-o", tmp_path / "plan.json")
    text = dlc("inspect", tmp_path / "plan.json", "--dot").out
    ops = [op["address"] for op in dlc("inspect", lenet5, "--json").document["ops"]]
    assert all(f'"{op}" [' in text for op in ops)
    assert text.count("{") == text.count("}")
    assert '"c1.conv" -> "c1.tanh"' in text
    assert "conv im2col NCHW" in text
    assert "NCHW to CHWN" in text


def test_dot_without_a_plan(dlc: Dlc, tmp_path: Path) -> None:
    file = tmp_path / "bare.dlspec"
    file.write_text("dlspec 1\nnetwork n {\n  input x: f32[4, width = 3]\n  y = x -> linear(2)\n  output y\n}\n")
    text = dlc("inspect", file, "--dot").out
    assert '"x" -> "y.linear"' in text
    assert "NCHW" not in text


def test_dot_needs_no_plan(dlc: Dlc) -> None:
    assert "stage4[2].add" in dlc("inspect", SPECS / "resnet50.dlspec", "--dot").out


def test_timeline_is_a_chrome_trace(dlc: Dlc, lenet5: Path, tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    document = dlc("inspect", lenet5, "--timeline", file, "--json").document
    events = json.loads(file.read_text())["traceEvents"]
    slices = [event for event in events if event["ph"] == "X"]
    assert {"c1.conv", "c1.conv@dw"} <= {event["name"] for event in slices}
    assert max(e["ts"] + e["dur"] for e in slices) == pytest.approx(document["step_seconds"] * 1e6)
    planned = dlc("plan", lenet5, "--json").document["predicted"]["step_seconds"]
    assert document["step_seconds"] == pytest.approx(planned, rel=0.2), "both use the same prices"


SMALL = """dlspec 1
network small {
  input image: f32[batch = 6, channel = 1, height = 8, width = 8]
  c1     = image -> conv(4, 3x3, pad = same, bias = no) -> bn -> relu
  logits = c1 -> flatten -> linear(10)
  output logits
}
train small {
  data      = synthetic(samples = 64)
  loss      = cross_entropy(logits, data.label)
  optimizer = adam
  lr        = constant(0.05)
  clip      = norm(1.0)
  steps     = 3
}
cluster here {
  device core { kind = cpu, memory = 1 GiB, bandwidth = 10 GB/s, compute.f32 = 50 GFLOP/s }
  link shm { bandwidth = 8 GB/s, latency = 1 us }
  topology { core[4] over shm }
}
plan small on here { strategy = data }
"""


def test_timeline_of_uneven_shards_and_groups_that_span_ranks(dlc: Dlc, tmp_path: Path) -> None:
    """Batch norm over the whole batch is lowered to several kernels and sums, which share the price of one op."""
    file = tmp_path / "small.dlspec"
    file.write_text(SMALL)
    document = dlc("inspect", file, "--timeline", tmp_path / "trace.json", "--json").document
    assert [(ranks["ranks"], ranks["samples"]) for ranks in document["ranks"]] == [([0, 1], 2), ([2, 3], 1)]
    (role,) = document["roles"]
    assert (role["ranks"], role["live_peak_bytes"]) == (4, max(ranks["live_peak_bytes"] for ranks in document["ranks"]))
    # Shares that differ by one sample are priced as the larger one: nobody waits but for a sum that is under way.
    assert 0 < role["exposed_seconds"] == pytest.approx(role["bubble"] * document["step_seconds"], rel=1e-9)
    assert max(point["bytes"] for point in role["live_bytes"]) == role["live_peak_bytes"]
    planned = dlc("plan", file, "--json").document["predicted"]["step_seconds"]
    assert document["step_seconds"] == pytest.approx(planned, rel=0.1)


# --- plan ----------------------------------------------------------------------------------------------------------


def test_plan_document(dlc: Dlc, lenet5: Path) -> None:
    document = dlc("plan", lenet5, "--json").document
    assert document["predicted"]["step_seconds"] > document["lower_bound_seconds"] > 0
    assert document["predicted"]["peak_bytes"] > 4 * 61_706
    assert document["search_seconds"] > 0
    assert document["gap"] < 1e-9
    assert {"address", "algorithm", "layout", "partition"} <= set(document["ops"][0])
    assert document["ops"][0]["partition"] == [{"axis": "batch", "over": "data"}]
    assert [(rule["kind"], rule["selector"], rule["key"], rule["ops"]) for rule in document["rules"]] == [
        ("pin", "c1.conv", "algorithm", 1),
        ("pin", "c1.conv", "layout", 1),
    ]


def test_plan_text(dlc: Dlc, lenet5: Path) -> None:
    text = dlc("plan", lenet5).out
    for part in (
        "data parallel, batch 32 as 2 x 16",
        "pinned at",
        "lower bound: work",
        "proved best",
        "sums",
    ):
        assert part in text
    row = next(line for line in text.splitlines() if line.startswith("c1.conv"))
    assert re.search(r"NCHW\s+im2col \S+ us", row)
    assert "analytic" in row


def test_plan_for_other_ranks(dlc: Dlc, lenet5: Path) -> None:
    document = dlc("plan", lenet5, "-n", "3", "--json").document
    assert document["ranks"] == 3
    assert [stop - start for start, stop in document["shards"]] == [11, 11, 10]


def test_plan_file_is_shown_compared_and_named(dlc: Dlc, lenet5: Path, tmp_path: Path) -> None:
    two, four = tmp_path / "two.json", tmp_path / "four.json"
    assert dlc("plan", lenet5, "-o", two).out.endswith(f"wrote {two}\n")
    assert dlc("plan", lenet5, "-n", "4", "-o", four).status == 0
    shown = dlc("inspect", two, "--json").document
    assert shown["ranks"] == 2
    assert "search_seconds" not in two.read_text()
    same = dlc("diff", two, two)
    assert "decide the same" in same.out
    found = dlc("diff", two, four, "--json").document
    assert found["equal"] is False
    assert "strategy" in {difference["what"] for difference in found["differences"]}
    assert "batch 32 as 4 x 8" in dlc("diff", two, four).out


def test_diff_of_what_is_no_plan(dlc: Dlc, lenet5: Path) -> None:
    said = dlc("diff", lenet5, lenet5)
    assert said.status == 1
    assert "E0705" in said.err


def test_plan_that_cannot_be_written(dlc: Dlc, lenet5: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = dlc("plan", lenet5, "-o", tmp_path / "file" / "plan.json")
    assert said.status == 1
    assert "E0702" in said.err


def test_dump_after_a_pass(dlc: Dlc, lenet5: Path) -> None:
    assert "c1.conv@dw" in dlc("plan", lenet5, "--dump-after", "differentiate").out
    said = dlc("plan", lenet5, "--dump-after", "differentiate", "--json")
    assert said.document["network"] == "lenet5"
    assert "c1.conv@dw" in said.err


# --- explain -------------------------------------------------------------------------------------------------------


def test_explain_an_op(dlc: Dlc, lenet5: Path) -> None:
    document = dlc("explain", lenet5, "c3.conv", "--json").document
    taken = [candidate for candidate in document["candidates"] if candidate["taken"]]
    assert {candidate["pass"] for candidate in taken} == {"forward", "dx", "dw"}
    assert all(c["excluded"] for c in document["candidates"] if c["algorithm"].startswith("winograd"))
    assert all((c["seconds"] is None) == (c["excluded"] is not None) for c in document["candidates"])
    text = dlc("explain", lenet5, "c3.conv").out
    assert "ruled out because the window is 5x5" in text


def test_explain_shows_what_a_pin_rules_out(dlc: Dlc, lenet5: Path) -> None:
    line = next(n for n, line in enumerate(lenet5.read_text().splitlines(), 1) if "pin c1.conv" in line)
    assert f"ruled out by line {line}" in dlc("explain", lenet5, "c1.conv").out


def test_explain_strategy(dlc: Dlc, lenet5: Path) -> None:
    assert "data parallel, batch 32 as 2 x 16" in dlc("explain", lenet5, "strategy").out
    looked = dlc("explain", lenet5, "strategy", "--json").document["strategies"]
    assert looked[0]["role"] == "winner"
    assert looked[0]["name"].startswith("data 2"), "its plan block asks for data parallelism"


def test_explain_misspelt_address(dlc: Dlc, lenet5: Path) -> None:
    said = dlc("explain", lenet5, "c3.cnv")
    assert said.status == 2
    assert "`c3.conv`" in said.err


def test_explain_operators(dlc: Dlc) -> None:
    listed = dlc("explain", "operators", "--json").document["operators"]
    assert {"conv", "lstm", "mse", "accuracy", "lamb"} <= {op["operator"] for op in listed}
    for op in listed:
        assert op["about"]
        assert dlc("explain", op["operator"], "--json").document == {"schema": 1, "diagnostics": [], **op}
        assert dlc("explain", op["operator"]).out.startswith(f"{op['call']}\n\n{op['about']}")


def test_explain_misspelt_operator(dlc: Dlc) -> None:
    said = dlc("explain", "lsmt")
    assert (said.status, "similar name: `lstm`" in said.err) == (2, True)


def test_explain_needs_an_address(dlc: Dlc, lenet5: Path) -> None:
    said = dlc("explain", lenet5)
    assert said.status == 2
    assert "which op?" in said.err


@pytest.mark.parametrize("code", sorted(MESSAGES))
def test_explain_each_code(dlc: Dlc, code: str) -> None:
    said = dlc("explain", code.lower())
    assert said.status == 0
    assert said.out.startswith(f"{code}: ")
    assert len(said.out.split("\n\n", 1)[1]) > 40


def test_explain_misspelt_code(dlc: Dlc) -> None:
    said = dlc("explain", "E03o2")
    assert said.status == 2
    assert "`E0302`" in said.err


def test_explain_lists_all_codes(dlc: Dlc) -> None:
    assert {entry["code"] for entry in dlc("explain", "--json").document["codes"]} == set(MESSAGES)
    assert len(dlc("explain").out.splitlines()) == len(MESSAGES) + 2


FUSED = """dlspec 1
network n {{
  input image: f32[batch = 8, channel = 3, height = 12, width = 12]
  stem   = image -> conv(8, 3x3, pad = same) -> bn(group = 8) -> relu
  twice  = stem -> conv(8, 3x3, pad = same) -> bn(group = 8)
  joined = twice + stem
  out    = joined -> relu -> global_avgpool -> flatten -> linear(4)
  output out
}}
train n {{
  data      = synthetic(samples = 64, classes = 4)
  loss      = cross_entropy(out, data.label)
  optimizer = sgd(momentum = 0.9)
  lr        = constant(0.05)
  steps     = 3
}}
cluster here {{
  device core {{ kind = cpu, memory = 1 GiB, bandwidth = 10 GB/s, compute.f32 = 50 GFLOP/s }}
  link shm {{ bandwidth = 8 GB/s, latency = 1 us }}
  topology {{ core[1] over shm }}
}}
plan n on here {{
  kernels = c
  fusion = {fusion}
}}
"""


@pytest.fixture
def fused(tmp_path: Path) -> Path:
    file = tmp_path / "fused.dlspec"
    file.write_text(FUSED.format(fusion="yes"))
    return file


def test_explain_says_what_an_op_is_one_call_with(dlc: Dlc, fused: Path) -> None:
    said = dlc("explain", fused, "stem.relu")
    assert re.search(r"bn \+ relu forward +1 +\S+ \ws +stem.relu", said.out), said.out + said.err
    document = dlc("explain", fused, "stem.relu", "--json").document
    kernels = [[kernel for kernel, _ in chain["kernels"]] for chain in document["fusion"]]
    assert ["bn", "relu"] in kernels
    assert all("stem.relu" in {name.partition("@")[0] for name in chain["members"][0]} for chain in document["fusion"])
    assert dlc("explain", fused, "out.linear", "--json").document["fusion"] == []


def test_dot_and_diff_show_what_is_one_call(dlc: Dlc, fused: Path, tmp_path: Path) -> None:
    one, other, apart = tmp_path / "one.json", tmp_path / "other.json", tmp_path / "apart.dlspec"
    apart.write_text(FUSED.format(fusion="no"))
    dlc("plan", fused, "-o", one)
    dlc("plan", apart, "-o", other)
    assert re.search(r'"stem.bn" -> "stem.relu" \[.*one call', dlc("inspect", one, "--dot").out)
    assert "one call" not in dlc("inspect", other, "--dot").out
    assert re.search(r"stem.*fused forward +bn \+ relu +-", dlc("diff", one, other).out)
    fused.unlink()
    assert "fused" not in dlc("diff", one, other).out, "without the spec its Program is not known"
