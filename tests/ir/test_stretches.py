"""What a class of ranks does by itself, cut out of segments."""

from __future__ import annotations

from dlc.ir.program import Collective, Copy, Instruction, Send, Wait
from dlc.ir.storage import title
from dlc.ir.stretches import Part, Stretch, parts
from tests.ir.sample_programs import kernel


def made(words: str) -> tuple[Instruction, ...]:
    """`k` a kernel, `c` a copy, `m` a blocking sum of its own, `mA` one that begins, `-A` its wait, `d` and `dA` sums
    with others, `s` a message."""
    found: list[Instruction] = []
    for word in words.split():
        kind, name = word[0], word[1:]
        group, blocking = {"m": "model", "d": "data"}.get(kind, ""), not name
        if kind in "md":
            found.append(Collective(name, "allreduce", group, "ring", "b", 4, blocking))
        elif kind == "c":
            found.append(Copy("x", "y", name, blocking))
        else:
            found.append({"k": kernel("k", "x"), "-": Wait(name), "s": Send("s", "pipeline", 1, "x", 4)}[kind])
    return tuple(found)


def own(instruction: Instruction) -> str | None:
    match instruction:
        case Collective(group=group):
            return "model" if group == "model" else None
        case Copy(blocking=False):
            return "copy"
        case Send() | Wait():
            return None
    return ""


def cut(words: str) -> list[tuple[int, int, tuple[str, ...]]]:
    """(first, instructions, streams) of each part, one instruction by itself without streams as ("",)."""
    found = parts(made(words), own)
    covered = [instruction for part in found for instruction in inside(part)]
    assert covered == list(made(words))
    return [(part.at, len(inside(part)), part.streams if isinstance(part, Stretch) else ("",)) for part in found]


def inside(part: Part) -> tuple[Instruction, ...]:
    return part.instructions if isinstance(part, Stretch) else (part.instruction,)


ALONE = ("",)


def test_kernels_and_own_sums_are_one_stretch() -> None:
    assert cut("k m k c k m k") == [(0, 7, ("model",))]


def test_others_stand_between_stretches() -> None:
    assert cut("k k d k s k m") == [(0, 2, ()), (2, 1, ALONE), (3, 1, ()), (4, 1, ALONE), (5, 2, ("model",))]


def test_what_begins_and_ends_inside_stays_inside() -> None:
    assert cut("k mA k mB -A k -B k") == [(0, 8, ("model",))]
    assert cut("cA k m -A k") == [(0, 5, ("copy", "model"))]


def test_a_begin_whose_wait_is_elsewhere_stands_alone() -> None:
    assert cut("k mA k m k") == [(0, 1, ()), (1, 1, ALONE), (2, 3, ("model",))]
    assert cut("k -A k") == [(0, 1, ()), (1, 1, ALONE), (2, 1, ())]


def test_a_pair_that_is_parted_stands_alone_with_both_ends() -> None:
    assert cut("mA k s k -A k") == [(0, 1, ALONE), (1, 1, ()), (2, 1, ALONE), (3, 1, ()), (4, 1, ALONE), (5, 1, ())]


def test_what_stands_alone_may_part_others() -> None:
    """B begins and is waited for elsewhere, which parts A from its wait."""
    assert [first for first, count, streams in cut("mA k mB k -A k") if streams == ALONE] == [0, 2, 4]


def test_a_name_that_begins_twice_ends_once() -> None:
    assert [first for first, _, streams in cut("mA mA k -A -A") if streams == ALONE] == [0, 4]


def test_pieces_are_the_same_instructions() -> None:
    (stretch,) = parts(made("k k m k cA k -A k k"), own)
    assert isinstance(stretch, Stretch)
    pieces = [(piece.at, len(inside(piece))) for piece in stretch.pieces]
    assert pieces == [(0, 2), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (7, 2)]
    assert [title(i) for piece in stretch.pieces for i in inside(piece)] == [title(i) for i in stretch.instructions]
