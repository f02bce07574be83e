"""Tables of schedules: complete, in order, free of deadlock, within their memory, with the bubbles of the papers."""

from __future__ import annotations

import random
from itertools import product

import pytest

from dlc.cost.schedules import (
    SCHEDULES,
    Cell,
    Rows,
    Schedule,
    Work,
    even_seconds,
    in_flight,
    makespan,
    needs_nonblocking,
    sends_under_way,
    step_seconds,
    table,
)

EVEN = [Work(1, 1, 1), Work(1, 2), Work(1, 1, 0.5), Work(2, 1, 1), Work(3, 1.5, 0.75), Work(0.25, 0.5, 0.25)]


def shapes() -> list[tuple[Schedule, int, int, int]]:
    """(schedule, stages, microbatches, chunks): all small ones."""
    return [
        (schedule, p, m, v)
        for schedule, p, m, v in product(SCHEDULES, range(1, 8), (*range(1, 17), 24), (1, 2, 3, 4))
        if v == 1 or schedule == "interleaved"
    ]


def even(rows: Rows, work: Work, chunks: int) -> float:
    stages = len(rows) * chunks
    return makespan(rows, [work] * stages, [0.0] * (stages - 1))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_cell_once_and_in_order(schedule: Schedule) -> None:
    for p, m, v in ((p, m, v) for name, p, m, v in shapes() if name == schedule):
        rows = table(schedule, p, m, v)
        phases = "FBW" if schedule == "zero_bubble" else "FB"
        for row in rows:
            at = {cell: index for index, cell in enumerate(row)}
            assert len(at) == len(row) == len(phases) * m * v
            for i, c in product(range(m), range(v)):
                places = [at[Cell(phase, i, c)] for phase in phases]  # type: ignore[arg-type]
                assert places == sorted(places)
            for phase, c in product(phases, range(v)):  # gradients are summed in the order of microbatches
                assert [cell.microbatch for cell in row if (cell.phase, cell.chunk) == (phase, c)] == list(range(m))


def test_even_bubbles_of_the_papers() -> None:
    for (schedule, p, m, v), work in product(shapes(), EVEN):
        f, b, w = work.forward * v, work.backward * v, work.weights * v  # of a device
        seconds = even(table(schedule, p, m, v), work, v)
        bubble = seconds - m * (f + b + w)
        if schedule in ("gpipe", "one_f_one_b"):
            assert seconds == pytest.approx((m + p - 1) * (f + b + w))
        elif schedule == "interleaved" and m >= p:
            assert bubble / (m * (f + b)) == pytest.approx((p - 1) / (v * m) * (f + b + w) / (f + b))
            assert bubble / seconds == pytest.approx((p - 1) / (v * m + p - 1))
        elif schedule == "zero_bubble" and m >= p:
            whole = b + w  # B of the formula sheet is the whole backward pass
            assert bubble == pytest.approx((p - 1) * (f + whole - 2 * w))


def test_formulas_are_the_tables_makespan_where_they_are_given() -> None:
    given = 0
    for (schedule, p, m, v), work in product(shapes(), [*EVEN, Work(1, 1, 2), Work(1, 3, 2)]):
        seconds = even_seconds(schedule, p, m, work, v)
        if seconds is not None:
            given += 1
            assert even(table(schedule, p, m, v), work, v) == pytest.approx(seconds)
            works, sends = [work] * (p * v), [0.0] * (p * v - 1)
            assert step_seconds(schedule, p, m, works, sends) == pytest.approx(seconds)
    assert given > 2000


@pytest.mark.parametrize("seed", range(200))
def test_gpipe_is_two_flow_shops_also_for_uneven_stages_with_sends(seed: int) -> None:
    rng = random.Random(seed)
    p, m = rng.randint(1, 6), rng.randint(1, 9)
    works = [Work(rng.random(), rng.random(), rng.random()) for _ in range(p)]
    sends = [rng.choice((0.0, rng.random(), 2 * rng.random())) for _ in range(p - 1)]
    expected = makespan(table("gpipe", p, m), works, sends)
    assert step_seconds("gpipe", p, m, works, sends) == pytest.approx(expected)


