"""Losses that compare two values of one shape element by element, and give a gradient for each of them."""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr
from dlc.ir.tensor import TensorType
from dlc.ops.attributes import number
from dlc.ops.counting import lg, per_element, touched
from dlc.ops.indexing import AXES, Attributes, Indexing, Types, indexed, named
from dlc.ops.labelled import scalar
from dlc.ops.operands import floating
from dlc.ops.operator import Cost, Gradient, Inferred, OperandError, Operator, Parameter, Shapes


def comparison(
    name: str,
    *,
    prediction: str = "prediction",
    parameters: tuple[Parameter, ...] = (),
    operations: int = 3,
    backward: int = 2,
) -> Operator:
    """A loss of so many operations an element, one behind the other; the last forward one adds the elements up.

    Its arguments are numbers. `dx` is the gradient by the first operand, which is called `prediction`, and `dt` that
    by the target.
    """

    def infer(operands: tuple[TensorType, ...], attrs: Mapping[str, Attr]) -> Inferred:
        """Two values of one shape -> a number."""
        equal(name, prediction, *operands)
        return Inferred((scalar(operands[0]),), attrs=tuple((p.name, number(attrs, p.name)) for p in parameters))

    def cost(pass_: str, shapes: Shapes) -> Cost:
        if pass_ in ("dx", "dt"):
            return per_element(shapes, operations=backward, depth=backward)
        elements = shapes.inputs[0].elements
        return Cost(0, operations * elements, lg(elements) + operations - 1, touched(shapes))

    def indexing(types: Types, _attrs: Attributes) -> Indexing:
        """Every axis; the elements of a sample in equal parts, since the kernels take their mean."""
        names = named(types[prediction])
        return indexed(types, {prediction: names, "target": names}, whole=names[1:], averaged=names[1:])

    return Operator(
        name,
        infer,
        cost,
        operands=(prediction, "target"),
        parameters=parameters,
        gradients=by_both(prediction),
        runtime=("count",),
        splits=AXES,
        indexing=indexing,
        role="loss",
    )


def equal(op: str, name: str, first: TensorType, target: TensorType) -> None:
    """Refuse operands of different shapes (E0303), the first called `name`; names of axes may differ."""
    floating(op, first, target)
    if first.shape != target.shape:
        notes = (f"`{name}` is {first}", f"`target` is {target}")
        same = op in ("mse", "half_mse") and first.elements == target.elements
        helps = ("`reconstruction` compares values with as many elements a sample, however they are arranged",)
        raise OperandError("E0303", operand=1, op=op, notes=notes, helps=helps if same else ())


def by_both(prediction: str, *saved: str) -> tuple[Gradient, Gradient]:
    """The gradients by the first operand and by the target; `saved` takes the operands' place in `dx`."""
    operands = (prediction, "target")
    return Gradient("dx", ("dy", *(saved or operands)), operands[:1]), Gradient("dt", ("dy", *operands), operands[1:])
