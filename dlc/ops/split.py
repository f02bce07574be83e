"""`split(n, axis = channel)`: a value cut along an axis into n equal parts, or into parts of the extents in a list."""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr
from dlc.ir.tensor import Axis, TensorType
from dlc.ops.attributes import extents
from dlc.ops.counting import moved
from dlc.ops.indexing import AXES, except_axis
from dlc.ops.operands import axis_position
from dlc.ops.operator import Gradient, Inferred, OperandError, Operator, Parameter


def _infer(operands: tuple[TensorType, ...], attrs: Mapping[str, Attr]) -> Inferred:
    """x -> a result for each part, E0333 where they do not fit; `n` becomes their extents and `axis` a position."""
    (x,) = operands
    position = axis_position("split", x, attrs["axis"])
    parts = _parts(attrs["n"], x.axes[position])
    name = x.names[position]
    results = tuple(x.with_extent(name, extent) for extent in parts)
    return Inferred(results, attrs=(("n", parts), ("axis", position)))


def _parts(n: Attr, axis: Axis) -> tuple[int, ...]:
    """The extents of the parts, which add up to that of the axis."""
    if isinstance(n, int):
        if axis.extent % n:
            helps = ("a list has the extent of each part: `split([3, 5])`",)
            raise OperandError("E0333", argument="n", axis=axis, fault=f"{n} equal ones do not", helps=helps)
        return (axis.extent // n,) * n
    found = extents({"n": n}, "n")
    if sum(found) != axis.extent:
        raise OperandError("E0333", argument="n", axis=axis, fault=f"these add up to {sum(found)}")
    return found


SPLIT = Operator(
    "split",
    _infer,
    moved,
    variadic_results=True,
    parameters=(Parameter("n", "counts", required=True, minimum=1), Parameter("axis", "axis", default="channel")),
    gradients=(Gradient("dx", ("dy",), ("x",)),),
    layout_free=("NHWC", "CHWN"),
    splits=AXES,
    indexing=except_axis,
)
