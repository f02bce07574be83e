"""`groupnorm(groups, eps = 1e-5)`: each sample by itself, over a group's channels and all pixels (Wu and He, 2018).

y = scale·(x − mean)/√(variance + eps) + shift with a scale and a shift for each channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from dlc.ir.graph import Attr, Init
from dlc.ir.tensor import TensorType, tensor
from dlc.ops.attributes import integer, number
from dlc.ops.counting import lg, touched
from dlc.ops.indexing import Attributes, Exchange, Indexing, Types, indexed
from dlc.ops.operands import channels, floating
from dlc.ops.operator import Cost, Gradient, Inferred, OperandError, Operator, Parameter, Shapes, Weight
from dlc.ops.window_indexing import image_axes
from dlc.ops.windows import SPLITS


def _infer(operands: tuple[TensorType, ...], attrs: Mapping[str, Attr]) -> Inferred:
    """x [batch, channel, …] -> y; scale and shift [channel] begin at one and zero; E0312 for uneven groups."""
    (x,) = operands
    floating("groupnorm", x)
    count, groups = channels("groupnorm", x), integer(attrs, "groups")
    if count % groups:
        raise OperandError("E0312", argument="groups", count=count, what="channels", groups=groups)
    per_channel, per_group = tensor(x.dtype, channel=count), tensor(x.dtype, batch=x.shape[0], group=groups)
    return Inferred(
        (x,),
        attrs=(("groups", groups), ("eps", number(attrs, "eps"))),
        weights=(
            Weight("scale", per_channel, Init("constant", value=1.0)),
            Weight("shift", per_channel, Init("constant", value=0.0)),
        ),
        saved=(("mean", per_group), ("rstd", per_group)),
    )


def _cost(pass_: str, shapes: Shapes) -> Cost:
    """As batch norm: every element; depth of what is reduced, a group or for dw all samples and pixels."""
    x = shapes.inputs[0]
    groups = integer(shapes.attrs, "groups")
    values = x.shape[0] * prod(x.shape[2:]) if pass_ == "dw" else prod(x.shape[1:]) // groups
    return Cost(0, x.elements, lg(values), touched(shapes))


def _indexing(types: Types, attrs: Attributes) -> Indexing:
    """Whole groups of channels; where rows are split, means, then squares are summed over the ranks, and likewise the
    two sums that dx needs; kernels are told how many pixels the whole has."""
    names = image_axes(types["x"])
    batch, channel, *spatial = filter(None, names)
    groups = integer(attrs, "groups")
    along = {"y": names, "x": names, "mean": names[:2], "rstd": names[:2], "scale": (channel,), "shift": (channel,)}
    table = types["x"].shape[0] * groups
    return indexed(
        types,
        along,
        whole=(channel,),
        limits={channel: groups},
        positions=tuple(spatial),
        counts={"groups": channel},
        exchanges=(
            Exchange("forward", tuple(spatial), table, (batch, channel), times=2),
            Exchange("dx", tuple(spatial), 2 * table, (batch, channel)),
        ),
    )


GROUPNORM = Operator(
    "groupnorm",
    _infer,
    _cost,
    parameters=(
        Parameter("groups", "int", required=True, minimum=1),
        Parameter("eps", "number", default=1e-5, minimum=0),
    ),
    weights=("scale", "shift"),
    saved=("mean", "rstd"),
    gradients=(
        Gradient("dx", ("dy", "x", "scale", "mean", "rstd"), ("x",)),
        Gradient("dw", ("dy", "x", "mean", "rstd"), ("scale", "shift")),
    ),
    layout_free=("NHWC", "CHWN"),
    splits=(*SPLITS, "feature"),
    indexing=_indexing,
)
