"""`a @ b`: contracts the left's last axis with the right's last but one, for every index of the axes before them."""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr
from dlc.ir.tensor import BATCH, TensorType
from dlc.ops.counting import lg, touched
from dlc.ops.operands import distinct, floating
from dlc.ops.operator import Cost, Gradient, Inferred, OperandError, Operator, Shapes


def _infer(operands: tuple[TensorType, ...], _attrs: Mapping[str, Attr]) -> Inferred:
    """a [batch, …, m, k] and b [batch, …, k, n] -> y [batch, …, m, n]; E0321 where they do not fit, E0313."""
    a, b = operands
    floating("@", a, b)
    for index, x in enumerate(operands):
        if len(x.axes) < 3 or BATCH in x.names[-2:]:
            raise OperandError("E0301", operand=index, op="@", needed="two axes besides the batch", found=x)
    if a.shape[-1] != b.shape[-2]:
        raise OperandError("E0321", left=a.axes[-1], right=b.axes[-2], notes=_both(a, b))
    if a.axes[:-2] != b.axes[:-2]:
        raise OperandError("E0303", op="@", notes=(*_both(a, b), "all axes before the last two must be the same"))
    return Inferred((distinct("@", TensorType(a.dtype, (*a.axes[:-1], b.axes[-1]))),))


def _both(a: TensorType, b: TensorType) -> tuple[str, str]:
    return (f"the left operand is {a}", f"the right operand is {b}")


def _cost(pass_: str, shapes: Shapes) -> Cost:
    """y.elements·k, as for a fully connected layer; dx, the gradients of both operands, twice that."""
    if pass_ == "forward":
        k = shapes.inputs[0].shape[-1]
        macs, depth = shapes.outputs[0].elements * k, lg(k)
    else:
        dy, a, _b = shapes.inputs
        macs, depth = 2 * dy.elements * a.shape[-1], max(map(lg, dy.shape[-2:]))
    return Cost(macs, macs, depth, touched(shapes))


MATMUL = Operator(
    "matmul",
    _infer,
    _cost,
    operands=("a", "b"),
    gradients=(Gradient("dx", ("dy", "a", "b"), ("a", "b")),),
    splits=("batch", "heads", "seq", "feature", "reduce"),
)
