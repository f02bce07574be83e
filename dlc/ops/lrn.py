"""`lrn(size = 5, alpha = 1e-4, beta = 0.75, k = 2)`: local response normalisation across neighbouring channels.

y = x/(k + alpha/size·Σ x²)^beta, the sum over `size` channels around each, zeros beyond the ends: PyTorch's
LocalResponseNorm and Caffe's layer. The paper of AlexNet (Krizhevsky et al., 2012) does not divide by the size: its
α = 1e-4 over 5 channels is `alpha = 5e-4` here.
"""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr
from dlc.ir.tensor import TensorType
from dlc.ops.attributes import integer, number
from dlc.ops.counting import lg, touched
from dlc.ops.indexing import Attributes, Indexing, Types, indexed
from dlc.ops.operands import channels, floating
from dlc.ops.operator import Cost, Gradient, Inferred, Operator, Parameter, Shapes
from dlc.ops.window_indexing import image_axes
from dlc.ops.windows import SPLITS


def _infer(operands: tuple[TensorType, ...], attrs: Mapping[str, Attr]) -> Inferred:
    """x [batch, channel, …] -> y, and for the backward pass what is raised to the power."""
    (x,) = operands
    floating("lrn", x)
    channels("lrn", x)
    names = ("alpha", "beta", "k")
    normalised = (("size", integer(attrs, "size")), *((name, number(attrs, name)) for name in names))
    return Inferred((x,), attrs=normalised, saved=(("base", x),))


def _cost(_pass: str, shapes: Shapes) -> Cost:
    """An element: square, sum of the window, scale and shift, power, divide; dx about the same."""
    x, size = shapes.inputs[0], integer(shapes.attrs, "size")
    return Cost(0, x.elements * (size + 4), lg(size) + 5, touched(shapes))


def _indexing(types: Types, _attrs: Attributes) -> Indexing:
    """Samples and rows: channels read their neighbours."""
    batch, _, *spatial = image_axes(types["x"])
    return indexed(types, dict.fromkeys(types, (batch, "", *spatial)))


LRN = Operator(
    "lrn",
    _infer,
    _cost,
    parameters=(
        Parameter("size", "int", default=5, minimum=1),
        Parameter("alpha", "number", default=1e-4, minimum=0),
        Parameter("beta", "number", default=0.75, minimum=0),
        Parameter("k", "number", default=2.0, minimum=0),
    ),
    saved=("base",),
    gradients=(Gradient("dx", ("dy", "x", "base"), ("x",)),),
    layout_free=("NHWC", "CHWN"),
    splits=tuple(axis for axis in SPLITS if axis != "channel"),
    indexing=_indexing,
)
