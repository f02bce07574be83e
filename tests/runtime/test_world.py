"""Small values, rows, messages and stalls: on virtual ranks, alone, and under MPI."""

from typing import Any

import numpy as np
import pytest

from backends.numpy_mpi.runtime.failures import ProgramError
from backends.numpy_mpi.runtime.position import Position
from backends.numpy_mpi.runtime.thread_world import run_threads
from backends.numpy_mpi.runtime.world import Serial, World
from tests.runtime.conftest import start


@pytest.mark.parametrize("ranks", [1, 2, 5])
@pytest.mark.parametrize("value", [None, 3, [1, "two", {"three": 3.5}], b"\x00bytes", "ü"])
def test_bcast(ranks: int, value: Any) -> None:
    assert run_threads(lambda world: world.bcast(value if world.rank == 0 else "other"), ranks) == [value] * ranks


@pytest.mark.parametrize("root", [0, 1, 2])
def test_gather(root: int) -> None:
    gathered = run_threads(lambda world: world.gather(world.rank * 2, root), 3)
    assert gathered[root] == [0, 2, 4]
    assert gathered.count(None) == 2


def test_allgather() -> None:
    assert run_threads(lambda world: world.allgather(world.rank), 4) == [[0, 1, 2, 3]] * 4


@pytest.mark.parametrize("root", range(5))
def test_broadcast(root: int) -> None:
    def main(world: World) -> float:
        array = np.full((2, 2), float(world.rank))
        world.broadcast(array, root)
        return float(array.sum())

    assert run_threads(main, 5) == [4.0 * root] * 5


@pytest.mark.parametrize("counts", [(2, 1, 1), (1, 0, 0), (0, 0, 0), (3, 3, 0)])
def test_gather_rows(counts: tuple[int, ...]) -> None:
    def main(world: World) -> Any:
        start = sum(counts[: world.rank])
        rows = np.arange(12.0).reshape(6, 2)[start : start + counts[world.rank]]
        gathered = world.gather_rows(rows, counts)
        return None if gathered is None else gathered.tolist()

    expected = np.arange(12.0).reshape(6, 2)[: sum(counts)].tolist()
    assert run_threads(main, 3) == [expected, None, None]


def test_serial_gather_rows() -> None:
    assert Serial().gather_rows(np.eye(2), (2,)).tolist() == [[1, 0], [0, 1]]  # type: ignore[union-attr]


def test_a_failure_ends_all_threads() -> None:
    def main(world: World) -> None:
        if world.rank == 1:
            raise ArithmeticError("cursed")
        world.barrier()

    with pytest.raises(ArithmeticError, match="cursed"):
        run_threads(main, 4)


def test_a_deadlock_says_at_once_who_waits_for_what() -> None:
    def main(world: World) -> None:
        if world.rank == 0:
            world.receive(np.zeros(1), 1, "a reply")
        elif world.rank != 2:
            world.barrier("the gate")

    with pytest.raises(ProgramError, match="all ranks wait for ever") as failure:
        run_threads(main, 4)
    assert failure.value.notes == (
        "rank 0 waits in receive `a reply` from rank 1",
        "rank 1 waits in `the gate`",
        "rank 3 waits in `the gate`",
        "ranks that have ended: [2]",
    )


def test_who_sends_before_receiving_waits_for_ever_by_rendezvous_alone() -> None:
    def main(world: World) -> float:
        received = np.zeros(1)
        world.send(np.full(1, float(world.rank)), 1 - world.rank, "greeting")
        world.receive(received, 1 - world.rank, "greeting")
        return float(received[0])

    assert run_threads(main, 2) == [1.0, 0.0]
    with pytest.raises(ProgramError) as failure:
        run_threads(main, 2, rendezvous=True)
    assert failure.value.notes[0] == "rank 0 waits in send `greeting` to rank 1"


def test_many_virtual_ranks_take_turns_in_the_same_order_every_time() -> None:
    def run() -> list[tuple[int, float]]:
        order: list[tuple[int, float]] = []

        def main(world: World) -> None:
            value = np.full(1, float(world.rank))
            for round_ in range(6):
                world.exchange(value.copy(), world.rank ^ 1 << round_, value, world.rank ^ 1 << round_, "swap")
                order.append((world.rank, float(value[0])))

        run_threads(main, 64)
        return order

    assert run() == run()


def test_position() -> None:
    position = Position()
    assert str(position.read()) == "before the first step, starting"
    position.at(3, "computing")
    assert str(position.read()) == "in step 3, computing"
    with position.waiting("allreduce `b0`"), position.waiting("barrier"):
        assert str(position.read()) == "in step 3, waiting in allreduce `b0`"
    assert str(position.read()) == "in step 3, computing"
    position.at(4, "ü" * 100)
    assert position.read().step == 4


@pytest.mark.mpi
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_the_same_under_mpi(ranks: int) -> None:
    run = start("world_cases.py", ranks)
    assert run.status == 0, run.errors
    assert run.output == "done\n"
