"""`concat(a, b, …, axis = channel)`: the operands one after the other along an axis."""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr
from dlc.ir.tensor import TensorType
from dlc.ops.counting import moved
from dlc.ops.indexing import AXES, except_axis
from dlc.ops.operands import axis_position, floating
from dlc.ops.operator import Gradient, Inferred, OperandError, Operator, Parameter


def _infer(operands: tuple[TensorType, ...], attrs: Mapping[str, Attr]) -> Inferred:
    """Operands equal but for one axis -> y, whose extent there is their sum; `axis` becomes a position."""
    if not operands:
        raise OperandError("E0320", op="concat", needed="one value or more", found=0)
    floating("concat", *operands)
    y = operands[0]
    position = axis_position("concat", y, attrs["axis"])
    axis = y.names[position]
    for index, x in enumerate(operands[1:], start=1):
        if axis not in x.names or x.with_extent(axis, y.extent(axis)) != y:
            notes = (f"operand 1 is {y}", f"operand {index + 1} is {x}", f"only `{axis}` may differ")
            raise OperandError("E0303", operand=index, op="concat", notes=notes)
    total = sum(x.extent(axis) for x in operands)
    return Inferred((y.with_extent(axis, total),), attrs=(("axis", position),))


CONCAT = Operator(
    "concat",
    _infer,
    moved,
    variadic=True,
    parameters=(Parameter("axis", "axis", default="channel"),),
    gradients=(Gradient("dx", ("dy",), ("x",)),),
    layout_free=("NHWC", "CHWN"),
    blocked=True,
    splits=AXES,
    indexing=except_axis,
)