def test_only_gpipe_runs_with_sends_that_block() -> None:
    """1F1B's neighbours would each wait to hand over, one an activation and the other a gradient."""
    for schedule, p, m, v in shapes():
        blocks = needs_nonblocking(table(schedule, p, m, v))
        if schedule == "gpipe" or p == 1 or (m == 1 and v == 1):
            assert not blocks
        elif schedule == "one_f_one_b" or schedule == "zero_bubble":
            assert blocks


def test_no_table_waits_for_ever_and_messages_keep_their_order() -> None:
    for schedule, p, m, v in shapes():
        rows = table(schedule, p, m, v)
        assert even(rows, Work(1, 1, 1), v) < float("inf")
        for d, e in zip(range(p), (*range(1, p), 0), strict=True):
            last = v - (e == 0)  # the last device sends its chunk c to chunk c + 1 of the first
            sent = [(i, c + (e == 0)) for phase, i, c in rows[d] if phase == "F" and c < last]
            received = [(i, c) for phase, i, c in rows[e] if phase == "F" and c >= (e == 0)]
            assert p == 1 or sent == received
            back = [(i, c - (e == 0)) for phase, i, c in rows[e] if phase == "B" and c >= (e == 0)]
            assert p == 1 or back == [(i, c) for phase, i, c in rows[d] if phase == "B" and c < last]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_one_message_on_its_way_is_enough(schedule: Schedule) -> None:
    """Of each phase of a chunk, before it runs again; but for interleaved groups larger than the pipeline."""
    for p, m, v in ((p, m, v) for name, p, m, v in shapes() if name == schedule and p < 6):
        count = sends_under_way(table(schedule, p, m, v))
        if schedule == "interleaved" and v > 1 and m > p > 1 and m % p:
            assert count <= 1 + -(-(m % p) // (m // p))  # what the largest group has beyond p
        else:
            assert count == 1


def test_memory_is_that_of_the_papers() -> None:
    for p, m in product(range(1, 7), range(1, 13)):
        assert in_flight(table("gpipe", p, m)) == (m,) * p
        assert in_flight(table("one_f_one_b", p, m)) == tuple(min(m, p - d) for d in range(p))
        assert in_flight(table("zero_bubble", p, m)) == (min(m, p),) * p
    for p, m, v in product(range(1, 7), (1, 2, 3), (1, 2, 3)):
        held = in_flight(table("interleaved", p, p * m, v))
        assert held == tuple(min(p * m * v, 2 * (p - d - 1) + (v - 1) * p + 1) for d in range(p))


@pytest.mark.parametrize("seed", range(100))
def test_zero_bubble_of_uneven_stages(seed: int) -> None:
    """Never longer than ZB-H1's own order, within the memory of 1F1B's worst device, and complete."""
    rng = random.Random(seed)
    p, m = rng.randint(1, 5), rng.randint(1, 9)
    works = [Work(rng.random(), rng.random(), rng.random()) for _ in range(p)]
    sends = [rng.choice((0.0, rng.random())) for _ in range(p - 1)]
    rows, fixed = table("zero_bubble", p, m, 1, works, sends), table("zero_bubble", p, m)
    assert [sorted(row) for row in rows] == [sorted(row) for row in fixed]
    assert max(in_flight(rows)) <= min(p, m)
    seconds = makespan(rows, works, sends)
    assert seconds <= makespan(fixed, works, sends)
    busiest = max(m * work.total + sum(before.forward for before in works[:d]) for d, work in enumerate(works))
    assert seconds >= busiest - 1e-9


def test_shapes_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="0 stages"):
        table("gpipe", 0, 1)
    with pytest.raises(ValueError, match="one chunk"):
        table("one_f_one_b", 2, 4, 2)
