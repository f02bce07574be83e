"""Shapes of what compares logits with labels: losses and metrics of classification."""

from __future__ import annotations

from dlc.ir.tensor import TensorType
from dlc.ops.indexing import Attributes, Indexing, Types, indexed, named
from dlc.ops.operands import features, floating, integral
from dlc.ops.operator import OperandError


def classes(op: str, logits: TensorType, label: TensorType) -> int:
    """How many classes the logits' last axis holds; E0305, E0314 where the labels are not one integer a row."""
    floating(op, logits)
    count = features(op, logits)
    integral(op, label, operand=1)
    needed = TensorType(label.dtype, logits.axes[:-1])
    if label != needed:
        raise OperandError("E0314", operand=1, op=op, needed=needed, found=label)
    return count


def scalar(like: TensorType) -> TensorType:
    """A sum over the samples at hand: no axes."""
    return TensorType(like.dtype, ())


def by_label(types: Types, _attrs: Attributes) -> Indexing:
    """Of a sum over rows of logits, each with a label or a target row: samples, and the labels of a sample in equal
    parts, since the kernels take their mean."""
    rows = named(types["logits"])[:-1]
    along = dict.fromkeys(("logits", "target", "difference"), (*rows, ""))
    return indexed(types, {**along, "label": rows}, whole=rows[1:], averaged=rows[1:])
