"""Streams beside the kernels, by hand: messages and copies that do not block, what is exposed, memory over time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from dlc.cost.timeline import Lane, Timeline, simulate
from dlc.ir.execution import COMPUTE, COPY
from dlc.ir.program import (
    Buffer,
    Collective,
    CommunicationGroup,
    Copy,
    Entry,
    Instruction,
    Program,
    Receive,
    Role,
    Row,
    Segment,
    Send,
    Wait,
)
from dlc.ir.tensor import tensor
from tests.cost.timelines import by_name
from tests.ir.sample_programs import kernel


def ranks(*instructions: Iterable[Instruction]) -> Program:
    """A rank for each list of instructions, one behind the other in the group `line`, all in the group `all`."""
    buffers = (Buffer("w", tensor("f32", element=4), "weight"), Buffer("x", tensor("f32", element=4), "activation"))
    count = len(instructions)
    roles = tuple(
        Role(
            f"r{rank}",
            (rank,),
            ((0, 1),),
            buffers,
            (Segment("all", tuple(made)),),
            (Entry("train_step", (Row("all"),)),),
        )
        for rank, made in enumerate(instructions)
    )
    line, everyone = (CommunicationGroup(name, (tuple(range(count)),)) for name in ("line", "all"))
    return Program("p", 1, "f32", roles, (line, everyone))


def send(name: str, peer: int = 1, blocking: bool = False) -> Send:
    return Send(name, "line", peer, "x", 16, blocking)


def receive(name: str, peer: int = -1, blocking: bool = False) -> Receive:
    return Receive(name, "line", peer, "x", 16, blocking)


def spans(lane: Lane, stream: str) -> list[tuple[str, float, float]]:
    return [(event.name, event.start, event.end) for event in lane.events if event.stream == stream]


def run(program: Program, overlap: float = 1.0, **seconds: float) -> Timeline:
    """Folded and unfolded are the same."""
    found = simulate(program, "train_step", by_name(**seconds), overlap)
    each = simulate(program, "train_step", by_name(**seconds), overlap, folded=False)
    assert [lane.events for lane in found.lanes] == [lane.events for lane in each.lanes]
    return found


def test_a_message_that_does_not_block_goes_beside_the_kernels() -> None:
    program = ranks(
        [kernel("a", "w"), send("m"), kernel("b", "w"), Wait("m")],
        [receive("m"), kernel("c", "w"), Wait("m"), kernel("d", "w")],
    )
    found = run(program, a=2.0, m=3.0, b=4.0, c=1.0, d=1.0)
    first, second = found.lanes
    assert spans(first, "line to +1") == [("m", 2.0, 5.0)]
    assert spans(second, "line from -1") == [("m", 2.0, 5.0)]
    assert (first.end, second.end, found.makespan) == (6.0, 6.0, 6.0)
    assert (first.exposed, second.exposed) == (0.0, 3.0)  # 2 to 5; from 1 to 2 it waits for the sender
    assert [role.exposed for role in found.roles] == [0.0, 3.0]


@pytest.mark.parametrize(("overlap", "first", "end"), [(0.0, (2.0, 9.0), 9.0), (0.5, (2.0, 7.0), 7.0)])
def test_a_message_advances_at_the_rate_of_overlap(overlap: float, first: tuple[float, float], end: float) -> None:
    program = ranks([kernel("a", "w"), send("m"), kernel("b", "w"), Wait("m")], [receive("m"), Wait("m")])
    found = run(program, overlap, a=2.0, m=3.0, b=4.0)
    assert spans(found.lanes[0], "line to +1") == [("m", *first)]
    assert found.lanes[0].end == end
    assert found.lanes[1].end == 5.0  # who waits is served at full speed


def test_both_directions_go_at_once() -> None:
    """Halos: each rank sends to its neighbour and receives from it."""
    one = [send("h", 1), receive("g", 1), Wait("h"), Wait("g")]
    other = [send("g", -1), receive("h", -1), Wait("g"), Wait("h")]
    found = run(ranks(one, other), g=3.0, h=5.0)
    assert found.makespan == 5.0
    assert [stream.name for stream in found.lanes[0].streams] == [COMPUTE, "line to +1", "line from +1"]


def test_messages_of_one_way_follow_each_other() -> None:
    program = ranks([send("m"), send("n"), Wait("m"), Wait("n")], [receive("m"), receive("n"), Wait("n"), Wait("m")])
    found = run(program, m=2.0, n=3.0)
    assert spans(found.lanes[1], "line from -1") == [("m", 0.0, 2.0), ("n", 2.0, 5.0)]
    assert found.makespan == 5.0


def test_one_end_may_block() -> None:
    program = ranks([kernel("a", "w"), send("m"), kernel("b", "w"), Wait("m")], [receive("m", blocking=True)])
    found = run(program, a=1.0, m=2.0, b=5.0)
    assert [lane.end for lane in found.lanes] == [6.0, 3.0]


def test_a_wait_before_the_other_end_begins_waits_for_it() -> None:
    program = ranks([send("m"), Wait("m"), kernel("b", "w")], [kernel("a", "w"), receive("m"), Wait("m")])
    found = run(program, a=4.0, m=2.0, b=1.0)
    assert (found.lanes[0].end, found.lanes[0].exposed) == (7.0, 2.0)


def test_both_wait_for_what_the_other_has_not_begun() -> None:
    program = ranks(
        [receive("m", 1), Wait("m"), send("n", 1), Wait("n")], [receive("n"), Wait("n"), send("m", -1), Wait("m")]
    )
    with pytest.raises(ValueError, match="rank 0 waits at `m` for ever: rank 1 waits at `n`"):
        simulate(program, "train_step", by_name())


def test_a_copy_has_a_stream_of_its_own_only_where_it_does_not_block() -> None:
    beside = [kernel("a", "w"), Copy("x", "x", "keep", blocking=False), kernel("b", "w"), Wait("keep")]
    found = run(ranks(beside), a=1.0, keep=2.0, b=3.0)
    (lane,) = found.lanes
    assert spans(lane, COPY) == [("keep", 1.0, 3.0)]
    assert found.makespan == 4.0
    blocking = [kernel("a", "w"), Copy("x", "x", "keep"), kernel("b", "w")]
    (lane,) = run(ranks(blocking), a=1.0, keep=2.0, b=3.0).lanes
    assert spans(lane, COMPUTE) == [("a", 0.0, 1.0), ("keep", 1.0, 3.0), ("b", 3.0, 6.0)]


def test_copies_and_collectives_are_hidden_together() -> None:
    """Two streams under one kernel: neither slows the other down."""
    made = [
        Copy("x", "x", "keep", blocking=False),
        Collective("s", "allreduce", "all", "ring", "x", 16, blocking=False),
        kernel("a", "w"),
        Wait("s"),
        Wait("keep"),
    ]
    assert run(ranks(made, made[1:4]), a=5.0, keep=4.0, s=3.0).makespan == 5.0
    assert (
        run(ranks(made, made[1:4]), 0.0, a=5.0, keep=4.0, s=3.0).makespan == 9.0
    )  # the copy goes on while s is awaited


def test_a_collective_that_is_pending_sees_what_a_stretch_waits_for() -> None:
    """s is under way while the first rank's own sums make it wait: 1 + 1 s of 0 to 6 at full speed, nothing else."""
    alone = Collective("o", "allreduce", "own", "ring", "x", 16)
    begin = Collective("s", "allreduce", "all", "ring", "x", 16, blocking=False)
    made = [begin, kernel("a", "w"), alone, kernel("a", "w"), alone, kernel("a", "w"), Wait("s")]
    program = ranks(made, [begin, Wait("s")])
    groups = (*program.groups, CommunicationGroup("own", ((0,), (1,))))
    found = run(replace(program, groups=groups), 0.0, a=2.0, o=1.0, s=5.0)
    assert [lane.end for lane in found.lanes] == [11.0, 5.0]
    assert spans(found.lanes[0], "all") == [("s", 0.0, 11.0)]


def test_memory_over_time_has_a_point_a_row() -> None:
    value = Buffer("x", tensor("f32", batch=2, feature=4), "activation")
    role = Role(
        "r",
        (0,),
        ((0, 2),),
        (value,),
        (Segment("forward", (kernel("f", "", "x"),)), Segment("backward", (kernel("b", "x"),))),
        (Entry("train_step", tuple(Row(name, m, m) for name in ("forward", "backward") for m in (0, 1))),),
    )
    found = run(Program("p", 2, "f32", (role,), ()), f=1.0, b=2.0)
    assert found.lanes[0].memory == ((0.0, 16), (1.0, 32), (2.0, 32), (4.0, 16))
    assert found.roles[0].memory == found.lanes[0].memory
    assert found.roles[0].peak_bytes == 32
