"""`weight_norm(LAYER)`: the layer with the weight g·v/‖v‖ (Salimans and Kingma, 2016; PyTorch's weight_norm, dim = 0).

Each slice of the weight along its first axis has a magnitude g and a direction v, which are trained in its place. The
layer's node reads the result of a node of its own, `weight_norm`, like any other value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dlc.ir.graph import Attr, Init
from dlc.ir.tensor import Axis, TensorType
from dlc.ops.counting import lg, touched
from dlc.ops.indexing import Attributes, Indexing, Types, indexed
from dlc.ops.operator import Cost, Gradient, Inferred, Operator, Parameter, Shapes, Weight


def _infer(operands: tuple[TensorType, ...], _attrs: Mapping[str, Attr]) -> Inferred:
    """Direction [out, …] and magnitude [out, 1 …] -> the weight."""
    direction, _ = operands
    return Inferred((direction,))


def parts(weight: Weight) -> tuple[Weight, Weight]:
    """What is trained in place of a layer's weight: the direction, which begins as the weight would, and the magnitude,
    which begins as the direction's norms, so that training begins with the layer's own weight."""
    first, *rest = weight.type.axes
    axes = (first, *(Axis(axis.name, 1) for axis in rest))
    magnitude = Weight("magnitude", TensorType(weight.type.dtype, axes), Init("norms"))
    return replace(weight, role="direction"), magnitude


def _cost(pass_: str, shapes: Shapes) -> Cost:
    """Squares and sums, a root and a division a row, a product an element: 3 operations an element; dw 5."""
    weight = shapes.inputs[0]
    row = weight.elements // weight.shape[0]
    return Cost(0, (5 if pass_ == "dw" else 3) * weight.elements, lg(row) + 4, touched(shapes))


def _indexing(types: Types, _attrs: Attributes) -> Indexing:
    """Slices along the first axis, which are the layer's filters or features: `channel`."""
    return indexed(types, {role: ("channel", *("",) * (len(type_.axes) - 1)) for role, type_ in types.items()})


WEIGHT_NORM = Operator(
    "weight_norm",
    _infer,
    _cost,
    operands=("direction", "magnitude"),
    parameters=(Parameter("layer", "layer", required=True),),
    gradients=(Gradient("dw", ("dy", "direction", "magnitude"), ("direction", "magnitude")),),
    splits=("channel",),
    indexing=_indexing,
)
