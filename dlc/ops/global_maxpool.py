"""`global_maxpool`: the largest element of each channel's image, the first of equal ones.

`indices` keeps which element that was, counted in row-major order.
"""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr
from dlc.ir.tensor import TensorType
from dlc.ops.operator import Gradient, Inferred, Operator
from dlc.ops.pooling import global_cost, pooled_whole
from dlc.ops.window_indexing import channelwise


def _infer(operands: tuple[TensorType, ...], _attrs: Mapping[str, Attr]) -> Inferred:
    """x [batch, channel, …] -> y [batch, channel, 1, …] and the indices, i32 of y's axes."""
    y = pooled_whole("global_maxpool", operands[0])
    return Inferred((y,), saved=(("indices", y.with_dtype("i32")),))


GLOBAL_MAXPOOL = Operator(
    "global_maxpool",
    _infer,
    global_cost,
    saved=("indices",),
    gradients=(Gradient("dx", ("dy", "indices"), ("x",)),),
    layout_free=("NHWC", "CHWN"),
    blocked=True,
    splits=("batch", "channel"),
    indexing=channelwise,
)
