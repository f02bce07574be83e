"""`dlc diff`: what two plans decide differently, folded by repetition, with the times."""

from __future__ import annotations

from dataclasses import replace

from dlc.inspect.difference import difference_document, difference_text, differences, in_short
from dlc.ir.plan import Plan, Stage
from tests.inspect.plans import BATCH, FEATURE, op, plan


def changed(before: Plan, after: Plan) -> dict[tuple[str, str], tuple[str, str]]:
    return {(d.where, d.what): (d.before, d.after) for d in differences(before, after)}


def test_a_plan_decides_as_itself() -> None:
    assert differences(plan(), plan()) == ()
    assert difference_document(()) == {"equal": True, "differences": []}
    assert difference_text((), "a.json", "b.json") == "a.json and b.json decide the same"
    assert in_short(()) == "nothing"


def test_what_is_decided_of_the_whole() -> None:
    inner = (("data", 4),)
    other = plan(
        mesh=(("pipeline", 2), ("data", 4)),
        microbatches=16,
        schedule="interleaved",
        chunks=2,
        shard="weights",
        gap=0.0,
        stages=(Stage(0, 0, inner), Stage(1, 4, inner)),
    )
    found = changed(plan(), other)
    assert found["", "mesh"] == ("pipeline 2 x data 2 x model 2", "pipeline 2 x data 4")
    assert found["", "microbatches"] == ("8", "16")
    assert found["", "schedule"] == ("one_f_one_b", "interleaved, 2 chunks")
    assert found["", "shard"] == ("optimizer", "weights")
    assert found["", "gap"] == ("0.4 %", "0 %")
    assert found["stage 0", "mesh"] == ("data 2 x model 2", "data 4")
    assert ("stage 0", "ops") not in found


def test_where_stages_are_cut() -> None:
    ops = tuple(replace(each, stage=1) if each.address == "body[1].down" else each for each in plan().ops)
    before, after = changed(plan(), plan(ops=ops))["stage 0", "ops"]
    assert before == "stem to body[1].down (5)"
    assert after == "stem to body[0].down (4)"


def test_partitions_are_folded_with_the_sum_of_their_times() -> None:
    ops = tuple(
        op(each.address, BATCH, seconds=0.002, stage=each.stage) if each.partition == (BATCH, FEATURE) else each
        for each in plan().ops
    )
    found = differences(plan(), plan(ops=ops))
    assert {d.what for d in found} == {"partition"}
    line = difference_text(found, "a", "b").splitlines()[2]
    assert line.startswith("body[0..4].up (4)  partition  split(batch, over = data), split(feature, over = model)")
    assert line.endswith("12 ms      24 ms")
    assert in_short(found) == "partition of 4 ops"


def test_recomputation() -> None:
    ops = tuple(replace(each, recompute=False) for each in plan().ops)
    found = changed(plan(), plan(ops=ops))
    assert found["body[3].down", "recompute"] == ("yes", "no")
    assert found["", "recomputed ops"] == ("1", "0")


def test_in_short_counts_decisions_not_figures() -> None:
    ops = tuple(replace(each, layout="NHWC") for each in plan().ops[:3])
    faster = replace(plan().predicted, step_seconds=0.05)
    other = plan(ops=(*ops, *plan().ops[3:]), predicted=faster, shard="none")
    assert in_short(differences(plan(), other)) == "shard, layout of 3 ops"
