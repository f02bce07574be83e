"""Activations: one function of each element, whose gradient follows from the result or from the operand."""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr
from dlc.ir.tensor import TensorType
from dlc.ops.counting import elementwise
from dlc.ops.indexing import AXES
from dlc.ops.indexing import elementwise as each_element
from dlc.ops.operands import floating
from dlc.ops.operator import Gradient, Inferred, Operator, Parameter


def activation(name: str, *, parameters: tuple[Parameter, ...] = (), needs: str = "y") -> Operator:
    """An elementwise operator of one operand; its gradient needs dy and y, or the operand itself."""

    def infer(operands: tuple[TensorType, ...], attrs: Mapping[str, Attr]) -> Inferred:
        (x,) = operands
        floating(name, x)
        return Inferred((x,), attrs=tuple((parameter.name, attrs[parameter.name]) for parameter in parameters))

    return Operator(
        name,
        infer,
        elementwise,
        parameters=parameters,
        gradients=(Gradient("dx", ("dy", needs), ("x",)),),
        elementwise=True,
        splits=AXES,
        indexing=each_element,
    )
