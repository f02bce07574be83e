"""Plans of every strategy in tables and documents."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from dlc.cluster.topology import Cluster, Device, Group, Link
from dlc.inspect.background import Background
from dlc.inspect.communication import Exchange
from dlc.inspect.decisions import data_parallel, reason, splits, strategy
from dlc.inspect.in_place import Takeover
from dlc.inspect.plan_document import plan_document
from dlc.inspect.plan_table import plan_text, proof
from dlc.inspect.stages import stage_rows
from dlc.inspect.tables import percent
from dlc.ir.plan import Reason, Stage
from dlc.ir.request import Request
from passes.planning.plan import Record
from tests.inspect.plans import BATCH, op, plan

POD = Cluster(
    "pod",
    (Device("gpu", "gpu", 8 * 2**30, 1e12, (("f32", 1e13),)),),
    (Link("nvlink", 1e11, 1e-6), Link("ib", 1e10, 2e-6)),
    (Group("node", 2, "ib", (Group("gpu", 4, "nvlink", (), "gpu"),)),),
)

RECORD = Record(9, 4, 120, 14, 3, {"tables": 0.1, "search": 0.25})

KNOWN = Background(
    Request("net", "pod"),
    POD,
    8 * 2**30,
    (Exchange("allreduce", "data", 2, "ring", 2**20, "12 sums", 3, 0.002),),
    RECORD,
)


def line_with(text: str, start: str) -> list[str]:
    """The cells of the first line that begins so."""
    return next(line for line in text.splitlines() if line.startswith(start)).split()


def test_strategy_in_words() -> None:
    assert strategy(plan()) == (
        "8 ranks as pipeline 2 x data 2 x model 2, batch 64 in 8 microbatches of 8, 2 stages by 1F1B, "
        "optimizer state sharded (ZeRO 1), 1 of 10 ops recomputed"
    )


def test_strategy_of_data_parallelism() -> None:
    made = plan(
        ranks=3,
        mesh=(("data", 3),),
        shards=((0, 22), (22, 43), (43, 64)),
        ops=(op("stem"),),
        stages=(),
        microbatches=1,
        shard="none",
    )
    assert data_parallel(made)
    assert strategy(made) == "3 ranks, data parallel, batch 64 as 1 x 22 + 2 x 21"
    assert splits(made) == {"stem": (("batch", "data"),)}


def test_one_op_with_a_partition_makes_a_plan_general() -> None:
    made = plan(mesh=(("data", 8),), ops=(op("stem", BATCH), op("head")), stages=(), microbatches=1, shard="none")
    assert not data_parallel(made)
    assert splits(made)["head"] == ()
    assert strategy(made) == "8 ranks as data 8, batch 64"


def test_repeated_blocks_are_one_row() -> None:
    text = plan_text(plan())
    row = line_with(text, "body[0..4].up")
    assert row[1:5] == ["x4", "0..2", "batch/data", "feature/model"]
    assert line_with(text, "body[0..3].down")[1:3] == ["x3", "0..2"]
    assert "twice" in line_with(text, "body[3].down")
    assert line_with(text, "head")[1:3] == ["1", "replicate"]


def test_stages() -> None:
    first, second = stage_rows(plan())
    assert (first.ranks, first.ops[0], len(second.ops)) == (4, "stem", 5)
    assert first.idle == pytest.approx(1 - 8 * 0.006 / 0.1)
    assert line_with(plan_text(plan()), "0      0..4")[-2:] == ["3", "GiB"]


def test_idle_counts_all_chunks_of_a_device() -> None:
    stages = tuple(Stage(i, 4 * (i % 2), (("data", 4),), (0.002, 0.003)[i % 2]) for i in range(4))
    rows = stage_rows(plan(stages=stages, chunks=2, schedule="interleaved", ops=(op("stem"),)))
    assert [row.idle for row in rows] == pytest.approx([1 - 8 * 0.004 / 0.1, 1 - 8 * 0.006 / 0.1] * 2)


def test_mesh_says_what_is_split_and_over_which_link() -> None:
    text = plan_text(plan(), KNOWN.request, KNOWN)
    assert line_with(text, "pipeline ")[1:] == ["2", "ib", "2", "stages"]
    # 27 + 12 ms in all: the head, 12 ms of 39, is replicated; the four ups, 12 ms, split their features
    assert line_with(text, "data ")[2:] == ["nvlink", "batch", "69", "%,", "nothing", "31", "%"]
    assert line_with(text, "model ")[2:] == ["nvlink", "nothing", "69", "%,", "feature", "31", "%"]


def test_facts() -> None:
    text = plan_text(plan(), KNOWN.request, KNOWN)
    assert "predicted  100 ms a step" in text
    assert "640 samples/s" in text
    assert "interval   90 ms to 130 ms" in text
    assert "simulated  110 ms a step, 1.1 times the prediction" in text
    assert "gap        within 0.4 % of the best" in text
    assert "memory     3 GiB at the peak of a rank, 38 % of 8 GiB" in text
    assert "9 variables of 4 kinds, 120 options, 3 of 14 strategies solved" in text


def test_results_in_place() -> None:
    """They are counted where there are some, and listed in the document."""
    found = (
        Takeover("n2.relu", "relu", "n1.conv", "n2.relu", 2**20),
        Takeover("n4.relu", "relu", "n3.conv", "n4.relu", 2**19),
        Takeover("n4.relu@dx", "relu dx", "n4.relu@grad", "n3.conv@grad", 2**19),
    )
    text = plan_text(plan(), KNOWN.request, replace(KNOWN, takeovers=found))
    assert "in place   3 results lie where an operand did (2 relu, 1 relu dx), 1 MiB the largest" in text
    assert "in place" not in plan_text(plan(), KNOWN.request, KNOWN)
    listed = plan_document(plan(), KNOWN.request, replace(KNOWN, takeovers=found))["in_place"]
    assert isinstance(listed, list)
    assert listed[2] == {"address": "n4.relu@dx", "kernel": "relu dx", "operand": "n4.relu@grad",
                         "result": "n3.conv@grad", "bytes": 2**19}  # fmt: skip


@pytest.mark.parametrize(("gap", "text"), [(0.0, "proved best"), (1e-12, "proved best"), (0.004, "within 0.4 %")])
def test_proof(gap: float, text: str) -> None:
    assert proof(gap).startswith(text)


def test_comparison_has_ratios_and_notes() -> None:
    text = plan_text(plan())
    assert line_with(text, "lower bound: work")[-1] == "2"
    runner = line_with(text, "runner-up")
    assert runner[runner.index("120") : runner.index("120") + 3] == ["120", "ms", "1.2"]
    assert "1.36" in runner, "0.15 / 0.11"
    assert "needs more than 8 GiB" in text


def test_communication_is_shown_where_it_is_more_than_the_buckets() -> None:
    assert line_with(plan_text(plan(), None, KNOWN), "allreduce")[:4] == ["allreduce", "data", "2", "ring"]
    assert "12 sums" not in plan_text(plan())


def test_document() -> None:
    document = json.loads(json.dumps(plan_document(plan(), KNOWN.request, KNOWN), allow_nan=False))
    assert document["search"] == {
        "variables": 9,
        "kinds": 4,
        "options": 120,
        "strategies": 14,
        "solved": 3,
        "seconds": {"tables": 0.1, "search": 0.25},
    }
    assert document["gap"] == 0.004
    assert document["mesh"] == {"pipeline": 2, "data": 2, "model": 2}
    assert document["stages"][1]["first"] == 4
    assert document["schedule"] == "one_f_one_b"
    assert document["ops"][1]["partition"] == [{"axis": "batch", "over": "data"}, {"axis": "feature", "over": "model"}]
    assert [entry["ratio"] for entry in document["baselines"]] == [pytest.approx(1.2), None]
    assert document["baselines"][1]["note"] == "needs more than 8 GiB"
    assert document["memory_limit_bytes"] == 8 * 2**30
    assert document["communication"][0]["times"] == 3


def test_reasons_are_said_once() -> None:
    pinned = Reason("pinned", "a.dlspec:3")
    made = op("stem", BATCH, algorithm="im2col")
    assert reason(made) == "cheapest"
    assert reason(replace(made, partition_reason=pinned)) == "cheapest; partition pinned at a.dlspec:3"
    assert reason(replace(made, reason=Reason("only"), partition_reason=pinned)) == "pinned at a.dlspec:3"
    assert reason(replace(made, reason=Reason("only"), partition_reason=Reason("only"))) == "the only one"


@pytest.mark.parametrize(
    ("share", "text"), [(0.274, "27 %"), (1.0, "100 %"), (0.0131, "1.3 %"), (0.0004, "0.04 %"), (0.0, "0 %")]
)
def test_percent(share: float, text: str) -> None:
    assert percent(share) == text
