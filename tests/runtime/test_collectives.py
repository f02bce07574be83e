"""Every allreduce algorithm gives NumPy's sum, and the same bits on all ranks: on threads, and under MPI."""

from typing import Any

import numpy as np
import pytest

from backends.numpy_mpi.runtime.collectives import ALGORITHMS, SHARED_CHUNK, scratch_elements
from backends.numpy_mpi.runtime.failures import ProgramError
from backends.numpy_mpi.runtime.thread_world import run_threads
from backends.numpy_mpi.runtime.world import Serial, World
from tests.runtime.conftest import start
from tests.runtime.programs.allreduce_check import ALGORITHMS as CHECKED
from tests.runtime.programs.allreduce_check import check_world


def test_all_algorithms_are_checked() -> None:
    assert tuple(ALGORITHMS) == CHECKED


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 5, 6, 7, 8, 11, 16])
def test_allreduce_on_threads(ranks: int) -> None:
    lengths = (0, 1, 2, 3, 7, 17, 1000)
    counts = run_threads(lambda world: check_world(world, lengths=lengths), ranks)
    assert counts == [len(CHECKED) * len(lengths) * 2] * ranks


@pytest.mark.parametrize("ranks", [2, 3])
def test_shared_slices_of_several_chunks(ranks: int) -> None:
    run_threads(lambda world: check_world(world, ("shared",), (5 * SHARED_CHUNK + 13,)), ranks)


@pytest.mark.mpi
@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 5])
def test_allreduce_under_mpi(ranks: int) -> None:
    run = start("allreduce_cases.py", ranks)
    assert run.status == 0, run.errors
    assert run.output == f"84 cases on {ranks} ranks\n"


@pytest.mark.parametrize("algorithm", ["tree", "butterfly", "rabenseifner", "ring"])
@pytest.mark.parametrize("ranks", [2, 3, 4, 6, 8])
def test_messages_and_bytes_are_those_of_the_cost_formula(algorithm: str, ranks: int) -> None:
    """What the busiest rank sends between folding and unfolding, as collectives.py's docstrings say."""
    elements = 240

    def count(world: World) -> tuple[int, int]:
        sent: list[int] = []
        send, exchange = world.send, world.exchange

        def counted_send(array: Any, to: int, name: str = "") -> None:
            sent.append(array.size)
            send(array, to, name)

        def counted_exchange(array: Any, to: int, received: Any, source: int, name: str = "") -> None:
            sent.append(array.size)
            exchange(array, to, received, source, name)

        world.exchange = counted_exchange  # type: ignore[method-assign]
        if algorithm == "tree":
            world.send = counted_send  # type: ignore[method-assign]
        bucket = world.bucket("counted", elements, "float64", algorithm)
        world.allreduce(bucket, algorithm, "counted")
        return len(sent), sum(sent)

    messages, values = max(run_threads(count, ranks))
    core = ranks.bit_length() - 1
    expected = {
        "tree": ((ranks - 1).bit_length(), elements * (ranks - 1).bit_length()),
        "butterfly": (core, elements * core),
        "rabenseifner": (2 * core, 2 * elements * (2**core - 1) // 2**core),
        "ring": (2 * (ranks - 1), 2 * (ranks - 1) * elements // ranks),
    }
    assert (messages, values) == expected[algorithm]


@pytest.mark.parametrize("algorithm", CHECKED)
def test_the_order_of_additions_depends_on_the_ranks_only(algorithm: str) -> None:
    """Two runs on threads, which race differently, give the same bits."""

    def run() -> bytes:
        def main(world: World) -> bytes:
            values = world.bucket("b", 1001, "float32", algorithm)
            values[:] = np.random.Generator(np.random.Philox(key=[world.rank, 1])).standard_normal(1001)
            world.allreduce(values, algorithm, "b")
            return bytes(values.tobytes())

        return run_threads(main, 5)[0]

    assert run() == run()


def test_a_serial_world_sums_nothing() -> None:
    world = Serial()
    for algorithm in ALGORITHMS:
        values = world.bucket(algorithm, 3, "float32", algorithm)
        values[:] = [1, 2, 3]
        world.allreduce(values, algorithm, algorithm)
        assert values.tolist() == [1, 2, 3]
        assert scratch_elements(algorithm, 1, 3) == 0


def test_unknown_algorithm() -> None:
    with pytest.raises(ValueError, match="'star' is none of tree, butterfly, ring, rabenseifner, shared, mpi"):
        Serial().bucket("b", 1, "float32", "star")


def test_arrays_without_a_bucket_are_summed_too() -> None:
    def main(world: World) -> list[list[float]]:
        array = np.full((2, 3), float(world.rank))
        world.allreduce(array, "ring", "loose")
        return array.tolist()  # type: ignore[no-any-return]

    assert run_threads(main, 3) == [[[3.0] * 3] * 2] * 3


def test_arrays_with_gaps_are_refused() -> None:
    def main(world: World) -> None:
        world.allreduce(np.zeros((4, 4))[:, 1], "ring", "gaps")

    with pytest.raises(ValueError, match="must be contiguous"):
        run_threads(main, 2)


def test_ranks_that_disagree_about_a_size_are_told() -> None:
    def main(world: World) -> None:
        world.allreduce(np.zeros(3 + world.rank), "butterfly", "odd")

    with pytest.raises(ProgramError, match=r"`odd`: rank . sent .. bytes, .. were expected"):
        run_threads(main, 2)
