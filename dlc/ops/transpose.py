"""`transpose(order = …)`: swaps the last two axes and renames `seq` to `key`, so that `q @ transpose(k)` has both.

With an order, the axes behind the batch stand in that order, under their own names.
"""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr
from dlc.ir.tensor import BATCH, Axis, TensorType
from dlc.ops.counting import moved
from dlc.ops.indexing import AXES, Attributes, Indexing, Types, indexed, named
from dlc.ops.operands import axis_positions
from dlc.ops.operator import Gradient, Inferred, OperandError, Operator, Parameter


def _infer(operands: tuple[TensorType, ...], attrs: Mapping[str, Attr]) -> Inferred:
    """x [batch, …, seq, width] -> y [batch, …, width, key]; scores, which have a `key` already, keep both names.

    With an order, E0331 where it is not each axis behind the batch, once; it becomes positions in logical order.
    """
    (x,) = operands
    if "order" in attrs:
        return _ordered(x, attrs["order"])
    if len(x.axes) < 2 + x.batched or BATCH in x.names[-2:]:
        raise OperandError("E0301", operand=0, op="transpose", needed="two axes besides the batch", found=x)
    renamed = {} if "key" in x.names else {"seq": "key"}
    swapped = tuple(Axis(renamed.get(axis.name, axis.name), axis.extent) for axis in (x.axes[-1], x.axes[-2]))
    return Inferred((TensorType(x.dtype, (*x.axes[:-2], *swapped)),))


def _ordered(x: TensorType, order: Attr) -> Inferred:
    behind = order[1:] if x.batched and isinstance(order, tuple) and order[:1] in ((BATCH,), (0,)) else order
    positions = (*range(x.batched), *axis_positions("transpose", x, behind, argument="order"))
    if len(positions) < len(x.axes):
        raise OperandError("E0331", argument="order", needed=", ".join(x.names[x.batched :]))
    return Inferred((TensorType(x.dtype, tuple(x.axes[at] for at in positions)),), attrs=(("order", positions),))


def _indexing(types: Types, attrs: Attributes) -> Indexing:
    """The axes of y, in x in another order."""
    names = named(types["y"])
    last = len(names) - 1
    order = attrs.get("order", (*range(last - 1), last, last - 1))
    assert isinstance(order, tuple)
    return indexed(types, {"y": names, "x": tuple(names[order.index(at)] for at in range(len(names)))})


TRANSPOSE = Operator(
    "transpose",
    _infer,
    moved,
    parameters=(Parameter("order", "axes"),),
    gradients=(Gradient("dx", ("dy",), ("x",)),),
    splits=AXES,
    indexing=_indexing,
)
