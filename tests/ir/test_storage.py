"""How many bytes a rank holds of buffers that are placed on a mesh."""

from __future__ import annotations

from dlc.ir.mesh import Mesh
from dlc.ir.program import Buffer, Collective, CollectiveKind, Copy, Entry, Receive, Role, Row, Segment, Send
from dlc.ir.storage import Storage, begins, group_size, operand_bytes, reads, writes
from dlc.ir.tensor import tensor

VALUE = tensor("f32", batch=22, feature=10)
WEIGHT = tensor("f32", out=10, **{"in": 6})


def role(microbatches: int = 3) -> Role:
    """Two by four ranks; 22 samples in three microbatches are 8 at most, on two ranks 4."""
    rows = tuple(Row("f", m, m % 2) for m in range(microbatches))
    buffers = (
        Buffer("x", VALUE, "activation", placement=("batch", "")),
        Buffer("y", VALUE, "activation", placement=("batch", "feature")),
        Buffer("z", VALUE, "activation"),
        Buffer("w", WEIGHT, "weight", placement=("", "out")),
        Buffer("shard", WEIGHT, "weight", placement=("in", "out")),
        Buffer("flat", tensor("f32", element=18), "bucket"),
        Buffer("part", WEIGHT, "gradient", view_of="flat", offset=0, placement=("", "out")),
    )
    return Role(
        "r",
        tuple(range(8)),
        tuple((11 * (r // 4), 11 * (r // 4 + 1)) for r in range(8)),
        buffers,
        (Segment("f", (Copy("x", "y"),)),),
        (Entry("train_step", rows),),
        Mesh((("data", 2), ("model", 4))),
    )


def held(name: str) -> int:
    storage = Storage(role(), 11)
    return storage.bytes(storage.role.buffer(name))


def test_placed_buffers_are_cut_by_microbatch_and_mesh() -> None:
    """⌈22 / 3⌉ = 8 samples, 4 on each of two ranks; of ten features or outputs 3; of six inputs 3."""
    assert held("x") == 4 * 4 * 10
    assert held("y") == 4 * 4 * 3
    assert held("w") == 4 * 3 * 6
    assert held("shard") == 4 * 3 * 3
    assert held("z") == 4 * 4 * 10  # ⌈11 / 3⌉ samples of what its shard holds


def test_a_placed_view_takes_its_part_of_a_bucket() -> None:
    place = Storage(role(), 11).places["part"]
    assert (place.storage, place.start, place.stop) == ("flat", 0, 72)


def test_allocated_has_a_copy_a_slot_that_is_used() -> None:
    """x and y are used in both slots, z by no segment of the microbatches."""
    assert Storage(role(), 11).allocated() == {
        "activation": 2 * (160 + 48) + 160,
        "weight": 72 + 36,
        "bucket": 72,
    }


def test_group_sizes_are_those_of_the_axes() -> None:
    assert [group_size(role(), name) for name in ("data", "model", "data+model", "pipeline")] == [2, 4, 8, 1]


def test_operands_by_kind() -> None:
    def operand(kind: CollectiveKind, group: str, buffer: str, target: str = "") -> int:
        made = Collective("c", kind, group, "", buffer, 7, target=target)
        return operand_bytes(role(), made, 3)

    assert operand("allreduce", "model", "x") == 160
    assert operand("allgather", "model", "y", "x") == 160  # all that is gathered: 4 samples of ten features
    assert operand("allgather", "model", "y") == 160
    assert operand("all_to_all", "model", "y", "x") == 160
    assert operand("reduce_scatter", "data", "w", "shard") == 72
    assert operand("halo", "data", "x", "y") == 7
    assert operand_bytes(role(), Send("s", "pipeline", 1, "x", 7), 3) == 160
    assert operand_bytes(role(), Receive("s", "pipeline", 1, "z", 7), 3) == VALUE.bytes


def test_scratch_is_that_of_the_group() -> None:
    """A ring over two ranks needs half of the operand that a rank has."""
    sums = Collective("c", "allreduce", "data", "ring", "w", 72)
    made = role()
    summed = Role(made.name, made.ranks, made.shards, made.buffers, (Segment("f", (sums,)),), made.entries, made.mesh)
    assert Storage(summed, 11).allocated()["bucket"] == 72 + 36


def test_what_instructions_read_and_write() -> None:
    gather = Collective("g", "allgather", "model", "ring", "y", 4, target="x")
    assert (reads(gather), writes(gather)) == (("y",), ("x",))
    in_place = Collective("g", "allreduce", "model", "ring", "y", 4)
    assert (reads(in_place), writes(in_place)) == (("y",), ("y",))
    assert [begins(i) for i in (gather, Send("s", "p", 1, "x", 4, False), Copy("x", "y", "c", False), Row("f"))] == [
        False,
        True,
        True,
        False,
    ]
