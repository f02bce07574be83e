"""The static check: sound Programs pass, and every planted fault is found and named for what it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from dlc.ir.check import check
from dlc.ir.program import Buffer, Compute, Entry, Load, Program, Receive, Role, Row, Segment, Send
from dlc.ir.storage import Storage, title
from dlc.ir.tensor import tensor
from tests.ir.edits import (
    alone,
    buffer,
    change,
    double,
    drop,
    edited,
    first,
    group,
    insert,
    last,
    piped,
    rows,
    schedule,
    shard,
    swap,
    train,
)
from tests.ir.sample_programs import data_parallel, kernel, pipeline, split_in_two, with_role

Fault = Callable[[], Program]


OVERLAP = {"overlap": True}
SOUND = data_parallel()

FAULTS: dict[str, tuple[str, Fault]] = {
    # collectives that do not match over the ranks
    "one role drops a collective": ("mismatch", lambda: train(drop("b0"))),
    "one role drops the last collective": ("deadlock", lambda: train(drop("b1"))),
    "one role drops both": ("deadlock", lambda: train(drop("b1"), role=1)),
    "one role sums twice": ("deadlock", lambda: train(double("b1"))),
    "one role sums the first twice": ("mismatch", lambda: train(double("b0"))),
    "one role in another order": ("mismatch", lambda: train(last("b0"), role=1)),
    "one role counts other bytes": ("mismatch", lambda: train(change("b0", bytes=8))),
    "one role takes another algorithm": ("mismatch", lambda: train(change("b0", algorithm="tree"))),
    "one role begins without waiting": ("mismatch", lambda: train(change("b0", blocking=False))),
    "one role in another group": ("deadlock", lambda: train(change("b1", group="alone"))),
    "one role names another bucket": ("mismatch", lambda: train(change("b0", name="b7"))),
    "one role skips the totals": ("deadlock", lambda: train(drop("totals"), "totals")),
    "one role trains without backward": (
        "deadlock",
        lambda: schedule(split_in_two(SOUND), "train_step", Row("load"), Row("forward"), role=1),
    ),
    "one role has no such entry": (
        "structure",
        lambda: with_role(
            split_in_two(SOUND), replace(split_in_two(SOUND).roles[1], entries=SOUND.roles[0].entries[1:]), 1
        ),
    ),
    # sums that are missing, early, doubled or partial
    "no rank sums": ("unsummed", lambda: alone(drop("b0"))),
    "no rank sums the loss": ("unsummed", lambda: alone(drop("b1"))),
    "summed before the gradient": ("unwritten", lambda: alone(first("b0"))),
    "summed between its members": ("unwritten", lambda: alone(swap("b1", "l1@dw"))),
    "summed twice by all": ("twice", lambda: alone(double("b0"))),
    "summed by each alone": ("structure", lambda: alone(change("b0", group="alone"))),
    "gradient written after its sum": ("unsummed", lambda: alone(last("l2@dw"))),
    "bucket of the wrong size": ("bytes", lambda: alone(change("b1", bytes=36))),
    "sum of another buffer": ("bytes", lambda: alone(change("b1", buffer="b0"))),
    "member left outside the bucket": ("unsummed", lambda: buffer(SOUND, "w1@grad", view_of=None)),
    "loss left outside its bucket": ("unwritten", lambda: alone(drop("loss"), "forward")),
    "update dropped": ("unused", lambda: alone(drop("w1@update"), "update")),
    "update dropped on a single rank": ("unused", lambda: edited(data_parallel(1), "update", drop("w2@update"))),
    "sums of a group that spans ranks": ("unsummed", lambda: _partial()),
    "update with another gradient": (
        "unused",
        lambda: alone(change("w1@update", inputs=("w1", "w2@grad", "w1@velocity")), "update"),
    ),
    # read before written
    "load dropped": ("unwritten", lambda: alone(lambda i: [], "load")),
    "label not loaded": ("unwritten", lambda: alone(lambda i: [Load(("image",))], "load")),
    "layer dropped": ("unwritten", lambda: alone(drop("l1"), "forward")),
    "layers swapped": ("unwritten", lambda: alone(swap("l1", "l2"), "forward")),
    "loss before logits": ("unwritten", lambda: alone(first("loss"), "forward")),
    "gradient of data dropped": ("unwritten", lambda: alone(drop("l2@dx"))),
    "gradient of weights dropped": ("unwritten", lambda: alone(drop("l1@dw"))),
    "gradients swapped": ("unwritten", lambda: alone(swap("loss@dx", "l2@dx"))),
    "forward not scheduled": (
        "unwritten",
        lambda: schedule(SOUND, "train_step", Row("load"), Row("backward"), Row("update")),
    ),
    "backward not scheduled": (
        "unwritten",
        lambda: schedule(SOUND, "train_step", Row("load"), Row("forward"), Row("update")),
    ),
    "schedule in another order": (
        "unwritten",
        lambda: schedule(SOUND, "train_step", Row("load"), Row("backward"), Row("forward"), Row("update")),
    ),
    "forward into another slot": (
        "unwritten",
        lambda: schedule(SOUND, "train_step", Row("load"), Row("forward", 0, 1), Row("backward"), Row("update")),
    ),
    "predict without inputs": ("unwritten", lambda: schedule(SOUND, "predict", Row("predict"))),
    "predict without its output": ("unwritten", lambda: alone(drop("y to kept"), "predict")),
    "evaluation of no batch": ("unwritten", lambda: schedule(SOUND, "eval_step", Row("evaluate"))),
    "by-product not kept": ("unwritten", lambda: alone(change("l2", outputs=("y",)), "forward")),
    "operand overwritten in the arena": ("unwritten", lambda: _overwritten()),
    "operand in a workspace": (
        "overlap",
        lambda: buffer(SOUND, "h@grad", view_of="arena", type=tensor("f32", element=16)),
    ),
    # non-blocking collectives
    "wait dropped": ("wait", lambda: alone(drop("b0"), "update", **OVERLAP)),
    "wait doubled": ("wait", lambda: alone(double("b0"), "update", **OVERLAP)),
    "wait of an unknown name": ("wait", lambda: alone(change("b0", name="b9"), "update", **OVERLAP)),
    "wait after use": ("in flight", lambda: alone(last("b0"), "update", **OVERLAP)),
    "wait after clipping": ("in flight", lambda: alone(swap("b1", "clip"), "update", **OVERLAP)),
    "started twice": ("wait", lambda: alone(double("b0"), **OVERLAP)),
    "written in flight": ("in flight", lambda: _rewritten()),
    "wait without a start": ("wait", lambda: alone(drop("b1"), **OVERLAP)),
    "wait of a blocking sum": ("wait", lambda: alone(change("b1", blocking=True), **OVERLAP)),
    # names, groups, shards
    "unknown buffer": ("structure", lambda: alone(change("l1", inputs=("image", "w3")), "forward")),
    "unknown workspace": ("structure", lambda: alone(change("l1", workspaces=("pack",)), "forward")),
    "unknown group": ("structure", lambda: alone(change("b0", group="node"))),
    "unknown segment": ("structure", lambda: schedule(SOUND, "predict", Row("load_inputs"), Row("guess"))),
    "negative slot": ("structure", lambda: schedule(SOUND, "predict", Row("load_inputs", 0, -1), Row("predict"))),
    "unknown parent": ("structure", lambda: buffer(SOUND, "w2@grad", view_of="b5")),
    "view of itself": ("structure", lambda: buffer(SOUND, "b0", view_of="w2@grad")),
    "two buffers of one name": ("structure", lambda: buffer(SOUND, "h@grad", name="y@grad")),
    "unknown loss": ("structure", lambda: replace(SOUND, loss="gain")),
    "unknown output": ("structure", lambda: replace(SOUND, outputs=(("logits", "z"),))),
    "rank in no group": ("structure", lambda: group((0, 1, 2))),
    "rank in two groups": ("structure", lambda: group((0, 1, 2), (2, 3))),
    "groups that split the sum": ("structure", lambda: group((0, 1), (2, 3))),
    "rank that does not exist": ("structure", lambda: group((0, 1, 2, 3, 4))),
    "shards with a gap": ("structure", lambda: shard((0, 2), (2, 5), (6, 8), (8, 10))),
    "shards that overlap": ("structure", lambda: shard((0, 3), (2, 5), (5, 8), (8, 10))),
    "shard outside the batch": ("structure", lambda: shard((0, 3), (3, 5), (5, 8), (8, 11))),
    "shard missing": ("structure", lambda: shard((0, 3), (3, 5), (5, 10))),
    "rank in no role": ("structure", lambda: with_role(SOUND, replace(SOUND.roles[0], ranks=(0, 1, 2, 4)))),
    # memory
    "view beyond its parent": ("bytes", lambda: buffer(SOUND, "correct", offset=38)),
    "parent too small": ("bytes", lambda: buffer(SOUND, "arena", type=tensor("u8", byte=64))),
    "copy to another type": ("bytes", lambda: buffer(SOUND, "kept", type=tensor("f64", batch=10, unit=6))),
    "copy to another layout": ("bytes", lambda: buffer(SOUND, "kept", layout="NHWC")),
    "workspaces that overlap": ("overlap", lambda: buffer(SOUND, "l1.tile", offset=32)),
    "outputs that overlap": ("overlap", lambda: _same()),
    # pipelines
    "send dropped": ("deadlock", lambda: piped(drop("y0"), "forward", 0)),
    "receive dropped": ("unwritten", lambda: piped(drop("y0"), "forward", 1)),
    "send doubled": ("deadlock", lambda: piped(double("y0"), "forward", 0)),
    "receive doubled": ("deadlock", lambda: piped(double("y0"), "forward", 1)),
    "message of other bytes": ("mismatch", lambda: _resized()),
    "count that is not the buffer's": ("bytes", lambda: piped(change("y0", bytes=64), "forward", 0)),
    "message of another name": ("mismatch", lambda: piped(change("dy1", name="dy"), "backward", 2)),
    "sent the wrong way": ("structure", lambda: piped(change("y0", peer=-1), "forward", 0)),
    "sent past the next": ("deadlock", lambda: piped(change("y0", peer=2), "forward", 0)),
    "sent to itself": ("structure", lambda: piped(change("y0", peer=0), "forward", 0)),
    "received in another group": (
        "deadlock",
        lambda: piped(change("y0", group="data", peer=1), "forward", 1, replicas=2),
    ),
    "sent before it is computed": ("unwritten", lambda: piped(swap("s1", "y1"), "forward", 1)),
    "send and receive exchanged": ("unwritten", lambda: piped(lambda i: [i[2], i[0], i[1]], "forward", 1)),
    "both ends send first": ("deadlock", lambda: _both_send()),
    "receives in another order": (
        "deadlock",
        lambda: schedule(pipeline(), "train_step", *rows("F0 F1 F2 B0 F3 B1 B2 B3"), role=0),
    ),
    "backward before forward": (
        "unwritten",
        lambda: schedule(pipeline(), "train_step", *rows("B0 F0 F1 F2 F3 B1 B2 B3"), role=2),
    ),
    "a microbatch forgotten": (
        "deadlock",
        lambda: schedule(pipeline(), "train_step", *rows("F0 F1 F2 B0 B1 B2"), role=0),
    ),
    "1F1B with sends that block": ("deadlock", lambda: pipeline(schedule="1f1b")),
    "a slot reused too early": (
        "unwritten",
        lambda: schedule(
            pipeline(2, 2), "train_step", Row("reset"), Row("forward", 0, 0), Row("forward", 1, 0),
            Row("backward", 0, 0), Row("backward", 1, 0), Row("update"), role=1,
        ),
    ),
}  # fmt: skip


def _partial() -> Program:
    """Batch norm over groups that span ranks, whose sums stay a rank's own."""
    sums = replace(kernel("n", "h", "l1.sums"), kernel=("bn", "sums", ""))
    program = alone(insert("l2", sums, kernel("n", "h l1.sums", "y")), "forward")
    role = program.roles[0]
    table = Buffer("l1.sums", tensor("f32", group=1, channel=6), "saved")
    return with_role(program, replace(role, buffers=(*role.buffers, table)))


