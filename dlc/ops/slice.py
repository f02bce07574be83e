"""`slice(axis, start = …, stop = …, step = 1)`: every step-th element from `start` up to, but not including, `stop`.

As in Python, bounds below zero count from the end and a step below zero goes backwards; what is not given is all the
way.
"""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr, Attrs
from dlc.ir.tensor import TensorType
from dlc.ops.attributes import integer
from dlc.ops.counting import moved
from dlc.ops.indexing import AXES, except_axis
from dlc.ops.operands import axis_position
from dlc.ops.operator import Gradient, Inferred, OperandError, Operator, Parameter


def _infer(operands: tuple[TensorType, ...], attrs: Mapping[str, Attr]) -> Inferred:
    """x -> y with fewer elements along an axis; E0332 for bounds outside x, a step of 0, and where nothing is left.

    Attributes become positions from 0 up; `stop` is left away where a step below zero goes as far as the first element.
    """
    (x,) = operands
    position = axis_position("slice", x, attrs["axis"])
    axis = x.axes[position]
    step = integer(attrs, "step")
    bounds = {name: integer(attrs, name) for name in ("start", "stop") if name in attrs}
    for name, bound in bounds.items():
        if not -axis.extent <= bound <= axis.extent:
            raise OperandError("E0332", argument=name, axis=axis, fault=f"`{name}` is {bound}")
    if step == 0:
        raise OperandError("E0332", argument="step", axis=axis, fault="the step is 0")
    start, stop, _ = slice(bounds.get("start"), bounds.get("stop"), step).indices(axis.extent)
    extent = len(range(start, stop, step))
    if extent == 0:
        raise OperandError("E0332", axis=axis, fault=f"from {start} to {stop} by {step} there are none")
    made: Attrs = (("axis", position), ("start", start), *((("stop", stop),) if stop >= 0 else ()), ("step", step))
    return Inferred((x.with_extent(axis.name, extent),), attrs=made)


SLICE = Operator(
    "slice",
    _infer,
    moved,
    parameters=(
        Parameter("axis", "axis", required=True),
        Parameter("start", "int"),
        Parameter("stop", "int"),
        Parameter("step", "int", default=1),
    ),
    gradients=(Gradient("dx", ("dy",), ("x",)),),
    layout_free=("NHWC", "CHWN"),
    splits=AXES,
    indexing=except_axis,
)
