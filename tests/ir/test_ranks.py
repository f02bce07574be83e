"""Folding against refinement by definition, and what stands where in a group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from random import Random

from dlc.ir.mesh import Mesh
from dlc.ir.program import Collective, CommunicationGroup, Program, Receive, Send
from dlc.ir.ranks import Neighbours, fold, unfolded
from tests.ir.sample_programs import data_parallel, pipeline, split_in_two
from tests.ir.staged_programs import Shape, drawn_shape, staged


def refined(program: Program, kinds: dict[int, tuple[str, float]]) -> list[tuple[int, ...]]:
    """The coarsest partition in which alike ranks see alike ranks, one rank at a time."""
    around, seen = Neighbours.of(program), dict[int, Hashable]()
    roles = {rank: role for role in program.roles for rank in role.ranks}
    for role in program.roles:
        for rank, (start, stop) in zip(role.ranks, role.shards, strict=True):
            seen[rank] = (role.name, stop - start, kinds.get(rank))
    while True:
        numbers: dict[Hashable, int] = {}
        colours = {rank: numbers.setdefault(seen[rank], len(numbers)) for rank in sorted(seen)}
        for rank in colours:
            made = [i for segment in roles[rank].segments for i in segment.instructions]
            views: list[Hashable] = [colours[rank]]
            for instruction in made:
                if isinstance(instruction, Collective):
                    members = around.members(instruction.group, rank)
                    views.append(tuple(sorted(Counter(colours[member] for member in members).items())))
                elif isinstance(instruction, Send | Receive):
                    other = around.peer(instruction.group, rank, instruction.peer)
                    views.append(None if other is None else colours[other])
            seen[rank] = tuple(views)
        if len(set(seen.values())) == len(numbers):
            return [tuple(rank for rank in sorted(seen) if colours[rank] == n) for n in range(len(numbers))]


def test_folding_is_refinement() -> None:
    sizes = set()
    for seed in range(60):
        random = Random(seed)
        program = staged(drawn_shape(random, 32), meshes=False)
        kinds = {rank: ("", 2.0) for rank in range(program.ranks) if random.random() < 0.05}
        found = [lane.ranks for lane in fold(program, kinds=kinds)]
        assert found == refined(program, kinds)
        sizes.add(len(found))
    assert len(sizes) > 5


def test_groups_of_other_sizes_are_not_alike() -> None:
    program = data_parallel(6, 12)
    groups = (CommunicationGroup("data", ((0, 1), (2, 3, 4, 5))), *program.groups[1:])
    halves = Program(program.name, program.batch, program.dtype, program.roles, groups)
    assert [lane.ranks for lane in fold(halves)] == [(0, 1), (2, 3, 4, 5)]


def test_classes_know_samples_devices_and_slowdowns() -> None:
    found = fold(data_parallel(4, 10), kinds=dict.fromkeys(range(3), ("core", 1.0)) | {3: ("core", 2.0)})
    assert [(lane.ranks, lane.samples, lane.device, lane.slowdown) for lane in found] == [
        ((0, 2), 2, "core", 1.0),
        ((1,), 3, "core", 1.0),
        ((3,), 3, "core", 2.0),
    ]


def test_uneven_shards_are_alike_where_they_do_not_matter() -> None:
    (lane,) = fold(data_parallel(4, 10), by_samples=False)
    assert (lane.ranks, lane.samples) == ((0, 1, 2, 3), 3)


def test_roles_are_never_alike() -> None:
    assert [lane.ranks for lane in fold(split_in_two(data_parallel(4, 8)))] == [(0, 1), (2, 3)]
    assert [lane.ranks for lane in fold(pipeline(2, 2, 2, batch=4))] == [(0, 1), (2, 3)]
    assert [lane.ranks for lane in unfolded(pipeline(2, 2, 2, batch=4))] == [(0,), (1,), (2,), (3,)]


def test_sixteen_thousand_ranks_are_a_class_a_stage() -> None:
    program = staged(Shape(8, 256, 8, 2, (1,) * 8, 1, 512, 8, "1f1b", blocking=False))
    assert [len(lane.ranks) for lane in fold(program)] == [2048] * 8


def test_neighbours() -> None:
    mesh = Mesh((("pipeline", 3), ("data", 2)))
    around = Neighbours({"pipeline": CommunicationGroup("pipeline", mesh.groups(("pipeline",)))})
    assert around.members("pipeline", 3) == (1, 3, 5)
    assert (around.peer("pipeline", 3, 1), around.peer("pipeline", 3, -1)) == (5, 1)
    assert around.peer("pipeline", 5, 1) is None
    assert around.peer("pipeline", 0, -1) is None
    assert around.members("pipeline", 9) == ()
    assert around.peer("pipeline", 9, 0) is None
