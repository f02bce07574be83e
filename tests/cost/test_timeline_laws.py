"""The simulator on drawn programs: what holds of every timeline, and each rank by itself gives the same."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from dlc.cost.timeline import Timeline, simulate
from dlc.ir.check import check
from dlc.ir.program import Buffer, Collective, CommunicationGroup, Entry, Instruction, Program, Role, Row, Segment, Wait
from dlc.ir.ranks import fold
from dlc.ir.tensor import tensor
from tests.cost.timelines import drawn_price, spans
from tests.ir.sample_programs import data_parallel, kernel, pipeline, shards, split_in_two


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
