"""`layernorm(eps = 1e-5)`: y = scale·(x − mean)/√(variance + eps) + shift over the last axis (Ba et al., 2016)."""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr, Init
from dlc.ir.tensor import TensorType
from dlc.ops.attributes import number
from dlc.ops.counting import lg, touched
from dlc.ops.indexing import AXES, Attributes, Indexing, Types, indexed, named
from dlc.ops.operands import features, floating
from dlc.ops.operator import Cost, Gradient, Inferred, Operator, Parameter, Shapes, Weight


def _infer(operands: tuple[TensorType, ...], attrs: Mapping[str, Attr]) -> Inferred:
    """x [batch, …, width] -> y; scale and shift [width] begin at one and zero; mean and 1/deviation of each row."""
    (x,) = operands
    floating("layernorm", x)
    features("layernorm", x)
    per_feature, per_row = TensorType(x.dtype, x.axes[-1:]), TensorType(x.dtype, x.axes[:-1])
    return Inferred(
        (x,),
        attrs=(("eps", number(attrs, "eps")),),
        weights=(
            Weight("scale", per_feature, Init("constant", value=1.0)),
            Weight("shift", per_feature, Init("constant", value=0.0)),
        ),
        saved=(("mean", per_row), ("rstd", per_row)),
    )


def row_cost(pass_: str, shapes: Shapes) -> Cost:
    """As batch norm: every element; depth of the reduced axis, the row's or for dw that of the rows."""
    x = shapes.inputs[0]
    width = x.shape[-1]
    return Cost(0, x.elements, lg(x.elements // width if pass_ == "dw" else width), touched(shapes))


def rows(types: Types, _attrs: Attributes) -> Indexing:
    """Every axis but the last one, along which scale and shift lie."""
    along = named(types["y"])[:-1]
    return indexed(types, {"y": (*along, ""), "x": (*along, ""), "mean": along, "rstd": along})


LAYERNORM = Operator(
    "layernorm",
    _infer,
    row_cost,
    parameters=(Parameter("eps", "number", default=1e-5, minimum=0),),
    weights=("scale", "shift"),
    saved=("mean", "rstd"),
    gradients=(
        Gradient("dx", ("dy", "x", "scale", "mean", "rstd"), ("x",)),
        Gradient("dw", ("dy", "x", "mean", "rstd"), ("scale", "shift")),
    ),
    splits=AXES,
    indexing=rows,
)
