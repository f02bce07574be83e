"""`global_avgpool`: the mean of each channel's image; height and width become 1."""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr
from dlc.ir.tensor import TensorType
from dlc.ops.counting import lg, touched
from dlc.ops.operands import floating
from dlc.ops.operator import Cost, Gradient, Inferred, Operator, Shapes
from dlc.ops.windows import slid, spatial


def _infer(operands: tuple[TensorType, ...], _attrs: Mapping[str, Attr]) -> Inferred:
    """x [batch, channel, H, W] -> y [batch, channel, 1, 1]."""
    (x,) = operands
    floating("global_avgpool", x)
    spatial("global_avgpool", x)
    return Inferred((slid(x, (1, 1)),))


def _cost(pass_: str, shapes: Shapes) -> Cost:
    """A pool whose window is the whole image: NCHW; depth ⌈lg H⌉ + ⌈lg W⌉ forward, 1 for dx."""
    x = shapes.outputs[0] if pass_ == "dx" else shapes.inputs[0]
    depth = 1 if pass_ == "dx" else sum(map(lg, x.shape[2:]))
    return Cost(0, x.elements, depth, touched(shapes))


GLOBAL_AVGPOOL = Operator(
    "global_avgpool",
    _infer,
    _cost,
    gradients=(Gradient("dx", ("dy",), ("x",)),),
    layout_free=("NHWC", "CHWN"),
    splits=("batch", "channel"),
)
