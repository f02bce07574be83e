"""Convolution: y[n,k,i,j] = Σ_c Σ_ky Σ_kx x[n, c, i·s+ky·d-p, j·s+kx·d-p]·w[k,c,ky,kx] + b[k] (cross-correlation).

Images have two such axes, sequences one, volumes three. Its algorithms, with their costs and scratch memory, are in
`dlc.ops.conv_algorithms`.
"""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr
from dlc.ir.tensor import TensorType
from dlc.ops.attributes import flag, integer
from dlc.ops.conv_algorithms import CONV_ALGORITHMS, direct_cost
from dlc.ops.convolutions import BIAS, DILATION, FILTERS, GROUPS, WINDOW, check_groups, filter_weights, window_attrs
from dlc.ops.operands import floating
from dlc.ops.operator import Gradient, Inferred, Operator
from dlc.ops.window_indexing import convolution
from dlc.ops.windows import SPLITS, slid, spatial, windows


def infer(operands: tuple[TensorType, ...], args: Mapping[str, Attr]) -> Inferred:
    """x [batch, channel, …] -> y [batch, filters, …], and the weights in PyTorch's order.

    Errors: E0302 (the window does not fit), E0305 (x does not hold floating-point numbers), E0310 (arguments of
    another number of axes), E0311 (x has other axes), E0312 (channels or filters do not divide by the groups).
    """
    (x,) = operands
    floating("conv", x)
    extents = spatial("conv", x)
    channels, filters, groups, bias = x.shape[1], integer(args, "filters"), integer(args, "groups"), flag(args, "bias")
    check_groups(groups, channels, filters)
    slide, into = windows(args, len(extents)), channels // groups
    attrs = (("filters", filters), *window_attrs(slide), ("groups", groups), ("bias", bias))
    weights = filter_weights(x.dtype, filters, into, slide, fan=(into, filters), bias=bias * filters)
    return Inferred((slid(x, slide.output(extents), filters),), attrs, weights)


CONV = Operator(
    name="conv",
    infer=infer,
    cost=direct_cost,
    parameters=(FILTERS, *WINDOW, DILATION, GROUPS, BIAS),
    weights=("weight", "bias"),
    gradients=(
        Gradient("dx", needs=("dy", "weight"), gives=("x",)),
        Gradient("dw", needs=("dy", "x"), gives=("weight", "bias")),
    ),
    layout_free=("NHWC", "CHWN"),
    blocked=True,
    algorithms=CONV_ALGORITHMS,
    splits=(*SPLITS, "reduce"),
    indexing=convolution,
)
