"""`perplexity(logits, label)`: e to the mean cross-entropy, over all samples of an evaluation and all their labels."""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr
from dlc.ir.tensor import TensorType
from dlc.ops.counting import by_rows, lg
from dlc.ops.indexing import AXES
from dlc.ops.labelled import by_label, classes, scalar
from dlc.ops.operator import Cost, Inferred, Operator, Shapes


def _infer(operands: tuple[TensorType, ...], _attrs: Mapping[str, Attr]) -> Inferred:
    """Logits [batch, …, classes] and label [batch, …] -> the sum over the samples of their mean cross-entropy."""
    logits, label = operands
    classes("perplexity", logits, label)
    return Inferred((scalar(logits),))


def _cost(_pass: str, shapes: Shapes) -> Cost:
    """A row of C: maximum and sum C − 1 each; subtract and exponential C each; then log and the sum over rows."""
    logits = shapes.inputs[0]
    length = logits.shape[-1]
    return by_rows(shapes, length, 4 * length, 2 * lg(length) + 4 + lg(logits.elements // length))


PERPLEXITY = Operator(
    "perplexity",
    _infer,
    _cost,
    operands=("logits", "label"),
    splits=AXES,
    indexing=by_label,
    role="metric",
    finish="exp",
)
