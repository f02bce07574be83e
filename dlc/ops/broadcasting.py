"""Arithmetic of two operands that broadcast by axis name, or of one operand and a number."""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr
from dlc.ir.tensor import TensorType
from dlc.ops.activation import EVERY_AXIS
from dlc.ops.attributes import number
from dlc.ops.counting import elementwise
from dlc.ops.operands import floating
from dlc.ops.operator import Gradient, Inferred, OperandError, Operator, Parameter

SCALAR = Parameter("scalar", "number")
"""The number, where an operand is one: then the node has one input."""

SCALAR_FIRST = Parameter("scalar_first", "bool", default=False)
"""Whether the number is the left operand: `1 - x`."""


def broadcast(op: str, a: TensorType, b: TensorType) -> TensorType:
    """The type of both: one operand has all axes of the other, with the same extents in the same order (E0303)."""
    wide, narrow = (a, b) if len(a.axes) >= len(b.axes) else (b, a)
    if tuple(axis for axis in wide.axes if axis.name in narrow.names) != narrow.axes:
        differ = [name for name in wide.names if name in narrow.names and wide.extent(name) != narrow.extent(name)]
        notes = (f"the left operand is {a}", f"the right operand is {b}")
        facts = tuple(f"`{name}` is {a.extent(name)} on the left, {b.extent(name)} on the right" for name in differ)
        raise OperandError("E0303", op=op, notes=(*notes, *facts))
    return wide


def _between(sign: str, a: TensorType, b: TensorType) -> Inferred:
    """Two values; where one has fewer axes, `axes` are their positions among those of the other."""
    wide = broadcast(sign, a, b)
    narrow = min(a, b, key=lambda operand: len(operand.axes))
    axes = tuple(wide.names.index(name) for name in narrow.names)
    return Inferred((wide,), attrs=(("axes", axes),) if len(axes) < len(wide.axes) else ())


def arithmetic(name: str, sign: str, *, needs: tuple[str, ...], identity_gradient: bool = False) -> Operator:
    """The operator behind a sign; `needs` is what its gradient reads besides dy.

    A node with a number has the attributes `scalar` and `scalar_first` and the one operand `a`.
    """

    def infer(operands: tuple[TensorType, ...], attrs: Mapping[str, Attr]) -> Inferred:
        scalar = attrs.get("scalar") is not None
        if len(operands) != 2 - scalar:
            needed = "one value beside a number" if scalar else "two values"
            raise OperandError("E0320", op=sign, needed=needed, found=len(operands))
        floating(sign, *operands)
        if not scalar:
            return _between(sign, *operands)
        first = attrs.get("scalar_first") is True
        return Inferred(operands, attrs=(("scalar", number(attrs, "scalar")), ("scalar_first", first)))

    return Operator(
        name,
        infer,
        elementwise,
        operands=("a", "b"),
        parameters=(SCALAR, SCALAR_FIRST),
        gradients=(Gradient("dx", ("dy", *needs), ("a", "b")),),
        identity_gradient=identity_gradient,
        elementwise=True,
        splits=EVERY_AXIS,
    )
