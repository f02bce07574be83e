"""`hinge(logits, label)`: the multi-class margin loss, as PyTorch's MultiMarginLoss with p = 1 and margin 1.

For a row x of C logits with label t: Σ max(0, 1 − x[t] + x[j])/C over all j ≠ t; the mean over the rows. The gradient
of x[j] is 1/C where the margin is missed, that of x[t] minus their sum.
"""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr
from dlc.ir.tensor import TensorType
from dlc.ops.counting import by_rows, lg, per_element
from dlc.ops.indexing import AXES
from dlc.ops.labelled import by_label, classes, scalar
from dlc.ops.operator import Cost, Gradient, Inferred, Operator, Shapes


def _infer(operands: tuple[TensorType, ...], _attrs: Mapping[str, Attr]) -> Inferred:
    """Logits [batch, …, classes] and label [batch, …] -> the loss."""
    logits, label = operands
    classes("hinge", logits, label)
    return Inferred((scalar(logits),))


def _cost(pass_: str, shapes: Shapes) -> Cost:
    """Subtract, add the margin, compare with 0 and add up; dx: the same comparison, a count of each row, and scale."""
    if pass_ == "dx":
        return per_element(shapes, operations=5, depth=4 + lg(shapes.outputs[0].shape[-1]))
    logits = shapes.inputs[0]
    length = logits.shape[-1]
    return by_rows(shapes, length, 4 * length, 3 + lg(logits.elements))


HINGE = Operator(
    "hinge",
    _infer,
    _cost,
    operands=("logits", "label"),
    gradients=(Gradient("dx", ("dy", "logits", "label"), ("logits",)),),
    runtime=("count",),
    role="loss",
    splits=AXES,
    indexing=by_label,
)
