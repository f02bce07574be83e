"""`linear(features, bias = yes, tied = WEIGHT)`: y = x·Wᵀ + b over the last axis, which keeps its name.

A tied weight may be used transposed, as in the decoder of an autoencoder: y = x·W + b with W [in, out].
"""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr, Init
from dlc.ir.tensor import Axis, TensorType, tensor
from dlc.ops.attributes import flag, integer, word
from dlc.ops.counting import lg, touched
from dlc.ops.indexing import AXES, Attributes, Indexing, Types, indexed, named
from dlc.ops.operands import features, floating
from dlc.ops.operator import Cost, Gradient, Inferred, Operator, Parameter, Shapes, Weight


def _infer(operands: tuple[TensorType, ...], attrs: Mapping[str, Attr]) -> Inferred:
    """x [batch, …, in] -> y [batch, …, out]; weight [out, in] and bias [out], both U(±1/√in) as in PyTorch.

    With `transposed` the weight is [in, out]; only a borrowed one is written so.
    """
    (x,) = operands
    floating("linear", x)
    fan_in, fan_out, bias = features("linear", x), integer(attrs, "features"), flag(attrs, "bias")
    init = Init("kaiming_uniform", fan_in=fan_in, fan_out=fan_out)
    transposed = "transposed" in attrs
    weight = tensor(x.dtype, **({"in": fan_in, "out": fan_out} if transposed else {"out": fan_out, "in": fan_in}))
    tied = (("weight", word(attrs, "tied")),) if attrs.get("tied") is not None else ()
    own_weight = () if tied else (Weight("weight", weight, init),)
    own_bias = (Weight("bias", tensor(x.dtype, out=fan_out), init),) if bias else ()
    y = TensorType(x.dtype, (*x.axes[:-1], Axis(x.axes[-1].name, fan_out)))
    normalised = (("features", fan_out), ("bias", bias), *((("transposed", True),) if transposed else ()))
    return Inferred((y,), normalised, (*own_weight, *own_bias), tied=tied, tied_types=(weight,) * len(tied))


def _cost(pass_: str, shapes: Shapes) -> Cost:
    """N·Cin·Cout; depth by the contracted axis: Cin forward, N for dw, Cout for dx (cost-models.md §1)."""
    weight = shapes.outputs[0] if pass_ == "dw" else shapes.inputs[1]
    fan_out, fan_in = weight.shape[::-1] if "transposed" in shapes.attrs else weight.shape
    rows = shapes.inputs[0].elements // (fan_in if pass_ == "forward" else fan_out)
    contracted = {"forward": fan_in, "dw": rows, "dx": fan_out}[pass_]
    macs = rows * fan_in * fan_out
    return Cost(macs, macs, lg(contracted), touched(shapes))


def _indexing(types: Types, attrs: Attributes) -> Indexing:
    """The last axis is `feature` in y and `reduce` in x, whatever it is called."""
    rows = tuple("" if axis == "feature" else axis for axis in named(types["y"])[:-1])
    weight = ("reduce", "feature") if "transposed" in attrs else ("feature", "reduce")
    return indexed(
        types,
        {"y": (*rows, "feature"), "x": (*rows, "reduce"), "weight": weight, "bias": ("feature",)},
        once=("bias",),
    )


LINEAR = Operator(
    "linear",
    _infer,
    _cost,
    parameters=(
        Parameter("features", "int", required=True, minimum=1),
        Parameter("bias", "bool", default=True),
        Parameter("tied", "weight"),
    ),
    weights=("weight", "bias"),
    gradients=(Gradient("dx", ("dy", "weight"), ("x",)), Gradient("dw", ("dy", "x"), ("weight", "bias"))),
    splits=(*AXES, "reduce"),
    indexing=_indexing,
)
