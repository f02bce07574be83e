"""Convolution: y[n,k,i,j] = Σ_c Σ_ky Σ_kx x[n, c, i·s+ky·d-p, j·s+kx·d-p]·w[k,c,ky,kx] + b[k] (cross-correlation).

Its algorithms, with their costs and scratch memory, are in `dlc.ops.conv_algorithms`.
"""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr, Attrs, Init
from dlc.ir.tensor import TensorType, tensor
from dlc.ops.conv_algorithms import CONV_ALGORITHMS, direct_cost
from dlc.ops.operands import floating
from dlc.ops.operator import Gradient, Inferred, OperandError, Operator, Parameter, Weight
from dlc.ops.windows import Windows, slid, spatial, windows


def infer(operands: tuple[TensorType, ...], args: Mapping[str, Attr]) -> Inferred:
    """x[batch, channel, height, width] -> y[batch, filters, H', W'], and the weights in PyTorch's order.

    Errors: E0302 (the window does not fit), E0305 (x does not hold floating-point numbers), E0310 (arguments of
    another number of axes), E0311 (x has other axes), E0312 (channels or filters do not divide by the groups).
    """
    (x,) = operands
    floating("conv", x)
    extents = spatial("conv", x)
    channels, filters, groups = x.shape[1], _int(args, "filters"), _int(args, "groups")
    for argument, what, count in (("groups", "channels", channels), ("filters", "filters", filters)):
        if count % groups:
            raise OperandError("E0312", argument=argument, count=count, what=what, groups=groups)
    slide = windows(args)
    y = slid(x, slide.output(extents), channels=filters)
    return Inferred((y,), _attrs(filters, slide, groups, bool(args["bias"])), _weights(x, filters, groups, slide, args))


def _attrs(filters: int, slide: Windows, groups: int, bias: bool) -> Attrs:
    return (
        ("filters", filters),
        ("window", slide.window),
        ("stride", slide.stride),
        ("pad", slide.pad),
        ("dilation", slide.dilation),
        ("groups", groups),
        ("bias", bias),
    )


def _weights(x: TensorType, filters: int, groups: int, slide: Windows, args: Mapping[str, Attr]) -> tuple[Weight, ...]:
    """Weight and bias; both start as PyTorch's Conv2d does, U(±1/√fan_in)."""
    into = x.shape[1] // groups
    init = Init("kaiming_uniform", fan_in=into * slide.taps, fan_out=filters * slide.taps)
    height, width = slide.window
    weight = Weight("weight", tensor(x.dtype, out=filters, **{"in": into}, height=height, width=width), init)
    return (weight, Weight("bias", tensor(x.dtype, channel=filters), init)) if args["bias"] else (weight,)


def _int(args: Mapping[str, Attr], name: str) -> int:
    value = args[name]
    if not isinstance(value, int):
        raise ValueError(f"{name} is {value!r}, not an int")
    return value


CONV = Operator(
    name="conv",
    infer=infer,
    cost=direct_cost,
    parameters=(
        Parameter("filters", "int", required=True, minimum=1),
        Parameter("window", "window", required=True, minimum=1),
        Parameter("stride", "window", default=1, minimum=1),
        Parameter("pad", "pad", default=0, minimum=0),
        Parameter("dilation", "window", default=1, minimum=1),
        Parameter("groups", "int", default=1, minimum=1),
        Parameter("bias", "bool", default=True),
    ),
    weights=("weight", "bias"),
    gradients=(
        Gradient("dx", needs=("dy", "weight"), gives=("x",)),
        Gradient("dw", needs=("dy", "x"), gives=("weight", "bias")),
    ),
    layout_free=("NHWC", "CHWN"),
    algorithms=CONV_ALGORITHMS,
    splits=("batch", "channel", "height", "width", "reduce"),
)
