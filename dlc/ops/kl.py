"""`kl(logits, target, temperature = 1)`: how far softmax(logits/T) is from softmax(target/T), times T²: distillation.

For a row with p = softmax(target/T) and q = softmax(logits/T): T²·Σ p·(log p − log q), the Kullback-Leibler divergence
KL(p ‖ q); the mean over the rows. For [batch, classes] that is PyTorch's kl_div with reduction "batchmean" on
log_softmax. T² keeps the gradient's size whatever T is (G. Hinton, O. Vinyals, J. Dean, *Distilling the Knowledge in a
Neural Network*, 2015). Gradients: T·(q − p) by the logits, T·p·(log p − log q − KL(p ‖ q)) by the target.
"""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr
from dlc.ir.tensor import TensorType
from dlc.ops.attributes import number
from dlc.ops.compared import by_both, equal
from dlc.ops.counting import lg, per_element, touched
from dlc.ops.indexing import AXES
from dlc.ops.labelled import by_label, scalar
from dlc.ops.operands import features
from dlc.ops.operator import Cost, Inferred, Operator, Parameter, Shapes


def _infer(operands: tuple[TensorType, ...], attrs: Mapping[str, Attr]) -> Inferred:
    """Logits of pupil and teacher -> the loss, and q − p for the backward pass."""
    logits, target = operands
    features("kl", logits)
    equal("kl", "logits", logits, target)
    temperature = ("temperature", number(attrs, "temperature"))
    return Inferred((scalar(logits),), attrs=(temperature,), saved=(("difference", logits),))


def _cost(pass_: str, shapes: Shapes) -> Cost:
    """Two softmaxes of 5 operations an element with their logarithms, then subtract, multiply and add up.

    dx scales what is saved; dt does as much as the forward pass.
    """
    if pass_ == "dx":
        return per_element(shapes, operations=1, depth=1)
    logits = shapes.inputs[-1]
    length = logits.shape[-1]
    return Cost(0, 15 * logits.elements, 2 * lg(length) + 7 + lg(logits.elements), touched(shapes))


KL = Operator(
    "kl",
    _infer,
    _cost,
    operands=("logits", "target"),
    parameters=(Parameter("temperature", "number", default=1.0, above=0),),
    saved=("difference",),
    gradients=by_both("logits", "difference"),
    runtime=("count",),
    splits=AXES,
    indexing=by_label,
    role="loss",
)
