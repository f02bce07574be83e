"""`embedding(vocab, width)` and `position_embedding(width)`: a row of a table for each token, for each position."""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr, Init
from dlc.ir.tensor import Axis, TensorType, tensor
from dlc.ops.attributes import integer
from dlc.ops.counting import lg, touched
from dlc.ops.indexing import AXES, Attributes, Indexing, Types, indexed, named
from dlc.ops.operands import FLOATING, distinct, features, integral
from dlc.ops.operator import Cost, Gradient, Inferred, Operator, Parameter, Shapes, Weight

DTYPE = "f32"
"""Tables hold f32; `precision` changes that afterwards, as for every weight."""


def _infer_embedding(operands: tuple[TensorType, ...], attrs: Mapping[str, Attr]) -> Inferred:
    """Tokens [batch, …] -> y [batch, …, width]; weight [vocab, width], normal(0, 1) as PyTorch's."""
    (x,) = operands
    integral("embedding", x)
    vocab, width = integer(attrs, "vocab"), integer(attrs, "width")
    weight = tensor(DTYPE, vocab=vocab, width=width)
    return Inferred((_widened("embedding", x, width),), (("vocab", vocab), ("width", width)), (_table(weight),))


def _infer_position_embedding(operands: tuple[TensorType, ...], attrs: Mapping[str, Attr]) -> Inferred:
    """Anything [batch, …, seq] -> y [batch, …, seq, width], the same for all samples; weight [seq, width]."""
    (x,) = operands
    seq, width = features("position_embedding", x), integer(attrs, "width")
    dtype = x.dtype if x.dtype in FLOATING else DTYPE
    weight = tensor(dtype, seq=seq, width=width)
    return Inferred((_widened("position_embedding", x, width, dtype),), (("width", width),), (_table(weight),))


def _widened(op: str, x: TensorType, width: int, dtype: str = DTYPE) -> TensorType:
    return distinct(op, TensorType(dtype, (*x.axes, Axis("width", width))))


def _table(weight: TensorType) -> Weight:
    rows, width = weight.shape
    return Weight("weight", weight, Init("normal", fan_in=width, fan_out=rows, value=1.0))


def _cost(pass_: str, shapes: Shapes) -> Cost:
    """Rows are copied: no arithmetic, and only rows in use are read.

    dw adds up the gradients of each row: any number of tokens may be equal, places are so once a sample.
    """
    if pass_ == "dw":
        dy, table = shapes.inputs[0], shapes.outputs[0]
        equal = dy.elements // (dy.shape[-1] if len(shapes.inputs) == 2 else table.elements)
        return Cost(0, dy.elements, lg(equal), touched(shapes))
    return Cost(0, 0, 0, shapes.inputs[0].bytes + 2 * shapes.outputs[0].bytes)


def _indexing(types: Types, _attrs: Attributes) -> Indexing:
    """Tokens and columns; by rows of the table (`reduce`) a part gives zeros for tokens that are not among its own."""
    *tokens, width = named(types["y"])
    along = {"y": (*tokens, width), "x": tuple(tokens), "weight": ("reduce", width)}
    return indexed(types, along, positions=("reduce",))


def _position_indexing(types: Types, _attrs: Attributes) -> Indexing:
    """The table's rows are the places of the sequence."""
    *places, width = named(types["y"])
    return indexed(types, {"y": (*places, width), "x": tuple(places), "weight": (places[-1], width)})


EMBEDDING = Operator(
    "embedding",
    _infer_embedding,
    _cost,
    parameters=(
        Parameter("vocab", "int", required=True, minimum=1),
        Parameter("width", "int", required=True, minimum=1),
    ),
    weights=("weight",),
    gradients=(Gradient("dw", ("dy", "x"), ("weight",)),),
    splits=(*AXES, "reduce"),
    indexing=_indexing,
)

POSITION_EMBEDDING = Operator(
    "position_embedding",
    _infer_position_embedding,
    _cost,
    parameters=(Parameter("width", "int", required=True, minimum=1),),
    weights=("weight",),
    gradients=(Gradient("dw", ("dy",), ("weight",)),),
    splits=AXES,
    indexing=_position_indexing,
)
