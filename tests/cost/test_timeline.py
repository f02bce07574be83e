"""The simulator against hand-made timelines, closed forms, and itself with every rank on its own."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from random import Random
from zlib import crc32

import pytest

from dlc.cluster.collectives import seconds as collective_seconds
from dlc.cluster.topology import Cluster, Device, Group, Link
from dlc.cost.communication import Transfer, exposed, processing
from dlc.cost.liveness import live_bytes
from dlc.cost.price import default_price
from dlc.cost.timeline import Lane, Timeline, simulate
from dlc.cost.trace import to_trace
from dlc.ir.check import check
from dlc.ir.execution import COMPUTE, Price
from dlc.ir.program import (
    Buffer,
    Collective,
    CommunicationGroup,
    Compute,
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
from dlc.ir.ranks import fold
from dlc.ir.storage import title
from dlc.ir.tensor import tensor
from tests.ir.sample_programs import (
    data_parallel,
    kernel,
    pipeline,
    shards,
    split_in_two,
    with_role,
    with_segment,
)

COMMUNICATES = (Collective, Send, Receive)


def by_name(**seconds: float) -> Price:
    """Fixed seconds for the instructions of these names, `_` standing for `@`; nothing for all others."""
    return lambda instruction, role, samples: seconds.get(title(instruction).replace("@", "_"), 0.0)


def by_sample(messages: float) -> Price:
    """A kernel takes a second a sample, a collective or message always the same."""
    return lambda i, role, samples: messages if isinstance(i, COMMUNICATES) else float(samples)


def drawn_price(seed: int) -> Price:
    """Prices that depend on the instruction, the role and the samples, and on nothing else."""

    def price(instruction: Instruction, role: Role, samples: int) -> float:
        key = f"{seed} {title(instruction)} {type(instruction).__name__}"
        own = "" if isinstance(instruction, COMMUNICATES) else role.name
        return (1 + crc32((key + own).encode()) % 97) * (1.0 if own == "" else 0.25 + samples)

    return price


def one_segment(instructions: Iterable[Instruction], ranks: int = 2) -> Program:
    """Ranks that do nothing but these instructions, in an entry `train_step`."""
    batch = ranks
    buffers = (
        Buffer("w", tensor("f32", element=4), "weight"),
        *(Buffer(f"b{i}", tensor("f32", element=4), "gradient") for i in range(3)),
    )
    role = Role(
        "worker",
        tuple(range(ranks)),
        shards(batch, ranks),
        buffers,
        (Segment("all", tuple(instructions)),),
        (Entry("train_step", (Row("all"),)),),
    )
    return Program("p", batch, "f32", (role,), (CommunicationGroup("data", (tuple(range(ranks)),)),))


def allreduce(name: str, blocking: bool = True) -> Collective:
    return Collective(name, "allreduce", "data", "ring", name, 16, blocking)


def spans(lane: Lane) -> list[tuple[str, str, float, float]]:
    """(stream, name, start, end) of the events that take time."""
    return [(e.stream, e.name, e.start, e.end) for e in lane.events if e.end > e.start]


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


def passes(forward: float, backward: float) -> Price:
    """Even stages: every forward and every backward kernel takes as long, all else nothing."""

    def price(instruction: Instruction, role: Role, samples: int) -> float:
        if not isinstance(instruction, Compute) or not instruction.address.startswith("s"):
            return 0.0
        return {"forward": forward, "dx": backward, "dw": 0.0}[instruction.kernel[1]]

    return price


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


# --- laws -----------------------------------------------------------------------------------------------------------


def drawn_program(random: Random) -> Program:
    """Ranks on a mesh that compute and sum over rows, columns or all, in one order, in one or two roles."""
    rows, columns = random.randrange(1, 4), random.randrange(1, 5)
    ranks = rows * columns
    at = [[row * columns + column for column in range(columns)] for row in range(rows)]
    groups = (
        CommunicationGroup("row", tuple(map(tuple, at))),
        CommunicationGroup("column", tuple(zip(*at, strict=True))),
        CommunicationGroup("all", (tuple(range(ranks)),)),
    )
    made: list[Instruction] = []
    flying: list[str] = []
    for index in range(random.randrange(2, 14)):
        what = random.randrange(4)
        if what < 2:
            made.append(kernel(f"k{index}", "w", "y"))
        elif what == 2 and flying:
            made.append(Wait(flying.pop(random.randrange(len(flying)))))
        else:
            blocking = random.random() < 0.5
            group = random.choice(groups).name
            made.append(Collective(f"c{index}", "allreduce", group, "ring", f"c{index}", 4, blocking))
            flying += [] if blocking else [f"c{index}"]
    made += [Wait(name) for name in flying]
    sums = tuple(Buffer(i.name, tensor("f32"), "constant") for i in made if isinstance(i, Collective))
    buffers = (
        Buffer("w", tensor("f32"), "weight"),
        Buffer("y", tensor("f32", batch=3 * ranks), "activation"),
        *sums,
    )
    role = Role(
        "worker",
        tuple(range(ranks)),
        shards(random.randrange(ranks, 3 * ranks), ranks),
        buffers,
        (Segment("all", tuple(made)),),
        (Entry("train_step", (Row("all"),)),),
    )
    batch = role.shards[-1][1]
    program = Program("drawn", batch, "f32", (role,), groups)
    return split_in_two(program) if ranks > 1 and random.random() < 0.5 else program


def times(found: Timeline) -> dict[int, list[tuple[str, str, float, float]]]:
    """Rank -> its events."""
    return {rank: spans(lane) for lane in found.lanes for rank in lane.ranks.ranks}


@pytest.mark.parametrize("overlap", [0.0, 0.5, 1.0])
def test_folded_is_unfolded_on_drawn_programs(overlap: float) -> None:
    folded_somewhere = 0
    for seed in range(120):
        program = drawn_program(Random(seed))
        assert check(program) == ()
        price = drawn_price(seed)
        one = simulate(program, "train_step", price, overlap)
        each = simulate(program, "train_step", price, overlap, folded=False)
        assert one.makespan == each.makespan
        assert times(one) == times(each)
        assert one.bubble == pytest.approx(each.bubble, abs=1e-12)
        folded_somewhere += len(one.lanes) < len(each.lanes)
    assert folded_somewhere > 50


@pytest.mark.parametrize(
    "program",
    [
        data_parallel(7, 30),
        data_parallel(8, 30, overlap=True),
        split_in_two(data_parallel(6, 20, overlap=True)),
        pipeline(3, 4, 3, batch=24),
        pipeline(4, 5, 2, batch=25),
    ],
    ids=["uneven", "overlapped", "two roles", "pipelines", "uneven pipelines"],
)
def test_folded_is_unfolded(program: Program) -> None:
    for seed in range(10):
        one = simulate(program, "train_step", drawn_price(seed), 0.4)
        each = simulate(program, "train_step", drawn_price(seed), 0.4, folded=False)
        assert times(one) == times(each)


def test_no_stream_is_busier_than_the_makespan_and_none_does_two_things_at_once() -> None:
    for seed in range(60):
        program = drawn_program(Random(seed))
        found = simulate(program, "train_step", drawn_price(seed), Random(seed).random())
        for lane in found.lanes:
            assert all(stream.busy <= found.makespan * (1 + 1e-12) for stream in lane.streams)
            for stream in lane.streams:
                ran = sorted((e.start, e.end) for e in lane.events if e.stream == stream.name)
                assert all(a[1] <= b[0] + 1e-9 for a, b in pairwise(ran))


def test_the_makespan_is_no_shorter_than_the_critical_path() -> None:
    """Of blocking collectives over all ranks: between any two, the slowest rank; each collective once."""
    for seed in range(30):
        program, price = data_parallel(5, 23), drawn_price(seed)
        (role,) = program.roles
        path, pending = 0.0, [0.0] * len(role.ranks)
        order = [i for row in role.entries[0].schedule for i in role.segment(row.segment).instructions]
        for instruction in order:
            if isinstance(instruction, Collective):
                path += max(pending) + price(instruction, role, 0)
                pending = [0.0] * len(role.ranks)
            else:
                pending = [p + price(instruction, role, b - a) for p, (a, b) in zip(pending, role.shards, strict=True)]
        found = simulate(program, "train_step", price)
        assert found.makespan == pytest.approx(path + max(pending), rel=1e-12)


def test_overlap_never_costs() -> None:
    for seed in range(40):
        program, price = drawn_program(Random(seed)), drawn_price(seed)
        spans_ = [simulate(program, "train_step", price, overlap).makespan for overlap in (0.0, 0.25, 0.75, 1.0)]
        assert all(more >= less * (1 - 1e-12) for more, less in pairwise(spans_))


def test_many_ranks_are_as_few_as_their_kinds() -> None:
    assert len(fold(data_parallel(2000, 20000))) == 1
    assert len(fold(data_parallel(2000, 20001))) == 2
    assert len(fold(pipeline(4, 2, 50, batch=100))) == 4


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


# --- traces and default prices --------------------------------------------------------------------------------------


def test_the_trace_is_what_chrome_reads() -> None:
    found = simulate(pipeline(2, 2, batch=8), "train_step", passes(1.0, 2.0))
    trace = json.loads(json.dumps(to_trace(found)))
    slices = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert len(slices) == sum(len(lane.events) for lane in found.lanes)
    assert max(event["ts"] + event["dur"] for event in slices) == pytest.approx(found.makespan * 1e6)
    assert {"load", "compute", "send", "receive", "collective"} == {event["cat"] for event in slices}
    names = [event["args"]["name"] for event in trace["traceEvents"] if event["name"] == "process_name"]
    assert names == ["stage0, rank 0", "stage1, rank 1"]
    assert all(sum(event["args"].values()) > 0 for event in trace["traceEvents"] if event["ph"] == "C")


def laptop(ranks: int) -> Cluster:
    core = Device("core", memory=2**30, bandwidth=1e10, compute=(("f32", 1e11),))
    wire = Link("wire", bandwidth=1e9, latency=1e-6)
    return Cluster("laptop", (core,), (wire,), (Group("core", ranks, "wire", device="core"),))


def test_default_prices_are_the_cost_models() -> None:
    program, cluster = pipeline(2, 2, 2), laptop(4)
    price, role = default_price(program, cluster), program.roles[0]
    (send,) = (i for i in role.segment("forward").instructions if isinstance(i, Send))
    assert price(send, role, 3) == 1e-6 + 3 * 4 * 4 / 1e9
    (collective,) = (i for i in role.segment("update").instructions if isinstance(i, Collective))
    device = cluster.device("core")
    assert price(collective, role, 3) == collective_seconds("ring", 64, (0, 1), cluster, processing(device))
    assert price(Wait("x"), role, 3) == 0.0


def test_default_prices_of_kernels_grow_with_the_samples() -> None:
    x, w = tensor("f32", batch=1000, feature=64), tensor("f32", out=32, **{"in": 64})
    call = Compute("l.linear", ("linear", "forward", ""), ("x", "w"), ("y",), attrs=(("features", 32), ("bias", False)))
    program = one_segment([call], ranks=1)
    more = (
        Buffer("x", x, "activation"),
        Buffer("y", tensor("f32", batch=1000, feature=32), "activation"),
        Buffer("weight", w, "weight"),
    )
    role = replace(program.roles[0], buffers=(*(b for b in program.roles[0].buffers if b.name != "w"), *more))
    program = with_segment(with_role(program, role), "all", [replace(call, inputs=("x", "weight"))])
    price = default_price(program, laptop(1))
    (call,) = (i for i in program.roles[0].segments[0].instructions if isinstance(i, Compute))
    few, many = price(call, program.roles[0], 10), price(call, program.roles[0], 1000)
    assert 0 < few < many < 1000 * few
    assert many > 2 * 1000 * 64 * 32 / 1e11
