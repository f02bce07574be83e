"""`bn(group = batch, eps = 1e-5, momentum = 0.1)`: batch normalisation over groups of consecutive samples.

Each channel is normalised by the mean and biased variance of its group; a remainder group is normalised by itself.
The running statistics move once a step towards the mean over groups, with the unbiased variance, by `momentum`;
evaluation uses them in place of the group's.
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
    """x [batch, channel, …] -> y; scale and shift begin at one and zero, as PyTorch's."""
    (x,) = operands
    floating("bn", x)
    count, batch = channels("bn", x), x.shape[0]
    group = min(batch, batch if attrs["group"] == "batch" else integer(attrs, "group"))
    _check_spread(group, x)
    per_channel = tensor(x.dtype, channel=count)
    per_group = tensor(x.dtype, group=-(-batch // group), channel=count)
    ones, zeros = Init("constant", value=1.0), Init("constant", value=0.0)
    return Inferred(
        (x,),
        attrs=(("group", group), ("eps", number(attrs, "eps")), ("momentum", number(attrs, "momentum"))),
        weights=(
            Weight("scale", per_channel, ones),
            Weight("shift", per_channel, zeros),
            Weight("mean", per_channel, zeros, trained=False),
            Weight("variance", per_channel, ones, trained=False),
        ),
        saved=(("batch_mean", per_group), ("batch_rstd", per_group)),
    )


def _check_spread(group: int, x: TensorType) -> None:
    """Refuse a group, the remainder too, that has one value a channel (E0316)."""
    smallest = x.shape[0] % group or group
    if smallest * prod(x.shape[2:]) == 1:
        raise OperandError("E0316", argument="group", samples=smallest)


def _cost(pass_: str, shapes: Shapes) -> Cost:
    """NCHW, depth ⌈lg N⌉, with images ⌈lg NHW⌉, forward and backward (cost-models.md §1).

    `statistics` sums two numbers of each group and channel, of x it reads the extents alone; `update` moves the two
    running averages of each channel.
    """
    x = shapes.inputs[0]
    if pass_ == "statistics":
        table = shapes.inputs[1]
        return Cost(0, 6 * table.elements, lg(table.shape[0]) + 4, touched(shapes) - x.bytes)
    if pass_ == "update":
        return Cost(0, 4 * x.elements, 2, touched(shapes))
    return Cost(0, x.elements, lg(x.elements // x.shape[1]), touched(shapes))


def _indexing(types: Types, attrs: Attributes) -> Indexing:
    """Channels, or samples and rows; then sums, and after them squares, are summed over the ranks that have a part of a
    group, and likewise the two sums that the gradients need, one by one. Tables have a row for each group of the whole
    batch."""
    names = image_axes(types["x"])
    batch, channel, *spatial = filter(None, names)
    group = integer(attrs, "group")
    table = -(-types["x"].shape[0] // group) * types["x"].shape[1]
    by_channel = dict.fromkeys(("scale", "shift", "mean", "variance"), (channel,))
    return indexed(
        types,
        {"y": names, "x": names, **by_channel, "batch_mean": ("", channel), "batch_rstd": ("", channel)},
        exchanges=(
            Exchange("forward", (batch, *spatial), table, (channel,), times=2, group=group),
            Exchange("dx", (batch, *spatial), table, (channel,), times=2, group=group),
        ),
    )


BN = Operator(
    "bn",
    _infer,
    _cost,
    parameters=(
        Parameter("group", "group", default="batch", minimum=1),
        Parameter("eps", "number", default=1e-5, minimum=0),
        Parameter("momentum", "number", default=0.1, minimum=0),
    ),
    weights=("scale", "shift"),
    statistics=("mean", "variance"),
    saved=("batch_mean", "batch_rstd"),
    gradients=(Gradient("dx", ("dy", "x", "scale", "batch_mean", "batch_rstd"), ("x", "scale", "shift")),),
    layout_free=("NHWC", "CHWN"),
    blocked=True,
    runtime=("count", "position"),
    splits=(*SPLITS, "feature"),
    indexing=_indexing,
)
