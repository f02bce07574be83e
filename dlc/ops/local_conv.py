"""Locally connected: `local_conv(filters, window, stride = 1, pad = 0, dilation = 1, bias = yes)`.

y[n,k,i,j] = Σ_c Σ_ky Σ_kx x[n, c, i·s+ky·d-p, j·s+kx·d-p]·w[i,j,k,c,ky,kx] + b[k,i,j]: a convolution whose weights are
not shared, every output position has filters and biases of its own (Keras' LocallyConnected).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dlc.ir.graph import Attr, Init
from dlc.ir.tensor import TensorType
from dlc.ops.attributes import flag, integer
from dlc.ops.conv_algorithms import direct_cost
from dlc.ops.convolutions import BIAS, DILATION, FILTERS, WINDOW, window_attrs, window_weight
from dlc.ops.counting import lg
from dlc.ops.indexing import Attributes, Indexing, Types, indexed
from dlc.ops.operands import floating
from dlc.ops.operator import Cost, Gradient, Inferred, Operator, Shapes, Weight
from dlc.ops.window_indexing import image_axes, window_halos
from dlc.ops.windows import SPLITS, WINDOW_AXES, slid, spatial, windows


def _infer(operands: tuple[TensorType, ...], args: Mapping[str, Attr]) -> Inferred:
    """x [batch, channel, …] -> y [batch, filters, …].

    The weight is [output extents, filters, channel, window], the bias [filters, output extents]; both start as those
    of `conv`, U(±1/√fan_in). Errors: E0302, E0305, E0310, E0311.
    """
    (x,) = operands
    floating("local_conv", x)
    extents = spatial("local_conv", x)
    filters, channels, bias = integer(args, "filters"), x.shape[1], flag(args, "bias")
    slide = windows(args, len(extents))
    y = slid(x, slide.output(extents), filters)
    init = Init("kaiming_uniform", fan_in=channels * slide.taps, fan_out=filters * slide.taps)
    positions = {f"out_{name}": extent for name, extent in zip(WINDOW_AXES[len(extents)], y.shape[2:], strict=True)}
    weight = window_weight(x.dtype, {**positions, "out": filters, "in": channels}, slide)
    biases = (Weight("bias", TensorType(x.dtype, y.axes[1:]), init),) if bias else ()
    attrs = (("filters", filters), *window_attrs(slide), ("bias", bias))
    return Inferred((y,), attrs, (Weight("weight", weight, init), *biases))


def _cost(pass_: str, shapes: Shapes) -> Cost:
    """That of a convolution, but that a weight's gradient sums over the samples alone."""
    cost = direct_cost(pass_, replace(shapes, attrs={**shapes.attrs, "groups": 1}))
    return replace(cost, depth=lg(shapes.inputs[0].shape[0])) if pass_ == "dw" else cost


def _indexing(types: Types, attrs: Attributes) -> Indexing:
    """As `conv`, but that weights and biases belong to rows of y and are split with them."""
    batch, channel, *spatial = image_axes(types["x"])
    return indexed(
        types,
        {
            "y": (batch, channel, *spatial),
            "x": (batch, "reduce", *spatial),
            "weight": (*spatial, channel, "reduce", *("",) * len(spatial)),
            "bias": (channel, *spatial),
        },
        halos=window_halos(types, attrs),
        once=("bias",),
    )


LOCAL_CONV = Operator(
    "local_conv",
    _infer,
    _cost,
    parameters=(FILTERS, *WINDOW, DILATION, BIAS),
    weights=("weight", "bias"),
    gradients=(
        Gradient("dx", needs=("dy", "weight"), gives=("x",)),
        Gradient("dw", needs=("dy", "x"), gives=("weight", "bias")),
    ),
    layout_free=("NHWC", "CHWN"),
    splits=(*SPLITS, "reduce"),
    indexing=_indexing,
)
