"""Live bytes by tables of rows against the definition, instruction by instruction."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from dlc.cost.liveness import live, live_bytes
from dlc.ir.program import Buffer, Collective, Copy, Entry, Program, Receive, Role, Row, Segment, Send, Wait
from dlc.ir.ranks import instructions
from dlc.ir.storage import KEPT, Storage, title, touched
from dlc.ir.tensor import tensor
from tests.ir.sample_programs import data_parallel, kernel, pipeline
from tests.ir.staged_programs import Shape, drawn_shape, staged


def by_definition(role: Role, entry: str, samples: int) -> list[dict[str, int]]:
    """Bytes by kind at each instruction: every copy lives from its first use to its last."""
    storage = Storage(role, samples)
    uses: dict[tuple[object, ...], list[int]] = {}
    begun: dict[str, tuple[Row, tuple[str, ...]]] = {}
    count = 0
    for step, (row, instruction) in enumerate(instructions(role, entry)):
        count = step + 1
        names = tuple(touched(instruction))
        if isinstance(instruction, Wait):
            row, names = begun.pop(instruction.name, (row, ()))
        elif isinstance(instruction, Collective | Send | Receive | Copy) and not instruction.blocking:
            begun[title(instruction)] = (row, names)
        for name in names:
            place = storage.content(name)
            copy = (row.microbatch, row.slot) if storage.by_slot(place) else ()
            uses.setdefault((place, step) if role.buffer(place).kind == "workspace" else (place, *copy), []).append(
                step
            )
    kept = Counter[str]()
    for buffer in role.buffers:
        if buffer.kind in KEPT and buffer.view_of is None:
            kept[buffer.kind] += storage.bytes(buffer)
    found = [Counter(kept) for _ in range(count)]
    for (place, *_), steps in uses.items():
        buffer = role.buffer(str(place))
        if buffer.kind not in KEPT:
            for step in range(steps[0], steps[-1] + 1):
                found[step][buffer.kind] += storage.bytes(buffer)
    return [{kind: size for kind, size in live.items() if size} for live in found]


def check(program: Program, entry: str = "train_step") -> None:
    for role in program.roles:
        for samples in sorted({stop - start for start, stop in role.shards}):
            expected = by_definition(role, entry, samples)
            points = live_bytes(role, entry, samples)
            assert [dict(point.live) for point in points] == expected
            assert [point.step for point in points] == list(range(len(expected)))
            found = live(role, entry, samples)
            totals = [point.total for point in points]
            if found.peak is None:
                assert not points
            else:
                assert found.peak == points[totals.index(max(totals))]
                assert max(found.by_row) == max(totals)


@pytest.mark.parametrize("entry", ["train_step", "eval_step", "predict", "eval_totals", "nothing"])
def test_data_parallel(entry: str) -> None:
    check(data_parallel(3, 10), entry)
    check(data_parallel(4, 12, overlap=True), entry)


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b"])
def test_pipelines(schedule: str) -> None:
    check(pipeline(3, 5, 2, schedule, 20))


def test_drawn_pipelines() -> None:
    for seed in range(60):
        random = Random(seed)
        check(staged(drawn_shape(random, 16), meshes=random.random() < 0.5))


def test_what_is_sent_is_held_until_its_wait() -> None:
    """y (16 bytes) is not used again, but its message is under way while z (8 bytes) is made in another row."""
    y, z = Buffer("y", tensor("f32", batch=4), "activation"), Buffer("z", tensor("f32", out=2), "gradient")
    role = Role(
        "first",
        (0,),
        ((0, 4),),
        (y, z),
        (
            Segment("forward", (kernel("a", "", "y"), Send("m", "pipeline", 1, "y", 16, blocking=False))),
            Segment("other", (kernel("b", "", "z"), kernel("c", "z"))),
            Segment("sent", (Wait("m"), kernel("d", ""))),
        ),
        (Entry("train_step", (Row("forward", 0, 0), Row("other"), Row("sent", 0, 1))),),
    )
    assert [point.total for point in live_bytes(role, "train_step", 4)] == [16, 16, 24, 24, 16, 0]


def test_a_place_that_is_taken_over_counts_once() -> None:
    """x and y, 16 bytes, lie in one place, which y has from the kernel on that reads x for the last time."""
    arena = Buffer("arena", tensor("u8", byte=32), "workspace")
    values = tensor("f32", batch=4)
    x, y, z = (Buffer(n, values, "activation", view_of="arena", offset=at) for n, at in (("x", 0), ("y", 0), ("z", 16)))
    for op, most in (("relu", [16, 16, 32]), ("other", [16, 32, 32])):
        made = (kernel("a", "", "x"), replace(kernel("b", "x", "y"), kernel=(op, "forward", "")), kernel("c", "y", "z"))
        entry = Entry("train_step", (Row("forward"),))
        role = Role("first", (0,), ((0, 4),), (arena, x, y, z), (Segment("forward", made),), (entry,))
        assert [point.total for point in live_bytes(role, "train_step", 4)] == most


def test_rows_share_their_tables() -> None:
    """What is worked out grows with the rows and the segments apart, not with their product."""
    role = staged(Shape(2, 1, 1, 200, (2, 2), 2, 200, blocking=False, schedule="1f1b")).roles[0]
    found = live(role, "train_step", 200)
    assert len(found.tables) > 400
    assert len({id(table) for table in found.tables}) < 30