def _rewritten() -> Program:
    """A gradient is written again while its bucket is being summed."""
    again = kernel("again@dw", "y@grad flat mask", "w2@grad", stage="dw")
    return alone(insert("l2@dx", again), **OVERLAP)


def _overwritten() -> Program:
    """A gradient lies in the arena, and another kernel works there before it is read."""
    program = alone(insert("l2@dx", kernel("other", "image", "", "l1.pack")))
    return buffer(program, "y@grad", view_of="arena", type=tensor("f32", element=16))


def _taken(kernel: str, then: str) -> Program:
    """Of `x -> y -> z`, computed by this kernel, y lies where x does; z is computed from one of them."""
    values = tensor("f32", batch=4, feature=4)
    arena = Buffer("arena", tensor("u8", byte=192), "workspace")
    places = {"x": 0, "y": 0, "z": 64}
    buffers = (Buffer(name, values, "activation", view_of="arena", offset=at) for name, at in places.items())
    made = (
        Load(("x",)),
        Compute("y", (kernel, "forward", ""), ("x",), ("y",)),
        Compute("z", ("linear", "forward", ""), (then,), ("z",)),
    )
    role = Role(
        "worker",
        (0,),
        ((0, 4),),
        (arena, *buffers),
        (Segment("predict", made),),
        (Entry("predict", (Row("predict"),)),),
    )
    return Program("net", 4, "f32", (role,), (), (("z", "z"),))


