"""`transpose`: swaps the last two axes and renames `seq` to `key`, so that `q @ transpose(k)` has both."""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr
from dlc.ir.tensor import BATCH, Axis, TensorType
from dlc.ops.counting import moved
from dlc.ops.operator import Gradient, Inferred, OperandError, Operator


def _infer(operands: tuple[TensorType, ...], _attrs: Mapping[str, Attr]) -> Inferred:
    """x [batch, …, seq, width] -> y [batch, …, width, key]; scores, which have a `key` already, keep both names."""
    (x,) = operands
    if len(x.axes) < 3 or BATCH in x.names[-2:]:
        raise OperandError("E0301", operand=0, op="transpose", needed="two axes besides the batch", found=x)
    renamed = {} if "key" in x.names else {"seq": "key"}
    swapped = tuple(Axis(renamed.get(axis.name, axis.name), axis.extent) for axis in (x.axes[-1], x.axes[-2]))
    return Inferred((TensorType(x.dtype, (*x.axes[:-2], *swapped)),))


TRANSPOSE = Operator(
    "transpose",
    _infer,
    moved,
    gradients=(Gradient("dx", ("dy",), ("x",)),),
    splits=("batch", "heads", "seq", "key"),
)
