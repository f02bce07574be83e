"""Tables of arrays: specs, views, parts, slots; schedules as text."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from backends.numpy_mpi.runtime import (
    Array,
    Arrays,
    Bucket,
    Halo,
    Member,
    N,
    Part,
    Place,
    Scratch,
    Serial,
    Temporary,
    View,
    found,
    run_threads,
)
from backends.numpy_mpi.runtime.memory import share
from backends.numpy_mpi.runtime.schedule import rows
from backends.numpy_mpi.runtime.spec import Grid, blocks, parse, shard, spec_of
from backends.numpy_mpi.runtime.tables import Row
from backends.numpy_mpi.runtime.world import World

GRID = Grid((("data", 2), ("model", 3)), 10)


def test_shards_differ_by_one_the_larger_ones_first() -> None:
    assert [shard(8, 3, index) for index in range(3)] == [(0, 3), (3, 6), (6, 8)]
    assert [shard(2, 3, index) for index in range(3)] == [(0, 1), (1, 2), (2, 2)]


@pytest.mark.parametrize(
    ("text", "samples", "box"),
    [
        ("7", 0, (((0, 7),),)),
        ("7/model", 0, (((3, 5),),)),
        ("12/data+model", 0, (((8, 10),),)),
        ("12/model+data", 0, (((6, 8),),)),
        ("3*6/model", 0, (((2, 4), (8, 10), (14, 16)),)),
        ("3*6", 0, (((0, 18),),)),
        ("N/data 4", 10, (((5, 10),), ((0, 4),))),
        ("N/data 4", 7, (((5, 7),), ((0, 4),))),
        ("N/data 4", 3, ((), ((0, 4),))),
        ("N:4/data", 9, (((2, 3),),)),
        ("N:4", 9, (((0, 3),),)),
        ("", 0, ()),
    ],
)
def test_boxes_of_a_rank(text: str, samples: int, box: object) -> None:
    assert GRID.box(parse(text), 4, samples) == box  # data 1, model 1


def test_the_group_of_a_rank_is_in_the_order_of_the_mesh() -> None:
    assert GRID.group(["data"], 4) == (1, 4)
    assert GRID.group(["model", "data"], 4) == (0, 1, 2, 3, 4, 5)
    assert GRID.group([], 4) == (4,)


def test_rows_of_a_halo_are_those_that_the_results_read() -> None:
    halo = Halo(axis=0, results=6, before=1, after=1, stride=2, window=0)
    spec = spec_of("12/model", halo)
    assert [GRID.box(spec, rank, 0) for rank in range(3)] == [(((0, 4),),), (((3, 8),),), (((7, 12),),)]


def test_a_halo_may_read_nothing() -> None:
    spec = spec_of("3/model", Halo(axis=0, results=2, before=0, after=0, stride=2, window=0))
    assert [GRID.box(spec, rank, 0) for rank in range(3)] == [(((0, 1),),), (((2, 3),),), ((),)]


def test_common_blocks_of_boxes_with_several_runs() -> None:
    held, wanted = GRID.box(parse("3*6/model"), 1, 0), GRID.box(parse("18/data"), 1, 0)
    assert list(blocks(held, wanted)) == [((slice(0, 2),), (slice(2, 4),)), ((slice(2, 3),), (slice(8, 9),))]


@pytest.mark.parametrize("text", ["x", "4*y", "N:z", "*3"])
def test_specs_that_cannot_be_read(text: str) -> None:
    with pytest.raises(ValueError, match="is no axis such as"):
        parse(text)


def alone(batch: int = 0, microbatches: int = 1) -> Place:
    return Place(Serial(), {"data": 1}, batch=batch, microbatches=microbatches)


def alone_in_memory(name: str, size: int, over: str) -> npt.NDArray[np.uint8]:
    raise AssertionError(f"`{name}` is shared over {over} by nobody")


def test_arrays_for_samples() -> None:
    table: dict[str, Row] = {
        "x": Array((N, 3)),
        "y": View("x", (N * 1, 3)),
        "scratch": Scratch("dx 3 2*2:float64"),
    }
    arrays = Arrays(table, alone(4), np.float32)
    share({"a": arrays}, alone_in_memory)
    a = arrays.at(2)
    assert a is arrays.at(2)
    assert (a.x.shape, a.x.dtype) == ((2, 3), np.float32)
    assert np.shares_memory(a.x, a.y)
    assert np.shares_memory(a.x, arrays.at(4).x)
    assert a.scratch.forward == ()
    assert [(s.size, s.dtype) for s in a.scratch.dx] == [(3, np.float32), (2, np.float64), (2, np.float64)]


def test_names_are_paths() -> None:
    a = Arrays({"stage[1].main.relu": Array("2"), "stage.add": Array("3")}, alone(), np.float32).at()
    assert (a.stage[1].main.relu.size, a.stage.add.size) == (2, 3)
    assert found(a, "stage[1].main.relu") is a.stage[1].main.relu


def test_members_of_a_bucket_lie_one_behind_the_other() -> None:
    table: dict[str, Row] = {
        "bucket": Bucket(lasting=True),
        "first": Member("bucket", "2"),
        "other": Array("7"),
        "second": Member("bucket", "2 2"),
    }
    g = Arrays(table, alone(), np.float32).at()
    g.bucket[...] = np.arange(6)
    assert g.first.tolist() == [0, 1]
    assert g.second.tolist() == [[2, 3], [4, 5]]


def test_slots_have_arrays_of_their_own_but_one_memory_for_what_passes() -> None:
    table: dict[str, Row] = {"kept": Array("N 2"), "passing": Temporary("N 2"), "same": View("kept", "2 N")}
    arrays = Arrays(table, alone(4, 2), np.float64, slots=2)
    share({"a": arrays}, alone_in_memory)
    first, second = arrays.at(2, 0), arrays.at(2, 1)
    assert not np.shares_memory(first.kept, second.kept)
    assert np.shares_memory(first.passing, second.passing)
    assert np.shares_memory(second.same, second.kept)


def test_a_view_that_does_not_fit_is_refused() -> None:
    arrays = Arrays({"room": Array("8"), "view": View("room", "4 2", offset=2)}, alone(), np.float64)
    with pytest.raises(ValueError, match="`view` has 8 elements, there is room for 6"):
        arrays.at()


def test_parts_are_views_and_may_have_gaps() -> None:
    def main(world: World) -> tuple[list[float], bool]:
        place = Place(world, {"data": 2, "model": 2}, batch=4)
        table: dict[str, Row] = {"w": Array("4/data 4"), "part": Part("w", "4/data 4/model")}
        w = Arrays(table, place, np.float64).at()
        w.w[...] = np.arange(8).reshape(2, 4)
        return w.part.ravel().tolist(), w.part.flags.c_contiguous

    found = run_threads(main, 4)
    assert found == [([0, 1, 4, 5], False), ([2, 3, 6, 7], False)] * 2


def test_a_part_of_stacked_tensors_is_cut_along_another_axis() -> None:
    def main(world: World) -> list[int]:
        place = Place(world, {"model": 2, "data": 2}, batch=4)
        w = Arrays({"w": Array("3*4/model 4"), "part": Part("w", "3*4/model 4/data")}, place, np.float64).at()
        w.w[...] = np.arange(24).reshape(6, 4)
        return [int(each) for each in w.part[:, 0]]

    rows = [0, 4, 8, 12, 16, 20]
    assert run_threads(main, 4) == [rows, [row + 2 for row in rows]] * 2


def test_a_part_in_several_pieces_is_refused() -> None:
    def main(world: World) -> None:
        place = Place(world, {"model": 2, "data": 2}, batch=4)
        Arrays({"w": Array("3*4/model"), "part": Part("w", "3*4/model+data")}, place, np.float64).at()

    with pytest.raises(ValueError, match="`part` does not lie in one piece"):
        run_threads(main, 4)


def test_schedules() -> None:
    text = "begin (load0 forward0)*2 (backward0 load0 forward0)*2 backward0*2 reduce"
    slots = {"load0": 2, "forward0": 2, "backward0": 2}
    found = list(rows(text, 4, slots))
    assert [row for row in found if row[0] == "backward0"] == [("backward0", i, i % 2) for i in range(4)]
    assert [row for row in found if row[0] == "forward0"] == [("forward0", i, i % 2) for i in range(4)]
    assert [name for name, *_ in found][:6] == ["begin", "load0", "forward0", "load0", "forward0", "backward0"]
    assert found[-1] == ("reduce", 0, 0)
    assert list(rows("(a (b.sent*2)*2)*2", 3))[-4:] == [
        ("b.sent", 1, 0),
        ("b.sent", 2, 0),
        ("b.sent", 0, 0),
        ("b.sent", 1, 0),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(a b", "open that is never closed"),
        ("a) b", "closed that is not open"),
        ("*2 a", "nothing to repeat"),
        ("a - b", "not `-`"),
    ],
)
def test_schedules_that_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(rows(text, 1))
