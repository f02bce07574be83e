"""`softmax(axis = …)`: eˣ / Σ eˣ along an axis, the last one by default."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dlc.ir.graph import Attr
from dlc.ir.tensor import TensorType
from dlc.ops.attributes import integer
from dlc.ops.counting import by_rows, lg
from dlc.ops.indexing import AXES, except_axis
from dlc.ops.operands import axis_position, features, floating
from dlc.ops.operator import Cost, Gradient, Inferred, Operator, Parameter, Shapes


def along_axis(name: str, cost: Callable[[str, Shapes], Cost]) -> Operator:
    """An operator on the rows along one axis, the last one by default; its gradient needs dy and y."""

    def infer(operands: tuple[TensorType, ...], attrs: Mapping[str, Attr]) -> Inferred:
        """x -> y of the same axes; the attribute `axis` becomes a position in logical order."""
        (x,) = operands
        floating(name, x)
        features(name, x)
        axis = attrs.get("axis")
        position = len(x.axes) - 1 if axis is None else axis_position(name, x, axis)
        return Inferred((x,), attrs=(("axis", position),))

    return Operator(
        name,
        infer,
        cost,
        parameters=(Parameter("axis", "axis"),),
        gradients=(Gradient("dx", ("dy", "y"), ("x",)),),
        layout_free=("NHWC", "CHWN"),
        splits=AXES,
        indexing=except_axis,
    )


def row_length(shapes: Shapes) -> int:
    """The extent of the operand's axis that the operator works along."""
    return shapes.inputs[0].shape[integer(shapes.attrs, "axis")]


def _cost(pass_: str, shapes: Shapes) -> Cost:
    """A row of C, forward: maximum and sum C − 1 each; subtract, exponential and divide C each.

    dx = y·(dy − Σ dy·y): products C, sum C − 1, subtract C, products C.
    """
    length = row_length(shapes)
    if pass_ == "dx":
        return by_rows(shapes, length, 4 * length - 1, lg(length) + 3)
    return by_rows(shapes, length, 5 * length - 2, 2 * lg(length) + 3)


SOFTMAX = along_axis("softmax", _cost)
