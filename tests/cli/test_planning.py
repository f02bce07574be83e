"""plan, explain, diff and inspect where the planner has every strategy to choose from; scaling and other hardware."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from dlc import driver
from dlc.commands import progress
from dlc.commands.arguments import sizes, what_if
from tests.cli.conftest import Dlc

WIDE = """dlspec 1
network wide {
  input x: f32[batch = 64, width = 256]
  a      = x -> linear(1024) -> relu
  b      = a -> linear(1024) -> relu
  logits = b -> linear(10)
  output logits
}
train wide {
  data      = synthetic(samples = 64)
  loss      = cross_entropy(logits, data.label)
  optimizer = adam
  lr        = constant(0.01)
  steps     = 3
}
cluster here {
  device core { kind = cpu, memory = 1 GiB, bandwidth = 10 GB/s, compute.f32 = 50 GFLOP/s }
  link shm { bandwidth = 1 GB/s, latency = 1 us }
  topology { core[4] over shm }
}
"""


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """A network of wide linear layers on slow links: data parallelism is far from the best."""
    file = tmp_path / "wide.dlspec"
    file.write_text(WIDE)
    return file


@pytest.fixture
def planned(dlc: Dlc, wide: Path) -> Path:
    """Its plan, with everything decided by cost."""
    out = wide.with_name("plan.json")
    assert dlc("plan", wide, "-o", out).status == 0
    return out


# --- plan ----------------------------------------------------------------------------------------------------------


def test_plan_document_says_how_far_was_searched(dlc: Dlc, wide: Path) -> None:
    document = dlc("plan", wide, "--json").document
    search = document["search"]
    assert set(search) == {"variables", "kinds", "options", "strategies", "solved", "seconds"}
    assert search["variables"] >= 6
    assert search["strategies"] >= search["solved"] >= 1
    assert sum(search["seconds"].values()) <= document["search_seconds"]
    assert document["gap"] < 1e-9
    assert document["memory_limit_bytes"] == 2**30
    assert document["predicted"]["peak_bytes"] < document["memory_limit_bytes"]
    assert all(other["ratio"] is None or other["ratio"] >= 1 for other in document["baselines"])
    assert {entry["kind"] for entry in document["communication"]} <= {
        "allreduce", "allgather", "reduce_scatter", "all_to_all", "halo", "broadcast", "send",
    }  # fmt: skip
    assert any(split["axis"] != "batch" for op in document["ops"] for split in op["partition"])


def test_plan_text_of_a_general_plan(dlc: Dlc, wide: Path) -> None:
    text = dlc("plan", wide).out
    for part in ("mesh axis", "communication", "data parallelism: data 4", "pure pipeline", "proved best", "of 1 GiB"):
        assert part in text


def test_effort_reaches_the_search(dlc: Dlc, wide: Path) -> None:
    whole = dlc("plan", wide, "--json").document
    short = dlc("plan", wide, "--budget-nodes", 1, "--json").document
    assert short["search"]["solved"] <= 1 < whole["search"]["solved"]
    assert short["gap"] >= 0
    assert dlc("plan", wide, "--gap", "50", "--json").document["search"]["solved"] <= whole["search"]["solved"]
    assert dlc("plan", wide, "--budget", "0", "--json").document["search"]["solved"] <= 1


def test_planning_twice_gives_the_same_file(dlc: Dlc, wide: Path, planned: Path) -> None:
    again = wide.with_name("again.json")
    dlc("plan", wide, "-o", again)
    assert again.read_bytes() == planned.read_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--gap", "much"), "is not a percentage"),
        (("--gap", "100"), "is not a percentage"),
        (("--gap", "-1"), "is not a percentage"),
        (("--budget", "soon"), "is not a number of seconds"),
        (("--budget", "inf"), "is not a number of seconds"),
        (("--budget-nodes", "0"), "is not a number of strategies"),
        (("--budget", "1", "--budget-nodes", "1"), "not allowed with argument"),
        (("--devices", "5..7"), "holds no power of two"),
        (("--devices", "8..131072"), "goes beyond the 65,536 devices"),
        (("--devices", "8..x"), "`x` is not a number of ranks"),
        (("--what-if", "link.shm.latency"), "is not of the form PATH=VALUE"),
        (("--what-if", "link.shm.latency=1us,link.shm.latency=2us"), "changes one setting twice"),
        (("--devices", "2", "--what-if", "link.shm.latency=1us"), "two tables"),
        (("--devices", "2", "-n", "4"), "both say how many devices"),
        (("--devices", "2", "-o", "plan.json"), "`-o` is about one plan"),
        (("--what-if", "link.shm.latency=1us", "--dump-after", "differentiate"), "`--dump-after` is about one plan"),
    ],
)
def test_wrong_usage(dlc: Dlc, wide: Path, words: tuple[str, ...], said: str) -> None:
    found = dlc("plan", wide, *words)
    assert (found.status, said in found.err) == (2, True), found.err


def test_sizes() -> None:
    assert sizes("8..64") == (8, 16, 32, 64)
    assert sizes("6..40") == (8, 16, 32)
    assert sizes("8,16,24,8") == (8, 16, 24)


def test_changes_that_are_made_together() -> None:
    assert what_if("link.a.latency=1us, device.b.memory = 2 GiB") == (
        ("link.a.latency", "1us"),
        ("device.b.memory", "2 GiB"),
    )


# --- more devices, other hardware ----------------------------------------------------------------------------------


def test_scaling_curve(dlc: Dlc, wide: Path) -> None:
    document = dlc("plan", wide, "--devices", "1..4", "--json").document
    sizes = document["sizes"]
    assert [size["devices"] for size in sizes] == [1, 2, 4]
    steps = [size["step_seconds"] for size in sizes]
    assert steps == sorted(steps, reverse=True)
    assert sizes[2]["speed_up"] == pytest.approx(steps[0] / steps[2])
    assert sizes[2]["efficiency"] == pytest.approx(steps[0] / steps[2] / 4)
    alone = dlc("plan", wide, "-n", 2, "--json").document
    assert sizes[1]["step_seconds"] == alone["predicted"]["step_seconds"]
    assert re.search(r"^ *4 +\S+ ms", dlc("plan", wide, "--devices", "1,4").out, re.MULTILINE)


def test_sizes_without_a_plan_say_why(dlc: Dlc, wide: Path) -> None:
    wide.write_text(WIDE.replace("memory = 1 GiB", "memory = 9 MiB"))
    document = dlc("plan", wide, "--devices", "1,4", "--json").document
    small, large = document["sizes"]
    assert (small["feasible"], large["feasible"]) == (False, True)
    assert "no plan fits 9 MiB" in small["why"]
    assert (large["speed_up"], large["efficiency"]) == (1, 1)
    none = dlc("plan", wide, "--devices", "1")
    assert none.status == 3
    assert "no plan fits" in none.out


def test_sizes_that_the_plan_block_or_the_cluster_rule_out(dlc: Dlc, wide: Path) -> None:
    block = "plan wide on here {\n  mesh { data = core / 2, model = core / 2 }\n}\n"
    wide.write_text(WIDE + block)
    document = dlc("plan", wide, "--devices", "2,4", "--json").document
    assert [size["feasible"] for size in document["sizes"]] == [False, True]
    assert document["sizes"][0]["why"] == "the mesh of the plan block has 4 ranks"
    wide.write_text(WIDE.replace("bandwidth = 1 GB/s,", "bandwidth = 1 GB/s, shape = torus(2x2),"))
    document = dlc("plan", wide, "--devices", "4,8", "--json").document
    assert document["sizes"][1]["why"] == "cluster `here` cannot be made of 8 devices"


def test_what_if(dlc: Dlc, wide: Path) -> None:
    changes = ("--what-if", "link.shm.bandwidth=100GB/s", "--what-if", "device.core.memory=1MiB")
    document = dlc("plan", wide, *changes, "--json").document
    faster, smaller = document["changes"]
    assert document["base"]["feasible"]
    assert faster["change"] == "link.shm.bandwidth = 100GB/s"
    assert faster["ratio"] < 1
    assert faster["step_seconds"] == pytest.approx(faster["ratio"] * document["base"]["step_seconds"])
    assert "no plan fits 1 MiB" in smaller["why"]
    text = dlc("plan", wide, *changes).out
    assert "as it is" in text
    assert "changes in the plan" in text


def test_what_if_together_is_one_row(dlc: Dlc, wide: Path) -> None:
    both = "link.shm.bandwidth=2GB/s,device.core.compute.f32=100GFLOP/s"
    rows = dlc("plan", wide, "--what-if", both, "--json").document["changes"]
    assert [row["change"] for row in rows] == ["link.shm.bandwidth = 2GB/s, device.core.compute.f32 = 100GFLOP/s"]
    assert rows[0]["ratio"] < 0.8


def test_what_if_a_machine_without_a_plan_had_more_memory(dlc: Dlc, wide: Path) -> None:
    wide.write_text(WIDE.replace("memory = 1 GiB", "memory = 1 MiB"))
    said = dlc("plan", wide, "--what-if", "device.core.memory=1GiB", "--json")
    assert said.status == 0
    assert said.document["base"]["feasible"] is False
    assert said.document["changes"][0]["feasible"] is True


def test_what_if_with_a_mistake(dlc: Dlc, wide: Path) -> None:
    said = dlc("plan", wide, "--what-if", "link.shn.bandwidth=2GB/s")
    assert said.status == 1
    assert "error[E0402]: cluster `here` has no link `shn`" in said.err
    assert "similar name: `shm`" in said.err


def test_what_if_without_a_setting(dlc: Dlc, wide: Path) -> None:
    said = dlc("plan", wide, "--what-if", "link.shm=2GB/s")
    assert said.status == 1
    assert "cluster `here` has no setting `link.shm`" in said.err
    assert "such as `link.shm.bandwidth`" in said.err


# --- explain -------------------------------------------------------------------------------------------------------


def test_explain_every_partition(dlc: Dlc, wide: Path) -> None:
    document = dlc("explain", wide, "b.linear", "--json").document
    options = document["options"]
    taken = [option for option in options if option["taken"]]
    assert [option["partition"] for option in taken] == [document["partition"]]
    totals = [option["total"] for option in options]
    assert totals == sorted(totals)
    assert totals[0] == taken[0]["total"], "a chain: what is best for the whole is best beside its neighbours"
    costs = ("forward", "dx", "dw", "inside", "moves", "sums", "update")
    for option in options:
        assert option["total"] == pytest.approx(sum(option[cost] for cost in costs) - option["hidden"])
        assert all(option[cost] >= 0 for cost in costs)
    assert {"from", "to"} == {neighbour["way"] for neighbour in document["neighbours"]}
    assert sum(n["seconds"] for n in document["neighbours"]) == pytest.approx(taken[0]["moves"])
    text = dlc("explain", wide, "b.linear").out
    assert re.search(r"^\* +\S+/(data|model)", text, re.MULTILINE)


def test_explain_what_an_op_cannot_have(dlc: Dlc, wide: Path) -> None:
    pin = "plan wide on here {\n  pin b.linear { partition = split(feature, over = core) }\n}\n"
    wide.write_text(WIDE.replace("linear(10)", "linear(3)").replace("samples = 64", "samples = 64, classes = 3") + pin)
    document = dlc("explain", wide, "logits.linear", "--json").document
    whys = {entry["why"] for entry in document["excluded_partitions"]}
    assert "because `feature` has 3 parts at most, not 4" in whys
    document = dlc("explain", wide, "b.linear", "--json").document
    line = 1 + wide.read_text().splitlines().index("  pin b.linear { partition = split(feature, over = core) }")
    assert {entry["why"] for entry in document["excluded_partitions"]} == {f"by line {line}"}
    assert document["partition_reason"].endswith(f":{line}")
    assert all({split["axis"] for split in option["partition"]} == {"feature"} for option in document["options"])


def test_explain_strategies(dlc: Dlc, wide: Path) -> None:
    document = dlc("explain", wide, "strategy", "--json").document
    winner, *others = document["strategies"]
    assert winner["role"] == "winner"
    assert winner["objective"] == document["predicted"]["objective"]
    assert sum(value for part, value in winner["parts"].items() if part != "objective") == pytest.approx(
        winner["objective"]
    )
    assert all(other["bound"] <= (other["objective"] or float("inf")) for other in others)
    assert {"data parallelism", "pure pipeline"} <= {other["role"] for other in others}
    assert all(other["why"] for other in others)
    assert any("data parallelism" in reason and "summing gradients" in reason for reason in document["reasons"])
    text = dlc("explain", wide, "strategy").out
    assert "It takes" in text
    assert "proved best" in text


def test_explain_strategies_that_do_not_fit(dlc: Dlc, wide: Path) -> None:
    wide.write_text(WIDE.replace("memory = 1 GiB", "memory = 9 MiB"))
    strategies = dlc("explain", wide, "strategy", "--json").document["strategies"]
    assert any(re.match(r"does not fit: needs at least \S+ MiB", each["why"]) for each in strategies)


def test_explain_strategy_of_one_rank(dlc: Dlc, wide: Path) -> None:
    (alone,) = dlc("explain", wide, "strategy", "-n", "1", "--json").document["strategies"]
    assert (alone["name"], alone["role"], alone["why"]) == ("one rank", "winner", "taken")
    assert "proved best" in dlc("explain", wide, "strategy", "-n", "1").out


# --- plan.json -----------------------------------------------------------------------------------------------------


def test_plan_file_is_shown_as_it_was_made(dlc: Dlc, wide: Path, planned: Path) -> None:
    made, shown = dlc("plan", wide, "--json").document, dlc("inspect", planned, "--json").document
    for key in ("mesh", "ops", "stages", "schedule", "microbatches", "shard", "gap", "predicted", "baselines"):
        assert shown[key] == made[key]


def test_picture_of_a_plan_shows_partitions(dlc: Dlc, planned: Path) -> None:
    text = dlc("inspect", planned, "--dot").out
    assert text.count("{") == text.count("}")
    assert re.search(r"linear \w+/(data|model)", text)
    assert re.search(r'color = "#d7301f", label = "[^"]*/data', text), "a tensor that moves is red"


def test_picture_of_a_pipeline_has_its_stages(dlc: Dlc, wide: Path) -> None:
    wide.write_text(WIDE + "plan wide on here {\n  strategy = pipeline\n}\n")
    out = wide.with_name("pipeline.json")
    assert dlc("plan", wide, "-o", out).status == 0
    text = dlc("inspect", out, "--dot").out
    assert text.count("{") == text.count("}")
    assert re.findall(r"stage (\d): rank (\d)", text) == [(str(i), str(i)) for i in range(4)]
    shown = dlc("inspect", out, "--json").document
    assert [stage["first"] for stage in shown["stages"]] == [0, 1, 2, 3]
    assert "idle" in dlc("inspect", out).out


def test_timeline_of_a_plan_and_of_its_spec_agree(dlc: Dlc, wide: Path, planned: Path) -> None:
    first, second = wide.with_name("a.json"), wide.with_name("b.json")
    of_plan = dlc("inspect", planned, "--timeline", first, "--json").document
    of_spec = dlc("inspect", wide, "--timeline", second, "--json").document
    assert of_plan["step_seconds"] == of_spec["step_seconds"]
    predicted = json.loads(planned.read_text())["predicted"]
    assert of_plan["step_seconds"] == pytest.approx(predicted["simulated_seconds"] - predicted["own_seconds"])


def test_plan_file_of_another_network_is_refused(dlc: Dlc, planned: Path) -> None:
    document = json.loads(planned.read_text())
    document["ops"][0]["address"] = "elsewhere"
    planned.write_text(json.dumps(document))
    said = dlc("inspect", planned, "--timeline", planned.with_name("t.json"))
    assert said.status == 1
    assert "E0719" in said.err
    assert "elsewhere is an op of the plan alone" in said.err


# --- while it takes long -------------------------------------------------------------------------------------------


def test_interrupt_ends_quietly(dlc: Dlc, wide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(driver, "plan_spec", interrupted)
    for words in (("plan", wide), ("plan", wide, "--devices", "2"), ("explain", wide, "strategy")):
        said = dlc(*words)
        assert (said.status, said.out, said.err) == (130, "", "")


def test_progress_is_told_on_a_terminal_and_erased(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PATIENCE", 0.02)
    leader, terminal = os.openpty()
    with os.fdopen(terminal, "w") as stream:
        monkeypatch.setattr("sys.stderr", stream)
        with progress.progress("planning wide"):
            told = os.read(leader, 4096).decode()  # waits until something is told
        stream.flush()
        erased = os.read(leader, 4096).decode()
    os.close(leader)
    assert "\rplanning wide ... 0 s" in told
    assert erased.endswith(" \r"), "the line is blank again"


def test_nothing_is_told_where_nobody_looks_or_waits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.progress("planning"):
        pass
    assert capsys.readouterr().err == ""
