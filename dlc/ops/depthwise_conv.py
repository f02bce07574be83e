"""`depthwise_conv(window, stride = 1, pad = 0, dilation = 1, multiplier = 1, bias = yes)`: each channel by itself.

y[n, c·m+j, …] = Σ x[n, c, …]·w[c·m+j, 0, …] + b[c·m+j] for the m = `multiplier` results j of a channel: what `conv`
computes with as many groups as channels, by kernels of its own.
"""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr
from dlc.ir.tensor import TensorType
from dlc.ops.attributes import flag, integer
from dlc.ops.conv_algorithms import direct_cost
from dlc.ops.convolutions import BIAS, DILATION, WINDOW, filter_weights, window_attrs
from dlc.ops.indexing import Attributes, Indexing, Types, indexed
from dlc.ops.operands import floating
from dlc.ops.operator import Gradient, Inferred, Operator, Parameter
from dlc.ops.window_indexing import image_axes, window_halos
from dlc.ops.windows import SPLITS, slid, spatial, windows


def _infer(operands: tuple[TensorType, ...], args: Mapping[str, Attr]) -> Inferred:
    """x [batch, channel, …] -> y [batch, channel·multiplier, …]; the weight is [channel·multiplier, 1, window].

    Errors: E0302, E0305, E0310, E0311.
    """
    (x,) = operands
    floating("depthwise_conv", x)
    extents = spatial("depthwise_conv", x)
    multiplier, bias = integer(args, "multiplier"), flag(args, "bias")
    slide, filters = windows(args, len(extents)), x.shape[1] * multiplier
    attrs = (*window_attrs(slide), ("multiplier", multiplier), ("bias", bias))
    weights = filter_weights(x.dtype, filters, 1, slide, fan=(1, filters), bias=bias * filters)
    return Inferred((slid(x, slide.output(extents), filters),), attrs, weights)


def _indexing(types: Types, attrs: Attributes) -> Indexing:
    """Channels of x and y are split alike; with a multiplier into equal parts."""
    names = image_axes(types["x"])
    return indexed(
        types,
        {"y": names, "x": names, "weight": ("channel", "", *("",) * (len(names) - 2)), "bias": ("channel",)},
        whole=("channel",) if integer(attrs, "multiplier") > 1 else (),
        halos=window_halos(types, attrs),
    )


DEPTHWISE_CONV = Operator(
    "depthwise_conv",
    _infer,
    direct_cost,  # that of a convolution with as many groups as channels
    parameters=(*WINDOW, DILATION, Parameter("multiplier", "int", default=1, minimum=1), BIAS),
    weights=("weight", "bias"),
    gradients=(
        Gradient("dx", needs=("dy", "weight"), gives=("x",)),
        Gradient("dw", needs=("dy", "x"), gives=("weight", "bias")),
    ),
    layout_free=("NHWC", "CHWN"),
    splits=SPLITS,
    indexing=_indexing,
)
