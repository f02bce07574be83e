"""`avgpool(window, stride = window, pad = 0, ceil = no, count_pad = yes)`: the mean of each window.

With `count_pad` pads count as zeros in the mean, without it only elements of the input count (PyTorch's AvgPool).
"""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr
from dlc.ir.tensor import TensorType
from dlc.ops.attributes import flag
from dlc.ops.operator import Gradient, Inferred, Operator, Parameter
from dlc.ops.pooling import PARAMETERS, pool_cost, pooled
from dlc.ops.window_indexing import pooling
from dlc.ops.windows import SPLITS


def _infer(operands: tuple[TensorType, ...], attrs: Mapping[str, Attr]) -> Inferred:
    """x [batch, channel, …] -> y with an entry a window."""
    y, normalised = pooled("avgpool", operands[0], attrs)
    return Inferred((y,), attrs=(*normalised, ("count_pad", flag(attrs, "count_pad"))))


AVGPOOL = Operator(
    "avgpool",
    _infer,
    pool_cost,
    parameters=(*PARAMETERS, Parameter("count_pad", "bool", default=True)),
    gradients=(Gradient("dx", ("dy",), ("x",)),),
    layout_free=("NHWC", "CHWN"),
    blocked=True,
    splits=SPLITS,
    indexing=pooling,
)
