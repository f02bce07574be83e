"""Moves of arrays on meshes: on virtual ranks, whose messages wait for nobody or for their receiver, and under MPI."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from backends.numpy_mpi import runtime
from backends.numpy_mpi.runtime.data import Column, Samples
from backends.numpy_mpi.runtime.failures import ProgramError
from backends.numpy_mpi.runtime.thread_world import run_threads
from backends.numpy_mpi.runtime.world import Serial, World
from tests.runtime.conftest import start
from tests.runtime.programs.place_check import CHECKS

SEEDS = range(36)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_on_threads(check: Any, seed: int) -> None:
    ranks = (2, 3, 4, 5, 6, 8)[seed % 6]
    run_threads(lambda world: check(runtime, world, seed), ranks, rendezvous=seed % 2 == 0)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_alone(check: Any) -> None:
    check(runtime, Serial(), 1)


@pytest.mark.mpi
@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_under_mpi(ranks: int) -> None:
    run = start("place_cases.py", ranks, "0", "12")
    assert run.status == 0, run.errors
    assert run.output == "done\n"


def test_moves_allocate_nothing_once_they_have_been_made() -> None:
    """Neither messages nor sums: only small objects come and go."""
    size = 200_000

    def main(world: World) -> tuple[int, int]:
        place = runtime.Place(world, {"data": 2, "model": 2}, batch=8)
        halo = runtime.Halo(axis=1, results=400, before=1, after=1)
        table = {
            "x": runtime.Array("300 400/model"), "whole": runtime.Array("300 400"), "t": runtime.Array("300/model 400"),
            "wide": runtime.Array("300 400/model", halo=halo), "b": runtime.Array(str(size)),
            "part": runtime.Array(f"{size}/data"),
        }  # fmt: skip
        a = runtime.Arrays(table, place, "f8").at()

        def step() -> None:
            place.allgather(a.x, a.whole, over="model")
            place.all_to_all(a.x, a.t, over="model")
            place.halo(a.x, a.wide, over="model")
            place.halo_sum(a.wide, a.x, over="model")
            place.allreduce(a.b, over="data+model", algorithm="ring", begin=True)
            place.wait(a.b)
            place.reduce_scatter(a.b, a.part, over="data")
            place.allreduce(a.b[::2], over="data", algorithm="butterfly")

        for _ in range(3):
            step()
        world.barrier()
        held = place.traffic.pool.bytes
        tracemalloc.start()
        step()
        peak = tracemalloc.get_traced_memory()[1]
        world.barrier()
        tracemalloc.stop()
        return place.traffic.pool.bytes - held, peak

    found = run_threads(main, 4, rendezvous=True)  # without, messages are copied for who has not asked for them yet
    assert [grown for grown, _ in found] == [0] * 4
    assert max(peak for _, peak in found) < size


def test_samples_of_a_microbatch() -> None:
    values = np.arange(7 * 6, dtype=np.uint8).reshape(7, 3, 2)

    def main(world: World) -> None:
        place = runtime.Place(world, {"data": 2, "model": 2}, batch=8, microbatches=2)
        samples = Samples({"image": Column(values, 2.0), "label": Column(np.arange(7))}, "a test")
        loader = runtime.Loader(samples, 7, shuffle=False)
        table = {"image": runtime.Array("N/data 3/model 2"), "label": runtime.Array("N/data", dtype=np.int64)}
        arrays = runtime.Arrays(table, place, "f8", slots=2)
        ats = place.batch(loader, np.arange(7)[::-1], step=3, lr=0.5)
        assert [(at.count, at.samples, at.first, at.step, at.lr) for at in ats] == [
            (7, 4, 0, 3, 0.5),
            (7, 3, 4, 3, 0.5),
        ]
        assert [at.position("data") for at in ats] == [2 * place.index("data"), 4 + 2 * place.index("data")]
        assert ats[1].position() == 4
        for slot, at in enumerate(ats):
            a = arrays.at(at.samples, slot)
            place.fill(at, {"image": a.image, "label": a.label})
            mine = np.arange(7)[::-1][at.first : at.first + at.samples][2 * place.index("data") :][:2]
            assert a.label.tolist() == mine.tolist()
            rows = (slice(0, 2), slice(2, 3))[place.index("model")]
            assert np.array_equal(a.image, values[mine][:, rows] / 2)

    run_threads(main, 4)


def test_a_batch_of_fewer_samples_than_ranks() -> None:
    def main(world: World) -> list[int]:
        place = runtime.Place(world, {"data": 3}, batch=6, microbatches=2)
        return [at.samples for at in place.batch(None, np.arange(2))]

    assert run_threads(main, 3) == [[2, 0]] * 3


def test_where_parts_begin() -> None:
    def main(world: World) -> Any:
        place = runtime.Place(world, {"data": 2, "model": 2}, batch=4)
        table = {"x": runtime.Array("5/model 3 N/data 2"), "w": runtime.Array("7/model")}
        a = runtime.Arrays(table, place, "f8").at(4)
        a.w[...] = 1
        return place.origin(a.x, a.w, layout="CHNW"), float(place.once(a.w, "model").sum())

    start = ((0, 2), (0, 5), (0, 3), (0, 2))
    behind = ((0, 2), (3, 5), (0, 3), (0, 2))
    assert run_threads(main, 4) == [((start, ((0, 7),)), 4.0), ((behind, ((4, 7),)), 0.0)] * 2


def test_outputs_of_all_batches_come_to_rank_0() -> None:
    def main(world: World) -> list[Any] | None:
        place = runtime.Place(world, {"pipeline": 2, "data": 2}, batch=4)
        arrays = runtime.Arrays({"y": runtime.Array("N/data 2")}, place, "f4")
        rows: dict[str, list[Any]] = {"y": [], "of the first stage": []}
        for samples in (4, 3, 1):
            y = arrays.at(samples).y
            y[...] = samples * 10 + place.number
            rows["y" if place.stage else "of the first stage"].append(place.gather(y))
        found = place.collect(rows)
        return None if found is None else [found["y"][:, 1].tolist(), found["of the first stage"].shape]

    assert run_threads(main, 4) == [[[40, 40, 41, 41, 30, 30, 31, 10], (8, 2)], None, None, None]


def test_a_bucket_stands_for_its_members() -> None:
    def main(world: World) -> None:
        place = runtime.Place(world, {"data": 2}, batch=4)
        table = {
            "bucket": runtime.Array("12"),
            "v": runtime.View("bucket", "3", offset=9), "w": runtime.View("bucket", "3 3"),
            "w_part": runtime.Part("w", "3/data 3"), "v_part": runtime.Part("v", "3/data"),
            "shards": runtime.Array("12"), "v_shard": runtime.View("shards", "3/data", offset=6),
            "w_shard": runtime.View("shards", "3/data 3"),
        }  # fmt: skip
        g = runtime.Arrays(table, place, "f8").at()
        g.bucket[...] = np.arange(12) + world.rank
        whole = 2 * np.arange(12) + 1
        place.reduce_scatter(g.bucket, g.shards, over="data")
        rows = slice(0, 2) if world.rank == 0 else slice(2, 3)
        assert np.array_equal(g.w_shard, whole[:9].reshape(3, 3)[rows])
        assert np.array_equal(g.v_shard, whole[9:][rows])
        place.reduce_scatter(g.bucket, over="data", begin=True)
        place.wait(g.bucket)
        assert np.array_equal(g.w_part, g.w_shard)
        assert np.array_equal(g.v_part, g.v_shard)
        place.allgather(g.bucket, over="data")
        assert np.array_equal(g.bucket, whole)
        g.bucket.fill(0)
        place.allgather(g.shards, g.bucket, over="data")
        assert np.array_equal(g.bucket, whole)

    run_threads(main, 2)


@pytest.mark.parametrize(
    ("move", "source", "target", "message"),
    [
        ("allgather", "4/data+model", "4/model", "the ranks do not hold all of `y`, which is to be made of `x`"),
        ("reduce_scatter", "4/model 2", "4 2/model", "the ranks do not hold all of `y`, which is to be made of `x`"),
        ("reduce_scatter", "4", "4/data", "several ranks want the same sums in `y`"),
    ],
)
def test_moves_that_ranks_cannot_make_are_refused(move: str, source: str, target: str, message: str) -> None:
    def main(world: World) -> None:
        place = runtime.Place(world, {"data": 2, "model": 2}, batch=4)
        a = runtime.Arrays({"x": runtime.Array(source), "y": runtime.Array(target)}, place, "f8").at()
        getattr(place, move)(a.x, a.y, over="model")

    with pytest.raises(ValueError, match=message):
        run_threads(main, 4)


def test_arrays_of_no_table_cannot_be_moved() -> None:
    place = runtime.Place(Serial(), {"data": 1}, batch=4)
    with pytest.raises(ValueError, match=r"an array of shape \(2,\) is none of those of a table"):
        place.allgather(np.zeros(2), np.zeros(2), over="data")


def test_a_mesh_has_as_many_ranks_as_the_job() -> None:
    with pytest.raises(ValueError, match=r"1 ranks are no mesh of \{'data': 3\}"):
        runtime.Place(Serial(), {"data": 3}, batch=4)


def test_a_rank_that_does_not_come_is_named_by_who_waits() -> None:
    def main(world: World) -> None:
        place = runtime.Place(world, {"data": 2, "model": 2}, batch=4)
        b = runtime.Arrays({"b": runtime.Array("9")}, place, "f8").at().b
        if world.rank != 3:
            place.allreduce(b, over="data", algorithm="ring")

    with pytest.raises(ProgramError, match="all ranks wait for ever") as failure:
        run_threads(main, 4)
    assert failure.value.notes == ("rank 1 waits in `allreduce of `b` over data`", "ranks that have ended: [0, 2, 3]")


def test_sixty_four_ranks() -> None:
    def main(world: World) -> float:
        place = runtime.Place(world, {"pipeline": 2, "data": 4, "model": 8}, batch=16)
        table = {"x": runtime.Array("N/data 24/model"), "y": runtime.Array("N/data 24"), "b": runtime.Array("100")}
        a = runtime.Arrays(table, place, "f8").at(16)
        for _ in range(3):
            a.x[...] = place.index("model")
            a.b[...] = 1
            place.allreduce(a.b, over="data+model", begin=True)
            if place.stage:
                place.receive(a.x, source=-1, name="x")
            place.allgather(a.x, a.y, over="model")
            if not place.stage:
                place.send(a.x, to=1, name="x")
                place.sent(a.x)
            place.wait(a.b)
            assert np.array_equal(a.y, np.repeat(np.arange(8.0), 3)[None].repeat(4, 0))
        return float(a.b.sum())

    assert run_threads(main, 64, rendezvous=True) == [3200.0] * 64
