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


def test_a_stall_names_who_is_missing() -> None:
    def main(world: World) -> None:
        if world.rank != 2:
            world.barrier("the gate")

    with pytest.raises(ProgramError, match=r"has waited 0.2 s in `the gate`") as failure:
        run_threads(main, 3, stall_seconds=0.2)
    assert failure.value.notes == ("ranks not in it: [2]",)


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
