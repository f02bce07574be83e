"""`a @ b`: contracts the left's last axis with the right's last but one, for every index of the axes before them."""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr
from dlc.ir.tensor import BATCH, TensorType
from dlc.ops.broadcasting import broadcast, repeated, unequal
from dlc.ops.counting import lg, touched
from dlc.ops.extents import larger
from dlc.ops.indexing import AXES, Along, Attributes, Indexing, Types, beside, indexed, named
from dlc.ops.operands import distinct, floating
from dlc.ops.operator import Cost, Gradient, Inferred, OperandError, Operator, Shapes


def _infer(operands: tuple[TensorType, ...], _attrs: Mapping[str, Attr]) -> Inferred:
    """a [batch, …, m, k] and b [batch, …, k, n] -> y [batch, …, m, n]; E0321 where they do not fit, E0313.

    The axes before the last two broadcast by name; where one operand has fewer, `axes` are their positions.
    """
    a, b = operands
    floating("@", a, b)
    for index, x in enumerate(operands):
        if len(x.axes) < 2 + x.batched or BATCH in x.names[-2:]:
            raise OperandError("E0301", operand=index, op="@", needed="two axes besides the batch", found=x)
    if a.shape[-1] != b.shape[-2]:
        notes = (f"the left operand is {a}", f"the right operand is {b}")
        raise OperandError("E0321", left=a.axes[-1], right=b.axes[-2], notes=notes)
    left, right = _matrices(a), _matrices(b)
    leading = broadcast(left, right)
    if leading is None:
        raise unequal("@", a, b, "the axes before the last two number the products")
    result = TensorType(a.dtype, (*leading.axes, a.axes[-2], b.axes[-1]))
    return Inferred((distinct("@", result),), attrs=repeated(left, right))


def _matrices(x: TensorType) -> TensorType:
    """The axes that number the matrices."""
    return TensorType(x.dtype, x.axes[:-2])


def _cost(pass_: str, shapes: Shapes) -> Cost:
    """y.elements·k, as for a fully connected layer; dx, the gradients of both operands, twice that."""
    if pass_ == "forward":
        k = shapes.inputs[0].shape[-1]
        macs, depth = shapes.outputs[0].elements * k, lg(k)
    else:
        dy, a, _b = shapes.inputs
        macs, depth = 2 * dy.elements * a.shape[-1], lg(larger(*dy.shape[-2:]))
    return Cost(macs, macs, depth, touched(shapes))


def _indexing(types: Types, _attrs: Attributes) -> Indexing:
    """The axes of y, and `reduce`, which is contracted; an operand that is repeated along an axis has none there."""
    a, b, y = types["a"], types["b"], types["y"]
    *numbers, row, column = named(y)
    leading = _matrices(y)

    def before(operand: TensorType) -> Along:
        return beside(_matrices(operand), leading, tuple(numbers))

    along = {"y": (*numbers, row, column), "a": (*before(a), row, "reduce"), "b": (*before(b), "reduce", column)}
    return indexed(types, along)


MATMUL = Operator(
    "matmul",
    _infer,
    _cost,
    operands=("a", "b"),
    gradients=(Gradient("dx", ("dy", "a", "b"), ("a", "b")),),
    splits=(*AXES, "reduce"),
    indexing=_indexing,
)
