"""The static check on pipelines of meshes: messages that do not block, placed operands, targets of collectives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest

from dlc.ir.check import check
from dlc.ir.program import Instruction, Program, Wait
from dlc.ir.storage import title
from tests.ir.edits import Edit, change, drop, insert
from tests.ir.edits import edited as changed
from tests.ir.sample_programs import kernel, with_role
from tests.ir.staged_programs import Shape, drawn_shape, staged

SHAPE = Shape(3, 2, 2, 4, (2, 1, 2), 2, 16, 8, "1f1b", blocking=False, sums="last", gathers=True, offloads=True)


def edited(segment: str, edit: Edit, role: int = 0, shape: Shape = SHAPE) -> Program:
    return changed(staged(shape), segment, edit, role)


def behind(name: str, *made: Instruction) -> Edit:
    return lambda found: [i for at in found for i in ((at, *made) if title(at) == name else (at,))]


def partial(name: str, program: Program) -> Program:
    """A gradient whose placement says that ranks along `data` hold parts of a sum."""
    role = program.roles[0]
    buffers = (replace(b, placement=("+", "out")) if b.name == name else b for b in role.buffers)
    return with_role(program, replace(role, buffers=tuple(buffers)))


def doubled(found: list[Instruction]) -> list[Instruction]:
    return [i for i in found for _ in range(2)]


def without_waits(found: list[Instruction]) -> list[Instruction]:
    return [i for i in found if not isinstance(i, Wait)]


def smaller(found: list[Instruction]) -> list[Instruction]:
    """All of a gather counted as what one rank has of it."""
    return [
        replace(i, bytes=i.bytes // 2) if title(i).startswith("gather") and hasattr(i, "bytes") else i for i in found
    ]


def never_summed() -> Program:
    """The update of a weight reads a gradient of which the ranks hold parts."""
    update = replace(kernel("s0.w0@update", "w0 g0"), kernel=("sgd", "update", ""))
    return partial("g0", edited("update", lambda found: [update], shape=replace(SHAPE, sums="blocking")))


EXPECTS = replace(SHAPE, expects=True)

FAULTS: dict[str, tuple[str, Callable[[], Program]]] = {
    "a message that nobody waits for": ("wait", lambda: edited("sent_y", drop("y0"))),
    "a message waited for twice": ("wait", lambda: edited("sent_y", doubled)),
    "a message that is not sent": ("deadlock", lambda: edited("forward", drop("y0"))),
    "a message that is not received": ("deadlock", lambda: edited("backward", drop("dx1"))),
    "what is sent is overwritten": ("in flight", lambda: edited("forward", behind("y0", kernel("k", "x", "h1")))),
    "what is received is read at once": (
        "in flight",
        lambda: edited("expect", behind("y0", kernel("k", "x")), 1, EXPECTS),
    ),
    "what is received is never waited for": ("wait", lambda: edited("forward", drop("y0"), 1, EXPECTS)),
    "what is copied is overwritten": ("in flight", lambda: edited("forward", insert("s0.l0.0", kernel("k", "", "x")))),
    "nothing is waited for": ("wait", lambda: edited("forward", without_waits)),
    "what is gathered is read at once": (
        "in flight",
        lambda: edited("forward", insert("s0.l0.0", kernel("k", "full1"))),
    ),
    "an operand of other bytes": ("bytes", lambda: edited("forward", change("sum_h0", bytes=4))),
    "a gather of other bytes": ("bytes", lambda: edited("forward", smaller)),
    "a gradient used before it is summed": ("unsummed", never_summed),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str) -> None:
    kind, make = FAULTS[fault]
    problems = check(make())
    assert kind in {problem.kind for problem in problems}, [str(problem) for problem in problems]


def test_drawn_pipelines_are_sound() -> None:
    assert check(staged(SHAPE)) == ()
    for seed in range(40):
        assert check(staged(drawn_shape(Random(seed)))) == ()


def test_a_sum_over_two_axes_of_a_mesh_may_be_in_two_parts() -> None:
    """Along `model`, then along `data`: no second sum of the same."""
    (found,) = (i for i in staged(SHAPE).roles[0].segment("forward").instructions if title(i) == "sum_h0")
    again = replace(found, name="again", group="data")  # type: ignore[type-var]
    assert check(edited("forward", behind("sum_h0", again))) == ()
