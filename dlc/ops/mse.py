"""`mse(prediction, target)` and `half_mse`: the mean of (prediction − target)², and half of it.

The mean is over all elements, as PyTorch's: the sum over the samples at hand is divided by `count`, the samples of the
global batch, and by the elements of one sample.
"""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr
from dlc.ir.tensor import TensorType
from dlc.ops.counting import lg, per_element, touched
from dlc.ops.labelled import scalar
from dlc.ops.operands import floating
from dlc.ops.operator import Cost, Gradient, Inferred, OperandError, Operator, Shapes


def _cost(pass_: str, shapes: Shapes) -> Cost:
    """Subtract, square and add each element; dx: subtract and scale."""
    if pass_ == "dx":
        return per_element(shapes, operations=2, depth=2)
    elements = shapes.inputs[0].elements
    return Cost(0, 3 * elements, lg(elements) + 2, touched(shapes))


def _squares(name: str) -> Operator:
    def infer(operands: tuple[TensorType, ...], _attrs: Mapping[str, Attr]) -> Inferred:
        """Two values of one shape -> a number."""
        prediction, target = operands
        floating(name, prediction, target)
        if prediction.shape != target.shape:
            notes = (f"the prediction is {prediction}", f"the target is {target}")
            raise OperandError("E0303", operand=1, op=name, notes=notes)
        return Inferred((scalar(prediction),))

    return Operator(
        name,
        infer,
        _cost,
        operands=("prediction", "target"),
        gradients=(Gradient("dx", ("dy", "prediction", "target"), ("prediction",)),),
        runtime=("count",),
        role="loss",
    )


MSE = _squares("mse")
HALF_MSE = _squares("half_mse")
