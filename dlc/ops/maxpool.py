"""`maxpool(window, stride = window, pad = 0, ceil = no)`: the largest element of each window, the first of equal ones.

`indices` keeps which element that was, counted inside its window in row-major order. Pads never win.
"""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr
from dlc.ir.tensor import TensorType
from dlc.ops.operator import Gradient, Inferred, Operator
from dlc.ops.pooling import PARAMETERS, pool_cost, pooled
from dlc.ops.window_indexing import pooling
from dlc.ops.windows import SPLITS


def _infer(operands: tuple[TensorType, ...], attrs: Mapping[str, Attr]) -> Inferred:
    """x [batch, channel, …] -> y with an entry a window, and the indices, i32 of y's axes."""
    y, normalised = pooled("maxpool", operands[0], attrs)
    return Inferred((y,), attrs=normalised, saved=(("indices", y.with_dtype("i32")),))


MAXPOOL = Operator(
    "maxpool",
    _infer,
    pool_cost,
    parameters=PARAMETERS,
    saved=("indices",),
    gradients=(Gradient("dx", ("dy", "indices"), ("x",)),),
    layout_free=("NHWC", "CHWN"),
    blocked=True,
    splits=SPLITS,
    indexing=pooling,
)
