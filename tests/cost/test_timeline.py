"""The simulator against hand-made timelines and closed forms."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from dlc.cost.communication import Transfer, exposed
from dlc.cost.liveness import live_bytes
from dlc.cost.timeline import simulate
from dlc.ir.execution import COMPUTE
from dlc.ir.program import Buffer, Collective, Wait
from dlc.ir.tensor import tensor
from tests.cost.timelines import by_name, by_sample, one_segment, passes, spans
from tests.ir.sample_programs import data_parallel, kernel, pipeline, with_role


def allreduce(name: str, blocking: bool = True) -> Collective:
    return Collective(name, "allreduce", "data", "ring", name, 16, blocking)


# --- hand-made timelines ------------------------------------------------------------------------------------------


def test_kernels_follow_each_other() -> None:
    program = one_segment([kernel("a", "w", "b0"), kernel("b", "b0", "b1")], ranks=1)
    found = simulate(program, "train_step", by_name(a=2.0, b=3.0))
    assert found.makespan == 5.0
    assert spans(found.lanes[0]) == [(COMPUTE, "a", 0.0, 2.0), (COMPUTE, "b", 2.0, 5.0)]
    assert found.bubble == 0.0


def test_a_blocking_collective_stops_the_kernels() -> None:
    program = one_segment([kernel("a", "w", "b0"), allreduce("b0"), kernel("b", "b0", "b1")])
    found = simulate(program, "train_step", by_name(a=2.0, b0=4.0, b=3.0), overlap=1.0)
    assert found.makespan == 9.0
    assert spans(found.lanes[0]) == [(COMPUTE, "a", 0.0, 2.0), ("data", "b0", 2.0, 6.0), (COMPUTE, "b", 6.0, 9.0)]
    assert found.lanes[0].stream(COMPUTE).idle == 4.0
    assert found.lanes[0].stream("data").busy == 4.0


BACKWARD = [
    kernel("a", "w", "b0"),
    allreduce("b0", blocking=False),
    kernel("b", "w", "b1"),
    allreduce("b1", blocking=False),
    kernel("c", "w", "b2"),
    Wait("b0"),
    Wait("b1"),
]


@pytest.mark.parametrize(
    ("overlap", "makespan", "first", "second"),
    [
        (1.0, 10.0, (2.0, 6.0), (6.0, 10.0)),  # a 0-2, b 2-5, c 5-6: b0 under b and c, b1 4 seconds after it
        (0.0, 14.0, (2.0, 10.0), (10.0, 14.0)),  # nothing moves while a rank computes: 6 + 4 + 4
        (0.5, 12.0, (2.0, 8.0), (8.0, 12.0)),  # of b0 half of 2-6 is hidden, 2 seconds are left at 6
    ],
)
def test_what_computing_hides(
    overlap: float, makespan: float, first: tuple[float, float], second: tuple[float, float]
) -> None:
    found = simulate(one_segment(BACKWARD), "train_step", by_name(a=2.0, b=3.0, c=1.0, b0=4.0, b1=4.0), overlap)
    assert found.makespan == makespan
    assert [(e.start, e.end) for e in found.lanes[0].events if e.stream == "data"] == [first, second]


def test_overlap_is_the_closed_form_of_the_planner() -> None:
    random = Random(1)
    for _ in range(200):
        a, b, c, one, two = (random.uniform(0.1, 5.0) for _ in range(5))
        overlap = random.choice([0.0, 0.3, 0.7, 1.0])
        found = simulate(one_segment(BACKWARD), "train_step", by_name(a=a, b=b, c=c, b0=one, b1=two), overlap)
        backward = a + b + c
        left = exposed([Transfer(a, one), Transfer(a + b, two)], backward, overlap)
        assert found.makespan == pytest.approx(backward + left, rel=1e-12)


def test_a_collective_waits_for_the_last_rank() -> None:
    """Three samples and two on two ranks: the first computes 3 s, the second waits 1 s for it."""
    program = one_segment([kernel("a", "w", "b0"), allreduce("b0")])
    program = replace(with_role(program, replace(program.roles[0], shards=((0, 3), (3, 5)))), batch=5)
    found = simulate(program, "train_step", by_sample(1.5))
    assert found.makespan == 4.5
    slow, fast = found.lanes
    assert (slow.ranks.samples, fast.ranks.samples) == (3, 2)
    assert spans(fast) == [(COMPUTE, "a", 0.0, 2.0), ("data", "b0", 3.0, 4.5)]
    assert fast.stream(COMPUTE).idle == 2.5


def test_a_message_takes_both_ends() -> None:
    program = pipeline(2, 1)
    found = simulate(program, "train_step", by_name(s0=2.0, y0=1.0, s1=3.0, loss1=0.5, s1_dx=4.0, dy0=1.0, s0_dx=5.0))
    assert found.makespan == 2 + 1 + 3 + 0.5 + 4 + 1 + 5
    first, last = found.lanes
    assert ("pipeline to +1", "y0", 2.0, 3.0) in spans(first)
    assert ("pipeline from -1", "y0", 2.0, 3.0) in spans(last)
    assert (first.stream("pipeline to +1").busy, first.stream("pipeline from +1").busy) == (1.0, 1.0)


def test_a_message_waits_for_its_receiver() -> None:
    """Forward 1 s on the first stage, 3 s on the second: the first sends its second microbatch when that is free."""
    found = simulate(pipeline(2, 3), "train_step", by_name(s0=1.0, s1=3.0))
    starts = [event.start for event in found.lanes[0].events if event.name == "y0"]
    assert starts == [1.0, 4.0, 7.0]


# --- closed forms of cost-models.md §5 ----------------------------------------------------------------------------


@pytest.mark.parametrize("stages", [1, 2, 3, 5])
@pytest.mark.parametrize("microbatches", [1, 2, 4, 8])
def test_the_bubble_of_an_even_pipeline(stages: int, microbatches: int) -> None:
    """(M + S - 1)·t, and (S - 1)/(M + S - 1) of it idle."""
    found = simulate(pipeline(stages, microbatches, batch=8), "train_step", passes(2.0, 3.0))
    assert found.makespan == (microbatches + stages - 1) * 5.0
    assert found.bubble == pytest.approx((stages - 1) / (microbatches + stages - 1))


@pytest.mark.parametrize("seconds", [(1.0, 3.0, 2.0), (4.0, 1.0, 1.0), (1.0, 2.0, 5.0)])
def test_uneven_stages_forward(seconds: tuple[float, float, float]) -> None:
    """Σ t + (M - 1)·max t."""
    price = by_name(**{f"s{stage}": t for stage, t in enumerate(seconds)})
    found = simulate(pipeline(3, 6, batch=6), "train_step", price)
    assert found.makespan == sum(seconds) + 5 * max(seconds)


def test_a_program_that_would_hang_is_refused() -> None:
    with pytest.raises(ValueError, match="rank 0 waits at `y0` for ever"):
        simulate(pipeline(schedule="1f1b"), "train_step", by_sample(0.0))


# --- memory ---------------------------------------------------------------------------------------------------------


def test_live_bytes_by_hand() -> None:
    """Weights throughout; x from its load, its gradient while it is used, a workspace while its kernel runs."""
    program = one_segment([kernel("a", "w", "x", "scratch"), kernel("b", "x", "y"), kernel("c", "y", "b0")], ranks=1)
    role = program.roles[0]
    more = (
        Buffer("x", tensor("f32", batch=1, feature=10), "activation"),
        Buffer("y", tensor("f32", batch=1, feature=20), "activation"),
        Buffer("scratch", tensor("u8", byte=7), "workspace"),
    )
    role = replace(role, buffers=(*role.buffers, *more))
    live = [dict(point.live) for point in live_bytes(role, "train_step", 1)]
    assert live == [
        {"weight": 16, "activation": 40, "workspace": 7},
        {"weight": 16, "activation": 120},
        {"weight": 16, "activation": 80, "gradient": 16},
    ]


def test_microbatches_of_a_pipeline_pile_up_and_go() -> None:
    """GPipe's first stage holds the inputs of all four microbatches, and one output until it is sent."""
    (lane, _) = simulate(pipeline(2, 4, batch=8), "train_step", passes(1.0, 1.0)).lanes
    one = 2 * 4 * 4
    held = [dict(point.live).get("activation", 0) for point in lane.live]
    assert max(held) == 4 * one + one
    assert held[-1] == 0
    assert dict(lane.allocated)["activation"] == 4 * 2 * one


def test_live_is_never_more_than_allocated() -> None:
    for program in (data_parallel(3, 10), pipeline(3, 4, batch=8)):
        for lane in simulate(program, "train_step", by_sample(1.0)).lanes:
            assert lane.peak is not None
            assert 0 < lane.peak.total <= lane.allocated_bytes
