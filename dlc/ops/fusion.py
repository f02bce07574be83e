"""Kernels that do what several do one after the other, without storing what these hand to one another.

A fused call is made of its members by one rule (`fused`): what is proved of the members holds for it, if it is just
what the rule makes of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from dlc.ir.program import Buffer, Compute

Chain = tuple[tuple[str, str], ...]
"""(op, pass) of each member."""


@dataclass(frozen=True, slots=True)
class Fusion:
    """The kernel for a chain: its op and pass, and which member gives it attributes and runtime values.

    `saved` is how often the bytes of one inner value need not go through memory: all are of one size. `ways` are the
    (algorithm, layout) of that member that there is a kernel for, "" standing for any layout.
    """

    op: str
    stage: str
    main: int
    saved: float
    ways: tuple[tuple[str, str], ...] = (("", ""),)


IN_REGISTERS = tuple((algorithm, "NHWC") for algorithm in ("direct", "winograd(2)", "winograd(4)"))
"""Ways to convolve whose sums are in registers when they are complete."""

FUSIONS: dict[Chain, Fusion] = {
    **{
        (("bn", stage), ("relu", "forward")): Fusion("bn_relu", stage, 0, 2.0)
        for stage in ("forward", "inference", "apply")
    },
    **{
        (("bn", stage), ("add", "forward"), ("relu", "forward")): Fusion("bn_add_relu", stage, 0, 4.0)
        for stage in ("forward", "inference", "apply")
    },
    (("relu", "dx"), ("bn", "dx")): Fusion("bn_relu", "dx", 1, 1.0),
    **{
        (("conv", stage), ("relu", stage)): Fusion("conv_relu", stage, 0, 2.0, IN_REGISTERS)
        for stage in ("forward", "dx")
    },
}
"""Chain -> its kernel."""

BEGINNINGS = frozenset(chain[:end] for chain in FUSIONS for end in range(1, len(chain) + 1))
"""The chains, and what they begin with."""

COMMUTES = ("add",)
"""Ops whose operands may change places."""


def fused(members: Sequence[Compute], buffer: Callable[[str], Buffer]) -> Compute | None:
    """The call that does what these do, each of which reads the first result of the one before; None without one.

    Its operands are those of the last member, in which the operands of the one before stand for its result; of an `add`
    they come first. Its results are those of the last member, then what is left of the others'.
    """
    fusion = FUSIONS.get(tuple((made.kernel[0], made.kernel[1]) for made in members))
    if fusion is None or not all(map(_is_plain, members)):
        return None
    main, others = members[fusion.main], (made for at, made in enumerate(members) if at != fusion.main)
    if any(made.attrs or made.runtime or made.workspaces for made in others):
        return None
    if not {(main.kernel[2], main.layout), (main.kernel[2], "")}.intersection(fusion.ways):
        return None
    inputs, outputs = members[0].inputs, members[0].outputs
    for before, made in pairwise(members):
        inner = before.outputs[0]
        if made.inputs.count(inner) != 1 or made.layout != before.layout:
            return None
        if made.kernel[0] in COMMUTES and not _alike(*(buffer(name) for name in (*made.inputs, *made.outputs))):
            return None
        at = made.inputs.index(inner)
        first = () if made.kernel[0] in COMMUTES else made.inputs[:at]
        inputs = (*first, *inputs, *(name for name in made.inputs[len(first) :] if name != inner))
        outputs = (*made.outputs, *outputs[1:])
    kernel = (fusion.op, fusion.stage, main.kernel[2])
    last = members[-1].address
    return replace(main, address=last, kernel=kernel, inputs=inputs, outputs=outputs, members=tuple(members))


def fusion_of(made: Compute) -> Fusion:
    """The fusion that a call with members is by; KeyError where it is by none."""
    return FUSIONS[tuple((member.kernel[0], member.kernel[1]) for member in made.members)]


def main_of(made: Compute) -> Compute:
    """The member that gives a fused call its attributes; any other call itself."""
    return made.members[fusion_of(made).main] if made.members else made


UNFUSED = ("once", "averaged", "parts", "rows", "border")
"""Attributes of calls that compute a part in a way of its own."""


def _is_plain(made: Compute) -> bool:
    return not made.members and not any(name in UNFUSED for name, _ in made.attrs)


def _alike(first: Buffer, *others: Buffer) -> bool:
    """Whether buffers hold as many elements, in one order: nothing is repeated along an axis."""
    facts = (first.type, first.layout, first.placement)
    return all((each.type, each.layout, each.placement) == facts for each in others)
