"""`upsample(factor, mode = nearest | linear)`: every axis behind the channels `factor` times as long.

`nearest` repeats elements; `linear` interpolates between the middles of neighbouring elements, axis by axis, and
continues the edge elements outwards: PyTorch's interpolate with align_corners = False.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from dlc.ir.graph import Attr
from dlc.ir.tensor import TensorType
from dlc.ops.attributes import word
from dlc.ops.counting import lg, touched
from dlc.ops.indexing import Attributes, Indexing, Types, indexed
from dlc.ops.operands import floating
from dlc.ops.operator import Cost, Gradient, Inferred, Operator, Parameter, Shapes
from dlc.ops.window_indexing import channelwise, image_axes
from dlc.ops.windows import SPLITS, per_axis, slid, spatial


def _infer(operands: tuple[TensorType, ...], args: Mapping[str, Attr]) -> Inferred:
    """x [batch, channel, …] -> y with `factor` times the extents. Errors: E0305, E0310, E0311."""
    (x,) = operands
    floating("upsample", x)
    extents = spatial("upsample", x)
    factor = per_axis(args, "factor", len(extents))
    y = slid(x, tuple(extent * times for extent, times in zip(extents, factor, strict=True)))
    return Inferred((y,), attrs=(("factor", factor), ("mode", word(args, "mode"))))


def _cost(pass_: str, shapes: Shapes) -> Cost:
    """Nearest: nothing forward, a sum over `factor` elements an axis for dx; linear: 3 operations an axis."""
    y = shapes.inputs[0] if pass_ == "dx" else shapes.outputs[0]
    axes = len(y.axes) - 2
    factor = per_axis(shapes.attrs, "factor", axes)
    if shapes.attrs["mode"] == "linear":
        depth = sum(1 + lg(2 * times) for times in factor) if pass_ == "dx" else 2 * axes
        return Cost(0, 3 * axes * y.elements, depth, touched(shapes))
    if pass_ == "dx":
        return Cost(0, y.elements - y.elements // prod(factor), sum(map(lg, factor)), touched(shapes))
    return Cost(0, 0, 0, touched(shapes))


def _indexing(types: Types, attrs: Attributes) -> Indexing:
    """Of repeated elements every axis: a part of x makes its part of y. Interpolation reads beyond a part."""
    if attrs["mode"] != "nearest":
        return channelwise(types, attrs)
    names = image_axes(types["x"])
    return indexed(types, {"y": names, "x": names}, whole=names[2:])


UPSAMPLE = Operator(
    "upsample",
    _infer,
    _cost,
    parameters=(
        Parameter("factor", "window", required=True, minimum=1),
        Parameter("mode", "choice", default="nearest", choices=("nearest", "linear")),
    ),
    gradients=(Gradient("dx", ("dy",), ("x",)),),
    layout_free=("NHWC", "CHWN"),
    splits=SPLITS,
    indexing=_indexing,
)
