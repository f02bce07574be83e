"""`cross_entropy(logits, label, smoothing = 0)`: −log softmax(logits) at the label, as PyTorch's.

With smoothing s of C classes the target is (1 − s) at the label plus s/C everywhere. The result sums the losses of
the samples at hand and divides by `count`, the samples of the global batch, so that shards add up to the mean.
"""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr
from dlc.ir.tensor import TensorType
from dlc.ops.attributes import number
from dlc.ops.counting import by_rows, lg, per_element
from dlc.ops.indexing import AXES, Attributes, Exchange, Indexing, Types, indexed, named
from dlc.ops.labelled import classes, scalar
from dlc.ops.operator import Cost, Gradient, Inferred, Operator, Parameter, Shapes


def _infer(operands: tuple[TensorType, ...], attrs: Mapping[str, Attr]) -> Inferred:
    """Logits [batch, …, classes] and label [batch, …] -> the loss, and the probabilities for the backward pass."""
    logits, label = operands
    classes("cross_entropy", logits, label)
    smoothing = ("smoothing", number(attrs, "smoothing"))
    return Inferred((scalar(logits),), attrs=(smoothing,), saved=(("probabilities", logits),))


def _cost(pass_: str, shapes: Shapes) -> Cost:
    """Forward, a row of C: maximum and sum C − 1 each; subtract, exponential, divide C each; then log and the sum.

    dx: subtract the target from the probabilities, scale.
    """
    if pass_ == "dx":
        return per_element(shapes, operations=2, depth=2)
    logits = shapes.inputs[0]
    length = logits.shape[-1]
    return by_rows(shapes, length, 5 * length, 2 * lg(length) + 4 + lg(logits.elements // length))


def _indexing(types: Types, _attrs: Attributes) -> Indexing:
    """Samples, and labels of a sample as in `dlc.ops.labelled`; by classes (`feature`) too: then the largest logit of
    each row and its sum of exponentials are found over the ranks, and the label is looked for among a part's classes.
    """
    *rows, classes_ = named(types["logits"])
    logits = types["logits"]
    return indexed(
        types,
        {"logits": (*rows, classes_), "probabilities": (*rows, classes_), "label": tuple(rows)},
        whole=rows[1:],
        averaged=tuple(rows[1:]),
        positions=(classes_,),
        exchanges=(
            Exchange("forward", (classes_,), logits.elements // logits.shape[-1], tuple(rows), times=2, largest=True),
        ),
    )


CROSS_ENTROPY = Operator(
    "cross_entropy",
    _infer,
    _cost,
    operands=("logits", "label"),
    parameters=(Parameter("smoothing", "number", default=0.0, minimum=0, below=1),),
    saved=("probabilities",),
    gradients=(Gradient("dx", ("dy", "probabilities", "label"), ("logits",)),),
    runtime=("count",),
    splits=AXES,
    indexing=_indexing,
    role="loss",
)
