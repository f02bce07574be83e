"""`reshape(shape)`: the numbers of each sample, in their order, under other axes."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from dlc.ir.graph import Attr
from dlc.ir.tensor import Axis, TensorType
from dlc.ops.attributes import extents
from dlc.ops.counting import renamed
from dlc.ops.operands import features
from dlc.ops.operator import Gradient, Inferred, OperandError, Operator, Parameter

NAMES = {1: ("feature",), 2: ("seq", "width"), 3: ("channel", "height", "width")}
"""What the axes of a sample are called, by their number."""


def _infer(operands: tuple[TensorType, ...], attrs: Mapping[str, Attr]) -> Inferred:
    """x [batch, …] -> y [batch, *shape]; E0304 where the counts differ, E0301 for more than three axes."""
    (x,) = operands
    features("reshape", x)
    shape = extents(attrs, "shape")
    if len(shape) not in NAMES:
        raise OperandError(
            "E0301", argument="shape", op="reshape", needed="a shape of one, two or three numbers", found=len(shape)
        )
    found, written = prod(x.shape[1:]), f"[{', '.join(map(str, shape))}]"
    if prod(shape) != found:
        raise OperandError("E0304", argument="shape", shape=written, needed=prod(shape), found=found)
    axes = (Axis(name, extent) for name, extent in zip(NAMES[len(shape)], shape, strict=True))
    return Inferred((TensorType(x.dtype, (x.axes[0], *axes)),), attrs=(("shape", shape),))


RESHAPE = Operator(
    "reshape",
    _infer,
    renamed,
    parameters=(Parameter("shape", "shape", required=True, minimum=1),),
    gradients=(Gradient("dx", ("dy",), ("x",)),),
    view=True,
)
