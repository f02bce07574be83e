"""`causal_mask`: scores of keys after the query become −∞, so that softmax gives them no weight."""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr
from dlc.ir.tensor import TensorType
from dlc.ops.counting import elementwise
from dlc.ops.indexing import AXES, Attributes, Indexing, Types, indexed, named
from dlc.ops.operands import floating
from dlc.ops.operator import Gradient, Inferred, OperandError, Operator


def _infer(operands: tuple[TensorType, ...], _attrs: Mapping[str, Attr]) -> Inferred:
    """Scores [batch, …, seq, key] -> y of the same axes; as many keys as queries (E0317)."""
    (x,) = operands
    floating("causal_mask", x)
    if len(x.axes) < 3:
        raise OperandError("E0301", operand=0, op="causal_mask", needed="axes of queries and keys", found=x)
    if x.shape[-1] != x.shape[-2]:
        raise OperandError("E0317", operand=0, found=x)
    return Inferred((x,))


def _indexing(types: Types, _attrs: Attributes) -> Indexing:
    """Every axis; what is masked depends on the places of queries and keys."""
    names = named(types["y"])
    return indexed(types, dict.fromkeys(types, names), positions=names[-2:])


CAUSAL_MASK = Operator(
    "causal_mask",
    _infer,
    elementwise,
    gradients=(Gradient("dx", ("dy",), ("x",)),),
    splits=AXES,
    indexing=_indexing,
)
