"""`split_heads(heads)` and its inverse `merge_heads`: the last axis cut into heads, each a sequence of its own."""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr
from dlc.ir.tensor import Axis, TensorType
from dlc.ops.attributes import integer
from dlc.ops.counting import moved
from dlc.ops.indexing import Along, Attributes, Indexing, Types, indexed, named
from dlc.ops.operands import floating
from dlc.ops.operator import Gradient, Inferred, OperandError, Operator, Parameter


def _infer_split(operands: tuple[TensorType, ...], attrs: Mapping[str, Attr]) -> Inferred:
    """x [batch, seq, width] -> y [batch, heads, seq, width / heads]; E0309 where the heads do not divide the width."""
    (x,) = operands
    floating("split_heads", x)
    if len(x.axes) != 3 or not x.batched:
        raise OperandError("E0301", operand=0, op="split_heads", needed="batch, a sequence and features", found=x)
    heads, (batch, seq, width) = integer(attrs, "heads"), x.axes
    if width.extent % heads:
        raise OperandError("E0309", argument="heads", heads=heads, width=width.extent)
    axes = (batch, Axis("heads", heads), seq, Axis(width.name, width.extent // heads))
    return Inferred((TensorType(x.dtype, axes),), (("heads", heads),))


def _infer_merge(operands: tuple[TensorType, ...], _attrs: Mapping[str, Attr]) -> Inferred:
    """x [batch, heads, seq, width] -> y [batch, seq, heads·width]."""
    (x,) = operands
    floating("merge_heads", x)
    if len(x.axes) != 4 or x.names[1] != "heads":
        raise OperandError(
            "E0301", operand=0, op="merge_heads", needed="batch, heads, a sequence and features", found=x
        )
    batch, heads, seq, width = x.axes
    return Inferred((TensorType(x.dtype, (batch, seq, Axis(width.name, heads.extent * width.extent))),))


def _indexing(types: Types, attrs: Attributes) -> Indexing:
    """Whole heads, side by side in the one value and an axis of the other."""
    apart, merged = ("y", "x") if "heads" in attrs else ("x", "y")
    batch, heads, seq, _ = named(types[apart])
    along: dict[str, Along] = {apart: (batch, heads, seq, ""), merged: (batch, seq, heads)}
    return indexed(types, along, whole=(heads,), counts={"heads": heads} if "heads" in attrs else None)


SPLIT_HEADS = Operator(
    "split_heads",
    _infer_split,
    moved,
    parameters=(Parameter("heads", "int", required=True, minimum=1),),
    gradients=(Gradient("dx", ("dy",), ("x",)),),
    splits=("batch", "heads", "seq"),
    indexing=_indexing,
)

MERGE_HEADS = Operator(
    "merge_heads",
    _infer_merge,
    moved,
    gradients=(Gradient("dx", ("dy",), ("x",)),),
    splits=("batch", "heads", "seq"),
    indexing=_indexing,
)
