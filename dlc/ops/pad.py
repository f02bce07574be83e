"""`pad(amount, axis = …, value = 0, mode = constant | reflect | edge)`: more elements around a value's own."""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr
from dlc.ir.tensor import BATCH, TensorType
from dlc.ops.attributes import extents, number, word
from dlc.ops.counting import moved
from dlc.ops.indexing import AXES, except_axis
from dlc.ops.operands import axis_positions, floating
from dlc.ops.operator import Gradient, Inferred, OperandError, Operator, Parameter

Pairs = tuple[tuple[int, int], ...]


def _infer(operands: tuple[TensorType, ...], attrs: Mapping[str, Attr]) -> Inferred:
    """x -> y, larger along the axes: those that are named, else all behind batch and channel.

    `axis` becomes positions in logical order, `amount` a pair (before, after) for each of them; E0334 where they do not
    fit.
    """
    (x,) = operands
    floating("pad", x)
    axis = axis_positions("pad", x, attrs["axis"]) if "axis" in attrs else _spatial(x)
    amount = _pairs(attrs["amount"], len(axis))
    mode = word(attrs, "mode")
    y = x
    for at, (before, after) in zip(axis, amount, strict=True):
        if mode == "reflect" and max(before, after) >= x.shape[at]:
            needed = f"less than {x.shape[at]} elements to mirror along {x.axes[at]}"
            raise OperandError("E0334", argument="amount", needed=needed, found=max(before, after))
        y = y.with_extent(x.names[at], before + x.shape[at] + after)
    made = (("amount", amount), ("axis", axis), ("value", number(attrs, "value")), ("mode", mode))
    return Inferred((y,), attrs=made)


def _spatial(x: TensorType) -> tuple[int, ...]:
    """The axes that windows slide over (E0301)."""
    if x.names[:2] != (BATCH, "channel") or len(x.axes) < 3:
        needed = "`axis = …`, or the axes batch, channel and those to pad"
        raise OperandError("E0301", operand=0, op="pad", needed=needed, found=x)
    return tuple(range(2, len(x.axes)))


def _pairs(amount: Attr, axes: int) -> Pairs:
    """What is added before and after each axis: a number for all, one for each, or pairs; a pair alone for one axis."""
    if isinstance(amount, int):
        return ((amount, amount),) * axes
    lists = [item for item in amount if isinstance(item, tuple)] if isinstance(amount, tuple) else []
    found = lists or [extents({"amount": amount}, "amount")]
    uneven = next((pair for pair in found if len(pair) != 2), None)
    if uneven is not None or len(found) != axes:
        needed = "one pair" if axes == 1 else f"a number, or a pair for each of {axes} axes"
        written = f"{len(found)} pair{'s' * (len(found) > 1)}" if uneven is None else f"a list of {len(uneven)} numbers"
        helps = ("two axes are padded by `1`, by `1x2`, or by `[[1, 0], [2, 2]]`: before and after each of them",)
        raise OperandError("E0334", argument="amount", needed=needed, found=written, helps=helps)
    return tuple((before, after) for before, after in found)


PAD = Operator(
    "pad",
    _infer,
    moved,
    parameters=(
        Parameter("amount", "margins", required=True, minimum=0),
        Parameter("axis", "axes"),
        Parameter("value", "number", default=0.0),
        Parameter("mode", "choice", default="constant", choices=("constant", "reflect", "edge")),
    ),
    gradients=(Gradient("dx", ("dy",), ("x",)),),
    layout_free=("NHWC", "CHWN"),
    splits=AXES,
    indexing=except_axis,
)
