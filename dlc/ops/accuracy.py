"""`accuracy(logits, label, top = 1)`: how many samples have their label among the `top` largest logits."""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr
from dlc.ir.tensor import TensorType
from dlc.ops.attributes import integer
from dlc.ops.counting import by_rows, lg
from dlc.ops.indexing import AXES
from dlc.ops.labelled import by_label, classes, scalar
from dlc.ops.operator import Cost, Inferred, OperandError, Operator, Parameter, Shapes


def _infer(operands: tuple[TensorType, ...], attrs: Mapping[str, Attr]) -> Inferred:
    """Logits [batch, …, classes] and label [batch, …] -> a count, as a number of the logits' type."""
    logits, label = operands
    top, count = integer(attrs, "top"), classes("accuracy", logits, label)
    if top >= count:
        raise OperandError("E0315", argument="top", top=top, classes=count)
    return Inferred((scalar(logits),), attrs=(("top", top),))


def _cost(_pass: str, shapes: Shapes) -> Cost:
    """Each logit is compared with the label's; the hits are counted."""
    length = shapes.inputs[0].shape[-1]
    rows = shapes.inputs[0].elements // length
    return by_rows(shapes, length, length, 1 + lg(length) + lg(rows))


ACCURACY = Operator(
    "accuracy",
    _infer,
    _cost,
    operands=("logits", "label"),
    parameters=(Parameter("top", "int", default=1, minimum=1),),
    role="metric",
    splits=AXES,
    indexing=by_label,
)