def _same() -> Program:
    """An op's two results are given the same bytes."""
    return buffer(SOUND, "mask", view_of="y")


def _resized() -> Program:
    """The second stage expects a larger message than the first sends."""
    program = pipeline()
    wide = tensor("f64", batch=8, feature=4)
    role = program.roles[1]
    buffers = tuple(Buffer("x", wide, "activation") if b.name == "x" else b for b in role.buffers)
    program = with_role(program, replace(role, buffers=buffers), 1)
    return edited(program, "forward", change("y0", bytes=wide.bytes), 1)


def _both_send() -> Program:
    """Two ranks exchange halos, each sending before it receives."""
    program = pipeline(2, 1)
    size = tensor("f32", batch=8, feature=4).bytes
    for role, towards in ((0, 1), (1, -1)):
        halo = (Send("h", "pipeline", towards, "y", size), Receive("h", "pipeline", towards, "x", size))
        program = edited(program, "backward", lambda i, h=halo: [*h, *i], role)  # type: ignore[misc]
    return program


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str) -> None:
    kind, make = FAULTS[fault]
    problems = check(make())
    assert kind in {problem.kind for problem in problems}, [str(problem) for problem in problems]


def test_enough_faults_are_planted() -> None:
    assert len(FAULTS) >= 60


def test_no_instruction_of_a_training_step_is_superfluous() -> None:
    """A program without any one of them is refused, but for clipping and what only evaluation needs."""
    for segment in ("load", "forward", "backward", "update"):
        for instruction in SOUND.roles[0].segment(segment).instructions:
            broken = alone(drop(title(instruction)), segment)
            assert check(broken) or title(instruction) == "clip", title(instruction)


