"""What computing hides of communication, and the bound on it."""

from __future__ import annotations

import random

import pytest

from dlc.cluster.collectives import seconds
from dlc.cluster.topology import Cluster, Device, Group, Link
from dlc.cost.communication import Transfer, allreduce_bound, exposed, processing
from dlc.cost.memory import bytes_by_kind, peak_bytes
from dlc.ir.program import Buffer, Program, Role
from dlc.ir.tensor import tensor

CORE = Device("core", bandwidth=1e10, compute=(("f32", 5e10),))
LAPTOP = Cluster("laptop", (CORE,), (Link("shm", 8e9, 1e-6),), (Group("core", 4, "shm", device="core"),))


def test_nothing_is_hidden_without_overlap() -> None:
    assert exposed([Transfer(0.2, 1.0), Transfer(0.9, 2.0)], backward=1.0, overlap=0.0) == 3.0


def test_what_is_ready_early_is_hidden() -> None:
    assert exposed([Transfer(0.2, 0.5)], backward=1.0, overlap=1.0) == 0.0
    assert exposed([Transfer(0.8, 0.5)], backward=1.0, overlap=1.0) == pytest.approx(0.3)
    assert exposed([Transfer(0.2, 0.5), Transfer(0.8, 0.5)], backward=1.0, overlap=1.0) == pytest.approx(0.3)
    assert exposed([Transfer(0.2, 1.0)], backward=1.0, overlap=0.5) == pytest.approx(0.6)
    assert exposed([], 1.0, 1.0) == 0.0


def step_by_step(transfers: list[Transfer], backward: float, overlap: float, steps: int = 20000) -> float:
    """The same by small steps of time: one transfer at a time, at the rate of the moment."""
    left = [t.seconds for t in transfers]
    total, current = backward + sum(left) + 1.0, 0
    for i in range(steps):
        now = i * total / steps
        if current < len(transfers) and now >= transfers[current].ready:
            left[current] -= total / steps * (overlap if now < backward else 1.0)
            current += left[current] <= 0
        if current == len(transfers):
            return max(0.0, now - backward)
    raise AssertionError("never done")


@pytest.mark.parametrize("seed", range(20))
def test_exposed_time_by_small_steps(seed: int) -> None:
    rng = random.Random(seed)
    ready = sorted(rng.uniform(0, 1) for _ in range(rng.randint(1, 4)))
    transfers = [Transfer(at, rng.uniform(0, 0.6)) for at in ready]
    overlap = rng.choice((0.0, 0.3, 1.0))
    assert exposed(transfers, 1.0, overlap) == pytest.approx(step_by_step(transfers, 1.0, overlap), abs=2e-3)


@pytest.mark.parametrize("seed", range(20))
def test_a_longer_backward_pass_never_pays(seed: int) -> None:
    """Why layouts may be chosen for compute and conversions alone: t more to hide behind hides at most t more."""
    rng = random.Random(seed)
    transfers = [Transfer(rng.uniform(0, 1), rng.uniform(0, 1)) for _ in range(3)]
    for overlap in (0.0, 0.5, 1.0):
        for longer in (0.01, 0.5):
            later = exposed(transfers, 1.0 + longer, overlap)
            assert exposed(transfers, 1.0, overlap) - later <= longer + 1e-12


def test_the_bound_is_below_every_algorithm() -> None:
    for ranks in (2, 3, 4):
        everyone = tuple(range(ranks))
        for size in (16.0, 1e4, 1e7):
            bound = allreduce_bound(size, everyone, LAPTOP, CORE)
            for name in ("tree", "butterfly", "ring", "rabenseifner", "shared", "mpi"):
                assert seconds(name, size, everyone, LAPTOP, processing(CORE)) >= bound


def test_peak_counts_the_largest_shard_and_no_views() -> None:
    x = tensor("f32", batch=10, feature=3)
    buffers = (
        Buffer("x", x, "input"),
        Buffer("y", x, "activation"),
        Buffer("flat", x, "activation", view_of="y"),
        Buffer("w", tensor("f32", out=5), "weight"),
        Buffer("arena", tensor("u8", byte=64), "workspace"),
    )
    role = Role("worker", (0, 1, 2), ((0, 4), (4, 7), (7, 10)), buffers, (), ())
    program = Program("net", 10, "f32", (role,), ())
    assert bytes_by_kind(program) == {"input": 48, "activation": 48, "weight": 20, "workspace": 64}
    assert peak_bytes(program) == 180
