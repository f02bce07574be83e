"""`global_avgpool`: the mean of each channel's image; all axes behind the channels become 1."""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr
from dlc.ir.tensor import TensorType
from dlc.ops.operator import Gradient, Inferred, Operator
from dlc.ops.pooling import global_cost, pooled_whole


def _infer(operands: tuple[TensorType, ...], _attrs: Mapping[str, Attr]) -> Inferred:
    """x [batch, channel, …] -> y [batch, channel, 1, …]."""
    return Inferred((pooled_whole("global_avgpool", operands[0]),))


GLOBAL_AVGPOOL = Operator(
    "global_avgpool",
    _infer,
    global_cost,
    gradients=(Gradient("dx", ("dy",), ("x",)),),
    layout_free=("NHWC", "CHWN"),
    splits=("batch", "channel"),
)
