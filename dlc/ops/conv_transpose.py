"""Transposed convolution: `conv_transpose(filters, window, stride = 1, pad = 0, output_pad = 0, dilation = 1, …)`.

Each element of x adds its weighted window to y: what the gradient of a `conv` by its input computes. So its forward
pass is a convolution's dx, its dx a convolution's forward pass, and its dw that of a convolution with x and dy in each
other's place; costs, workspaces and kernels are those of the convolution.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dlc.ir.graph import Attr
from dlc.ir.tensor import TensorType
from dlc.ops.attributes import flag, integer
from dlc.ops.conv_algorithms import CONV_ALGORITHMS, direct_cost
from dlc.ops.convolutions import (
    BIAS,
    DILATION,
    FILTERS,
    GROUPS,
    WINDOW,
    check_groups,
    filter_weights,
    window_attrs,
)
from dlc.ops.indexing import Attributes, Halo, Indexing, Types
from dlc.ops.operands import floating
from dlc.ops.operator import (
    Algorithm,
    Cost,
    Gradient,
    Inferred,
    OperandError,
    Operator,
    Parameter,
    Shapes,
    Workspace,
)
from dlc.ops.window_indexing import filtered, image_axes
from dlc.ops.windows import SPLITS, Extents, Windows, by, per_axis, slid, spatial, windows

AS_CONV = {"forward": "dx", "dx": "forward", "dw": "dw"}
"""Pass -> the pass of a convolution that computes it."""


def as_conv(pass_: str, shapes: Shapes) -> tuple[str, Shapes]:
    """The convolution's pass and its shapes: dw reads x where a convolution reads dy."""
    inputs = shapes.inputs[::-1] if pass_ == "dw" else shapes.inputs
    return AS_CONV[pass_], replace(shapes, inputs=inputs)


def _infer(operands: tuple[TensorType, ...], args: Mapping[str, Attr]) -> Inferred:
    """x [batch, channel, …] -> y [batch, filters, …], the weight is [channel, filters/groups, window], as PyTorch's.

    Errors: E0305, E0310, E0311, E0312, E0322 (an output pad that is too large), E0323 (the pads leave nothing).
    """
    (x,) = operands
    floating("conv_transpose", x)
    extents = spatial("conv_transpose", x)
    filters, groups, bias = integer(args, "filters"), integer(args, "groups"), flag(args, "bias")
    check_groups(groups, x.shape[1], filters)
    slide = windows(args, len(extents))
    behind = per_axis(args, "output_pad", len(extents))
    y = slid(x, _output(extents, slide, behind), filters)
    attrs = (
        ("filters", filters),
        *window_attrs(slide),
        ("output_pad", behind),
        ("groups", groups),
        ("bias", bias),
    )
    out = filters // groups
    weights = filter_weights(x.dtype, x.shape[1], out, slide, fan=(out, x.shape[1]), bias=bias * filters)
    return Inferred((y,), attrs, weights)


def _output(extents: Extents, slide: Windows, behind: Extents) -> Extents:
    """(extent - 1)·stride + reach - pads + output pad along each axis."""
    for extra, stride, dilation in zip(behind, slide.stride, slide.dilation, strict=True):
        if extra >= max(stride, dilation):
            raise OperandError("E0322", argument="output_pad", pad=extra, stride=stride, dilation=dilation)
    along = zip(extents, slide.stride, slide.reach, behind, slide.pad, strict=True)
    found = tuple((extent - 1) * stride + reach + extra - sum(pad) for extent, stride, reach, extra, pad in along)
    if min(found) < 1:
        whole = replace(slide, pad=((0, 0),) * len(extents))
        raise OperandError("E0323", argument="pad", result=by(_output(extents, whole, behind)))
    return found


def _cost(pass_: str, shapes: Shapes) -> Cost:
    """That of the convolution whose transpose it is."""
    return direct_cost(*as_conv(pass_, shapes))


def _indexing(types: Types, attrs: Attributes) -> Indexing:
    """As `conv`; rows of y are split where the stride is 1, or where y is `stride` times as long as x.

    Row i of x adds to rows i·stride + tap·dilation - pad of y.
    """
    x, y = types["x"].shape[2:], types["y"].shape[2:]
    slide = windows(attrs, len(x))
    halos = dict[str, Halo]()
    stretched, out = list[str](), list[str]()
    along = zip(image_axes(types["x"])[2:], x, y, slide.stride, slide.reach, slide.pad, strict=True)
    for name, into, extent, stride, reach, (pad, _) in along:
        halo = Halo((reach - 1 - pad) // stride, (stride - 1 + pad) // stride, step=stride)
        even = extent == stride * into
        halos |= {name: halo} if halo.before or halo.after or not even else {}
        stretched += [name] if stride > 1 else []
        out += [name] if stride > 1 and not even else []
    return filtered(types, attrs, ("reduce", "channel"), halos, stretched=tuple(stretched), out=tuple(out))


def _transposed(algorithm: Algorithm) -> Algorithm:
    def excluded(pass_: str, shapes: Shapes) -> str | None:
        return algorithm.excluded(*as_conv(pass_, shapes))

    def inexact(pass_: str, shapes: Shapes) -> str | None:
        return algorithm.inexact(*as_conv(pass_, shapes))

    def cost(pass_: str, shapes: Shapes) -> Cost:
        return algorithm.cost(*as_conv(pass_, shapes))

    def workspaces(pass_: str, shapes: Shapes, layout: str) -> tuple[Workspace, ...]:
        return algorithm.workspaces(*as_conv(pass_, shapes), layout)

    return Algorithm(algorithm.name, algorithm.layouts, excluded, cost, workspaces, algorithm.devices, inexact)


CONV_TRANSPOSE = Operator(
    "conv_transpose",
    _infer,
    _cost,
    parameters=(
        FILTERS,
        *WINDOW,
        Parameter("output_pad", "window", default=0, minimum=0),
        DILATION,
        GROUPS,
        BIAS,
    ),
    weights=("weight", "bias"),
    gradients=(
        Gradient("dx", needs=("dy", "weight"), gives=("x",)),
        Gradient("dw", needs=("dy", "x"), gives=("weight", "bias")),
    ),
    layout_free=("NHWC", "CHWN"),
    algorithms=tuple(_transposed(algorithm) for algorithm in CONV_ALGORITHMS if algorithm.name in ("direct", "im2col")),
    splits=(*SPLITS, "reduce"),
    indexing=_indexing,
)
