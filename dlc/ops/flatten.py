"""`flatten`: joins all axes but the batch into one, `feature`."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from dlc.ir.graph import Attr
from dlc.ir.tensor import Axis, TensorType
from dlc.ops.counting import renamed
from dlc.ops.indexing import AXES, joined
from dlc.ops.operands import features
from dlc.ops.operator import Gradient, Inferred, Operator


def _infer(operands: tuple[TensorType, ...], _attrs: Mapping[str, Attr]) -> Inferred:
    """x [batch, a, b, …] -> y [batch, feature = a·b·…]; a value without a batch becomes [feature]."""
    (x,) = operands
    features("flatten", x)
    kept = x.axes[: x.batched]
    return Inferred((TensorType(x.dtype, (*kept, Axis("feature", prod(x.shape[len(kept) :])))),))


FLATTEN = Operator(
    "flatten",
    _infer,
    renamed,
    gradients=(Gradient("dx", ("dy",), ("x",)),),
    view=True,
    splits=AXES,
    indexing=joined,
)
