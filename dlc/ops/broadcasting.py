"""Arithmetic of two operands that broadcast by axis name, or of one operand and a number."""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr
from dlc.ir.tensor import Axis, TensorType
from dlc.ops.attributes import number
from dlc.ops.counting import elementwise
from dlc.ops.indexing import AXES
from dlc.ops.indexing import elementwise as each_element
from dlc.ops.operands import floating
from dlc.ops.operator import Gradient, Inferred, OperandError, Operator, Parameter

SCALAR = Parameter("scalar", "number")
"""The number, where an operand is one: then the node has one input."""

SCALAR_FIRST = Parameter("scalar_first", "bool", default=False)
"""Whether the number is the left operand: `1 - x`."""


def broadcast(a: TensorType, b: TensorType) -> TensorType | None:
    """The type of both: one has all axes of the other, in the same order, of the same extents or 1; else None."""
    wide, narrow = (a, b) if len(a.axes) >= len(b.axes) else (b, a)
    if tuple(name for name in wide.names if name in narrow.names) != narrow.names:
        return None
    extents = {axis.name: {axis.extent, *(b.extent for b in narrow.axes if b.name == axis.name)} for axis in wide.axes}
    if any(len(found - {1}) > 1 for found in extents.values()):
        return None
    return TensorType(wide.dtype, tuple(Axis(name, max(found)) for name, found in extents.items()))


def repeated(a: TensorType, b: TensorType) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Where one operand has fewer axes, the attribute `axes`: their positions among those of the other."""
    wide, narrow = (a, b) if len(a.axes) >= len(b.axes) else (b, a)
    axes = tuple(wide.names.index(name) for name in narrow.names)
    return (("axes", axes),) if len(axes) < len(wide.axes) else ()


def unequal(op: str, a: TensorType, b: TensorType, *facts: str) -> OperandError:
    """E0303, with what differs."""
    differ = [name for name in a.names if name in b.names and a.extent(name) != b.extent(name)]
    found = (f"`{name}` is {a.extent(name)} on the left, {b.extent(name)} on the right" for name in differ)
    return OperandError("E0303", op=op, notes=(f"the left operand is {a}", f"the right operand is {b}", *found, *facts))


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
        splits=AXES,
        indexing=each_element,
    )


def _between(sign: str, a: TensorType, b: TensorType) -> Inferred:
    result = broadcast(a, b)
    if result is None:
        raise unequal(sign, a, b)
    return Inferred((result,), attrs=repeated(a, b))
