"""`parameter(shape, axes = …, value = 0)`: a weight that is a value by itself, the same for all samples.

It has no batch; with what it is added to or multiplied by, it is repeated along the axes that it does not have:
`x * parameter([64], axes = channel, value = 1)` scales channels.
"""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr, Init
from dlc.ir.tensor import Axis, TensorType
from dlc.ops.attributes import extents, number
from dlc.ops.counting import moved
from dlc.ops.embedding import DTYPE
from dlc.ops.indexing import AXES, elementwise
from dlc.ops.operands import distinct
from dlc.ops.operator import Gradient, Inferred, Operator, Parameter, Weight
from dlc.ops.reshape import sample_axes


def _infer(_operands: tuple[TensorType, ...], attrs: Mapping[str, Attr]) -> Inferred:
    """y [*shape] and the weight of the same type, `value` at first; E0301 and E0313 for names that do not fit."""
    shape = extents(attrs, "shape")
    names = sample_axes("parameter", shape, attrs)
    axes = tuple(Axis(name, extent) for name, extent in zip(names, shape, strict=True))
    y = distinct("parameter", TensorType(DTYPE, axes))
    value = number(attrs, "value")
    weight = Weight("weight", y, Init("constant", value=value))
    return Inferred((y,), attrs=(("shape", shape), ("axes", names), ("value", value)), weights=(weight,))


PARAMETER = Operator(
    "parameter",
    _infer,
    moved,
    operands=(),
    parameters=(
        Parameter("shape", "shape", required=True, minimum=1),
        Parameter("axes", "axes"),
        Parameter("value", "number", default=0.0),
    ),
    weights=("weight",),
    gradients=(Gradient("dw", ("dy",), ("weight",)),),
    splits=AXES,
    indexing=elementwise,
)
