"""`global_avgpool`: the mean of each channel's image; all axes behind the channels become 1."""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr
from dlc.ir.tensor import TensorType
from dlc.ops.indexing import Attributes, Indexing, Types, indexed
from dlc.ops.operator import Gradient, Inferred, Operator
from dlc.ops.pooling import global_cost, pooled_whole
from dlc.ops.window_indexing import image_axes
from dlc.ops.windows import SPLITS


def _infer(operands: tuple[TensorType, ...], _attrs: Mapping[str, Attr]) -> Inferred:
    """x [batch, channel, …] -> y [batch, channel, 1, …]."""
    return Inferred((pooled_whole("global_avgpool", operands[0]),))


def _indexing(types: Types, _attrs: Attributes) -> Indexing:
    """Where rows are split, y is a sum of the parts' means."""
    batch, channel, *spatial = image_axes(types["x"])
    pooled = (batch, channel, *("",) * len(spatial))
    return indexed(types, {"y": pooled, "x": (batch, channel, *spatial)}, whole=spatial, averaged=tuple(spatial))


GLOBAL_AVGPOOL = Operator(
    "global_avgpool",
    _infer,
    global_cost,
    gradients=(Gradient("dx", ("dy",), ("x",)),),
    layout_free=("NHWC", "CHWN"),
    blocked=True,
    splits=SPLITS,
    indexing=_indexing,
)
