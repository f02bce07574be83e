"""Kernels that do what several do one after the other, without storing what these hand to one another.

A fused call is made of its members by one rule (`fused`): what is proved of the members holds for it, if it is just
what the rule makes of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from dlc.ir.graph import Attrs
from dlc.ir.program import Buffer, Compute, Instruction
from dlc.ops.blocks import BLOCKED

Chain = tuple[tuple[str, str], ...]
"""(op, pass) of each member."""

Ways = tuple[tuple[str, str], ...]
"""(algorithm, layout) of several."""


@dataclass(frozen=True, slots=True)
class Fusion:
    """The kernel for a chain: its op and pass, and which member gives it attributes and runtime values.

    `saved` is how often the bytes of one inner value need not go through memory: all are of one size. `ways` are the
    (algorithm, layout) of that member that there is a kernel for, "" standing for any layout, and `in_c` those of them
    that there is one in C for. With `told` the kernel is told the attributes of all members; `only` are
    those without which there is none. `kept` is the op of the
    kernel that stores what the first member hands on as well, for others that read it; "" where there is none.
    """

    op: str
    stage: str
    main: int
    saved: float
    ways: Ways = (("", ""),)
    in_c: Ways = (("", ""),)
    told: bool = False
    only: Attrs = ()
    kept: str = ""


IN_REGISTERS = ("direct", "winograd(2)", "winograd(4)")
"""Algorithms of convolution whose sums are in registers when they are complete: in C in NHWC and in blocks of
channels."""

IN_TILES = (*IN_REGISTERS, "implicit_gemm")
"""Those of which that is so on devices, in any layout."""

BY_LIBRARY = ("cudnn",)
"""Those of a library that adds a bias and takes a maximum where it stores sums; backward it does not."""

OF_RESULTS = ("relu", "leaky_relu", "elu", "tanh", "sigmoid")
"""Activations that are differentiated from their results: nothing keeps what they are of."""

OF_OPERANDS = ("gelu", "silu", "hard_swish")
"""Those that are differentiated from their operands."""

ELEMENTWISE: dict[Chain, Fusion] = {
    (("dropout", "forward"), ("add", "forward")): Fusion("dropout_add", "forward", 0, 2.0),
    **{(("add", "forward"), (op, "forward")): Fusion(f"add_{op}", "forward", 1, 2.0) for op in OF_RESULTS},
    **{
        chain: fusion
        for op in (*OF_RESULTS, *OF_OPERANDS)
        for chain, fusion in (
            ((("sum", "sum"), (op, "dx")), Fusion(f"sum_{op}", "dx", 1, 2.0)),
            (((op, "dx"), ("sum", "sum")), Fusion(f"{op}_sum", "sum", 0, 2.0)),
        )
    },
    **{
        (("dropout", "dx"), (op, "dx")): Fusion(f"dropout_{op}", "dx", 0, 2.0)
        for op in ("relu", "tanh", "sigmoid", "silu", "hard_swish")  # which are told nothing, as dropout is
    },
}
"""Of what is done element by element: sums are of two."""

LINEAR: dict[Chain, Fusion] = {
    (("linear", "forward"), ("relu", "forward")): Fusion("linear_relu", "forward", 0, 2.0, in_c=()),
    (("linear", "forward"), ("gelu", "forward")): Fusion(
        "linear_gelu", "forward", 0, 2.0, in_c=(), told=True, kept="linear_gelu_kept"
    ),
    (("linear", "dx"), ("gelu", "dx")): Fusion(
        "linear_gelu", "dx", 0, 2.0, in_c=(), told=True, only=(("approximate", "tanh"),)
    ),
}
"""Of linear maps, whose products libraries for devices finish with an activation; without one a kernel takes the bias
and the activation in one. That of a gradient saves nothing without: so only GELU's by tanh, which cuBLASLt has, and not
ReLU's, for which it wants a mask of bits where programs keep the result."""

FUSIONS: dict[Chain, Fusion] = {
    **ELEMENTWISE,
    **LINEAR,
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
        (("conv", stage), ("relu", stage)): Fusion(
            "conv_relu",
            stage,
            0,
            2.0,
            tuple((way, "") for way in (*IN_TILES, *library)),
            tuple((way, layout) for way in IN_REGISTERS for layout in ("NHWC", *BLOCKED)),
        )
        for stage, library in (("forward", BY_LIBRARY), ("dx", ()))
    },
}
"""Chain -> its kernel."""

BEGINNINGS = frozenset(chain[:end] for chain in FUSIONS for end in range(1, len(chain) + 1))
"""The chains, and what they begin with."""

COMMUTES = ("add", "sum")
"""Ops whose operands, two of them, may change places."""

UPDATE, UPDATES = "update", "updates"
"""The pass that updates one weight, and the one that updates many in a call."""

ELEMENT_RULES = ("sgd", "adagrad", "rmsprop", "adam", "adamw")
"""Optimizers that change each element of a weight by itself: a call may update any number of weights."""


