"""Folded and taken in stretches, a timeline is what it is rank by rank and instruction by instruction: exactly."""

from __future__ import annotations

from random import Random

import pytest

from dlc.cluster.topology import Cluster, Device, Group, Link
from dlc.cost.price import default_price
from dlc.cost.timeline import Lane, Timeline, simulate
from dlc.ir.execution import Price
from dlc.ir.program import Instruction, Program, Role
from tests.cost.timelines import drawn_price
from tests.ir.staged_programs import Shape, drawn_shape, staged
from tests.slices import first

CASES, SHARES = 320, 8


def figures(lane: Lane) -> tuple[object, ...]:
    return (lane.end, {stream.name: stream.busy for stream in lane.streams}, lane.exposed, lane.peak, lane.memory)


def spans(lane: Lane) -> list[tuple[object, ...]]:
    return [(e.stream, e.name, e.start, e.end, e.step, e.microbatch) for e in lane.events]


def same(one: Timeline, each: Timeline, events: bool) -> None:
    """Every rank has the figures of its class, to the last bit."""
    assert one.makespan == each.makespan
    assert one.bubble == pytest.approx(each.bubble, abs=1e-12)
    lanes = {rank: lane for lane in one.lanes for rank in lane.ranks.ranks}
    for lane in each.lanes:
        (rank,) = lane.ranks.ranks
        assert figures(lanes[rank]) == figures(lane)
        if events:
            assert spans(lanes[rank]) == spans(lane)
    for role, other in zip(one.roles, each.roles, strict=True):
        assert (role.role, role.ranks, role.peak_bytes) == (other.role, other.ranks, other.peak_bytes)
        assert (role.bubble, role.exposed) == pytest.approx((other.bubble, other.exposed), abs=1e-12)


def both(program: Program, price: Price, overlap: float, slowdown: dict[int, float]) -> tuple[Timeline, Timeline]:
    one = simulate(program, "train_step", price, overlap, slowdown=slowdown)
    return one, simulate(program, "train_step", price, overlap, folded=False, slowdown=slowdown)


def thirds(seed: int) -> Price:
    """Seconds that no binary fraction is equal to, so that sums would depend on their order."""
    base = drawn_price(seed)

    def price(instruction: Instruction, role: Role, samples: int) -> float:
        return base(instruction, role, samples) * 1e-4 / 3

    return price


@pytest.mark.parametrize("share", first(3, range(SHARES)))
def test_drawn_pipelines(share: int) -> None:
    """Stages, schedules, blocking and non-blocking messages and collectives, uneven shards, stragglers, any overlap."""
    folded = collapsed = 0
    for seed in range(share, CASES, SHARES):
        random = Random(seed)
        program = staged(drawn_shape(random), meshes=False)
        slow = random.random() < 0.5
        slowdown = {rank: random.choice((1.5, 2.0)) for rank in range(program.ranks) if slow and random.random() < 0.03}
        one, each = both(program, thirds(seed), random.choice((0.0, 1.0, random.random())), slowdown)
        same(one, each, events=seed % 5 == 0)
        folded += len(one.lanes) < len(each.lanes)
        runs = (run for lane in one.lanes for run in lane.history.runs)
        collapsed += any(len(run.history.names) > 1 for run in runs)  # communication of its own among its kernels
    assert folded > 15
    assert collapsed > 15


def two_speeds() -> Cluster:
    """Machines of three fast and two slow devices, in that order."""
    fast = Device("fast", memory=2**30, bandwidth=1e10, compute=(("f32", 1e11),))
    slow = Device("slow", memory=2**30, bandwidth=5e9, compute=(("f32", 3e10),))
    links = (Link("bus", 1e10, 1e-6), Link("net", 1e9, 1e-5))
    inside = (Group("f", 3, "bus", device="fast"), Group("s", 2, "bus", device="slow"))
    return Cluster("mixed", (fast, slow), links, (Group("machine", 13, "net", inside),))


def test_devices_of_two_speeds() -> None:
    """Each rank at the price of its own device, and those of one device folded."""
    cluster, folded = two_speeds(), 0
    for seed in range(20):
        random = Random(1000 + seed)
        program = staged(drawn_shape(random, 24), meshes=False)
        price = default_price(program, cluster)
        one, each = both(program, price, random.random(), {0: 1.25} if seed % 2 else {})
        same(one, each, events=False)
        assert all(len({price.devices[rank] for rank in lane.ranks.ranks}) == 1 for lane in one.lanes)
        folded += len(one.lanes) < len(each.lanes)
    assert folded >= 5


def test_the_slower_device_takes_longer() -> None:
    program = staged(Shape(1, 5, 1, 1, (1,), 2, 5, 64), meshes=False)
    timeline = simulate(program, "train_step", default_price(program, two_speeds()))
    fast, slow = timeline.lanes
    assert (fast.ranks.ranks, slow.ranks.ranks) == ((0, 1, 2), (3, 4))
    assert slow.stream("compute").busy > 1.5 * fast.stream("compute").busy
    assert fast.end == slow.end


def test_a_straggler_holds_up_who_waits_for_it() -> None:
    program = staged(Shape(1, 4, 1, 1, (2,), 2, 4), meshes=False)
    even = simulate(program, "train_step", drawn_price(1))
    late = simulate(program, "train_step", drawn_price(1), slowdown={2: 3.0})
    assert [lane.ranks.ranks for lane in even.lanes] == [(0, 1, 2, 3)]
    assert [lane.ranks.ranks for lane in late.lanes] == [(0, 1, 3), (2,)]
    (others, straggler) = late.lanes
    assert straggler.stream("compute").busy == 3 * others.stream("compute").busy
    assert late.makespan > 2 * even.makespan
