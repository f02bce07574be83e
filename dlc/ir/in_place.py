"""Which kernels may leave a result where an operand lies.

Each reads all that it needs of an element before it writes that element: the kernels of every family, NumPy's, those in
C, the exact ones and those for GPUs. `tests/kernels/test_in_place.py` runs them so and compares.

A Program and the program that is emitted of it, which gets this module as it stands, go by this one table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

Array = TypeVar("Array")


class Over(NamedTuple):
    """Of the arrays of a call, operands and then results: which operands' places a result may take, and which result.

    With `arrays` this holds for calls of so many: the kernel of a value and a number has fewer than that of two values.
    """

    operands: tuple[int, ...]
    result: int
    arrays: int = 0


_OF_RESULTS = ("relu", "leaky_relu", "elu", "tanh", "sigmoid")
_ALL = (*_OF_RESULTS, "gelu", "silu", "hard_swish")
_ALONE = ("relu", "tanh", "sigmoid", "silu", "hard_swish")  # which are told nothing, as dropout is

IN_PLACE: dict[str, Over] = {
    **{f"{op}_forward": Over((0,), 1) for op in ("relu", "tanh", "sigmoid")},  # x, y
    **{f"{op}_dx": Over((0, 1), 2) for op in _ALL},  # dy, y or x, dx
    **{f"{op}_forward": Over((0, 1), -1) for op in ("add", "sub", "mul", "div")},  # a, b, y; or x, y
    "mul_dx": Over((0,), 1, arrays=2),  # beside a number: dy, dx
    "dropout_forward": Over((0,), 1),  # x, y, mask
    "dropout_dx": Over((0,), 2),  # dy, mask, dx
    "dropout_add_forward": Over((0,), 2),  # x, added, y, mask
    "cross_entropy_dx": Over((1,), 3),  # dy, probabilities, label, dlogits
    "sum_gradients": Over((0, 1), -1),  # gradients, their sum
    **{f"add_{op}_forward": Over((0, 1), 2) for op in _OF_RESULTS},  # a, b, y
    **{f"sum_{op}_dx": Over((0, 1, 2), 3) for op in _ALL},  # two gradients, y or x, dx
    **{f"{op}_sum": Over((0, 1, 2), 3) for op in _ALL},  # dy, y or x, another gradient, the sum
    **{f"dropout_{op}_dx": Over((0, 2), 3) for op in _ALONE},  # dy, mask, y or x, dx
}
"""Kernel -> what may lie where in a call of it, the operands in the order in which they are tried."""


def kernel_of(op: str, stage: str) -> str:
    """What programs call the kernel for a pass of an op that goes element by element."""
    return "sum_gradients" if (op, stage) == ("sum", "sum") else op if stage == "sum" else f"{op}_{stage}"


def in_place(kernel: str, arrays: Sequence[Array]) -> Iterator[tuple[Array, Array]]:
    """(operand, result) of a call: the result may lie where the operand does, if that is of the same size and type and
    nobody needs it any more. `arrays` are operands and results; an operand that is given once more is left out, unless
    that is for another operand that allows it."""
    known = IN_PLACE.get(kernel)
    if known is None or (known.arrays and known.arrays != len(arrays)):
        return
    result = known.result % len(arrays)
    able = [arrays[at] for at in known.operands if at < result < len(arrays)]
    for operand in able:
        if arrays.count(operand) == able.count(operand):
            yield operand, arrays[result]