def fused(members: Sequence[Compute], buffer: Callable[[str], Buffer], kept: bool = False) -> Compute | None:
    """The call that does what these do, each of which reads the first result of the one before; None without one.

    Its operands are those of the last member, in which the operands of the one before stand for its result; of an `add`
    they come first. Its results are those of the last member, then what is left of the others': with `kept` all of the
    first one's.
    """
    if updates_alone(members[0]):
        return _updates(members)
    fusion = _fusion(members, kept)
    if fusion is None or not all(map(_is_plain, members)):
        return None
    main, others = members[fusion.main], [made for at, made in enumerate(members) if at != fusion.main]
    if not {*fusion.only} <= {pair for made in others for pair in made.attrs}:
        return None
    if any((made.attrs and not fusion.told) or made.runtime or made.workspaces for made in others):
        return None
    if not _has(fusion.ways, main):
        return None
    if not all(_adds_alike(made, buffer) for made in members if made.kernel[0] in COMMUTES):
        return None
    inputs, outputs = members[0].inputs, members[0].outputs
    for before, made in pairwise(members):
        inner = before.outputs[0]
        if made.inputs.count(inner) != 1 or made.layout != before.layout:
            return None
        at = made.inputs.index(inner)
        first = () if made.kernel[0] in COMMUTES else made.inputs[:at]
        inputs = (*first, *inputs, *(name for name in made.inputs[len(first) :] if name != inner))
        outputs = (*made.outputs, *outputs[not kept :])
    kernel = (fusion.op, fusion.stage, main.kernel[2])
    last, attrs = members[-1].address, (*main.attrs, *(pair for made in others for pair in made.attrs))
    return replace(
        main, address=last, kernel=kernel, inputs=inputs, outputs=outputs, attrs=attrs, members=tuple(members)
    )


def keeps(made: Compute) -> bool:
    """Whether a fused call stores what its first member hands on."""
    return bool(made.members) and not set(made.members[0].outputs[:1]).isdisjoint(made.outputs)


def _fusion(members: Sequence[Compute], kept: bool) -> Fusion | None:
    """The kernel for members; with `kept` the one that stores what the first hands on, where there is one."""
    fusion = FUSIONS.get(tuple((made.kernel[0], made.kernel[1]) for made in members))
    if fusion is None or not kept:
        return fusion
    return replace(fusion, op=fusion.kept, saved=fusion.saved - 1) if fusion.kept else None


def fused_in_c(made: Compute) -> bool:
    """Whether a fused call is one that there is a kernel in C for."""
    return _has(fusion_of(made).in_c, main_of(made))


def _has(ways: Ways, made: Compute) -> bool:
    return not {(made.kernel[2], made.layout), (made.kernel[2], "")}.isdisjoint(ways)


def updates_alone(made: Compute) -> bool:
    """Whether a call updates one weight, element by element."""
    return made.kernel[0] in ELEMENT_RULES and made.kernel[1] == UPDATE and not made.outputs and _is_plain(made)


def updated_alike(one: Compute, other: Compute) -> bool:
    """Whether two calls update weights by one rule with the same attributes."""
    told = [(made.kernel, made.attrs, made.runtime, made.layout, len(made.inputs)) for made in (one, other)]
    return told[0] == told[1] and not one.workspaces and not other.workspaces


def one_by_one(made: Instruction) -> tuple[Instruction, ...]:
    """The updates that are one call; any other instruction itself."""
    return made.members if isinstance(made, Compute) and made.kernel[1] == UPDATES else (made,)


def _updates(members: Sequence[Compute]) -> Compute | None:
    """Updates by one rule as one call, whose operands are those of all: weight, gradient, states of each in turn."""
    first = members[0]
    if len(members) < 2 or not all(updates_alone(made) and updated_alike(first, made) for made in members):
        return None
    inputs = tuple(name for made in members for name in made.inputs)
    kernel = (first.kernel[0], UPDATES, first.kernel[2])
    return replace(first, address=members[-1].address, kernel=kernel, inputs=inputs, members=tuple(members))


def fusion_of(made: Compute) -> Fusion:
    """The fusion that a call with members is by; KeyError where it is by none."""
    if made.kernel[1] == UPDATES:
        return Fusion(made.kernel[0], UPDATES, 0, 0.0)
    fusion = _fusion(made.members, keeps(made))
    if fusion is None:
        raise KeyError(made.kernel)
    return fusion


def main_of(made: Compute) -> Compute:
    """The member that gives a fused call its attributes; any other call itself."""
    return made.members[fusion_of(made).main] if made.members else made


UNFUSED = ("once", "averaged", "parts", "rows", "border")
"""Attributes of calls that compute a part in a way of its own."""


def _is_plain(made: Compute) -> bool:
    return not made.members and not any(name in UNFUSED for name, _ in made.attrs)


def _adds_alike(made: Compute, buffer: Callable[[str], Buffer]) -> bool:
    """Whether a call adds up two of one size, and stores the sum in another place."""
    alike = _alike(*(buffer(name) for name in (*made.inputs, *made.outputs)))
    return alike and len(made.inputs) == 2 and made.outputs[0] not in made.inputs


def _alike(first: Buffer, *others: Buffer) -> bool:
    """Whether buffers hold as many elements, in one order: nothing is repeated along an axis."""
    facts = (first.type, first.layout, first.placement)
    return all((each.type, each.layout, each.placement) == facts for each in others)
