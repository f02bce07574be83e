"""Pools: what maxpool and avgpool share. The windows' arithmetic is in `dlc.ops.windows`."""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr, Attrs
from dlc.ir.tensor import TensorType
from dlc.ops.counting import lg, touched
from dlc.ops.operands import floating
from dlc.ops.operator import Cost, OperandError, Parameter, Shapes
from dlc.ops.windows import Windows, by, per_axis, slid, spatial, windows

PARAMETERS = (
    Parameter("window", "window", required=True, minimum=1),
    Parameter("stride", "window", like="window", minimum=1),
    Parameter("pad", "pad", default=0, minimum=0),
    Parameter("ceil", "bool", default=False),
)


def pooled(op: str, x: TensorType, attrs: Mapping[str, Attr]) -> tuple[TensorType, Attrs]:
    """x [batch, channel, …] -> y with an entry a window, and the attributes window, stride, pad and ceil.

    Errors: E0302 (no window fits), E0305, E0310, E0311, E0319 (a pad that a whole window could lie in).
    """
    floating(op, x)
    extents = spatial(op, x)
    slide = windows(attrs, len(extents))
    _check_pads(slide)
    y = slid(x, slide.output(extents))
    normalised = (("window", slide.window), ("stride", slide.stride), ("pad", slide.pad), ("ceil", slide.ceil))
    return y, normalised


def _check_pads(slide: Windows) -> None:
    """At most half of the window on each side, PyTorch's rule: then every window covers an element of the input."""
    for extent, pads in zip(slide.window, slide.pad, strict=True):
        if max(pads) > extent // 2:
            raise OperandError("E0319", argument="pad", pad=max(pads), window=by(slide.window))


def pool_cost(pass_: str, shapes: Shapes) -> Cost:
    """NCHW of the input; depth ⌈lg Kx⌉ + ⌈lg Ky⌉ + … forward, 1 for dx (cost-models.md §1)."""
    x = shapes.outputs[0] if pass_ == "dx" else shapes.inputs[0]
    depth = 1 if pass_ == "dx" else sum(map(lg, per_axis(shapes.attrs, "window", len(x.axes) - 2)))
    return Cost(0, x.elements, depth, touched(shapes))


def pooled_whole(op: str, x: TensorType) -> TensorType:
    """x [batch, channel, …] -> y with a single window over each channel's image. Errors: E0305, E0311."""
    floating(op, x)
    return slid(x, (1,) * len(spatial(op, x)))


def global_cost(pass_: str, shapes: Shapes) -> Cost:
    """A pool whose window is the whole image: NCHW; depth ⌈lg H⌉ + ⌈lg W⌉ + … forward, 1 for dx."""
    x = shapes.outputs[0] if pass_ == "dx" else shapes.inputs[0]
    depth = 1 if pass_ == "dx" else sum(map(lg, x.shape[2:]))
    return Cost(0, x.elements, depth, touched(shapes))