@pytest.mark.parametrize(
    "program",
    [
        data_parallel(),
        data_parallel(1),
        data_parallel(3, overlap=True),
        data_parallel(64, 1000),
        split_in_two(data_parallel(8, overlap=True)),
        pipeline(),
        pipeline(4, 6, 3, batch=18),
        pipeline(1, 1),
    ],
    ids=["four ranks", "one rank", "overlap", "many", "two roles", "pipeline", "pipelines", "serial"],
)
def test_a_sound_program_has_no_problems(program: Program) -> None:
    assert check(program) == ()


def test_a_problem_says_where_it_is() -> None:
    (problem,) = check(alone(drop("l2@dx")))
    assert problem.sentence == "`l1@dw` reads `h@grad` before it is written"
    assert (problem.role, problem.entry, problem.instruction) == ("worker", "train_step", "l1@dw")
    assert str(problem) == "`l1@dw` reads `h@grad` before it is written (role `worker`, entry `train_step`)"


def test_a_deadlock_names_who_waits_for_whom() -> None:
    found = check(train(drop("b1"), role=1))
    assert [problem.sentence for problem in found if problem.kind == "deadlock"] == [
        "ranks 0-1 wait at `b1` for ever: ranks 2-3 ended"
    ]


def test_memory_binds_at_the_largest_shard() -> None:
    program = data_parallel(3, batch=10)
    most = sum(Storage(program.roles[0], 4).allocated().values())
    assert check(program, memory_limit=most) == ()
    (problem,) = check(program, memory_limit=most - 1)
    assert problem.kind == "memory"
    assert problem.sentence == f"a rank allocates {most} bytes, the limit is {most - 1}"


def test_bytes_are_counted_by_hand() -> None:
    """Four samples: image and h, y, y@grad, h@grad, kept 4·6·4 each, label 4·4, mask 4·6, weights 36·4 …"""
    found = Storage(data_parallel(3, batch=10).roles[0], 4).allocated()
    assert found == {
        "workspace": 256,
        "input": 96,
        "field": 16,
        "constant": 4,
        "weight": 288,
        "state": 144,
        "bucket": 36 * 4 + 38 * 4 + 24 + (12 * 4 + 38 * 4 + 24),  # scratch: a third for a ring, else as much again
        "activation": 3 * 96,
        "saved": 24,
        "gradient": 2 * 96,
    }


def test_a_pipeline_holds_a_copy_of_each_activation_a_slot() -> None:
    role = pipeline(3, 4, batch=8).roles[0]
    assert Storage(role, 8).allocated()["activation"] == 4 * 2 * (2 * 4 * 4)


def test_the_check_does_not_grow_with_the_ranks() -> None:
    """Two thousand ranks that hold as many samples are followed as one."""
    problems = check(data_parallel(2000, 20000))
    assert problems == ()


def test_a_result_may_lie_where_an_operand_is_needed_no_more() -> None:
    assert check(_taken("relu", "y")) == ()
    (problem,) = check(_taken("relu", "x"))
    assert problem.sentence == "`z` reads `x`, where `y` lies by now"
    (problem,) = check(_taken("linear", "y"))
    assert problem.sentence == "`y` is given `y` and `x`, which share bytes"
