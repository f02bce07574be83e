"""Layouts of images: which values have them, which of them lie alike in memory, and which an op can take."""

from __future__ import annotations

from itertools import groupby

from dlc.ir.graph import Graph, Node
from dlc.ir.tensor import BATCH, TensorType
from dlc.ops.blocks import BLOCKED, takes_blocks
from dlc.ops.operator import LAYOUTS
from passes.differentiate import operator_of

IMAGE_AXES = (BATCH, "channel", "height", "width")
DEFAULT_LAYOUT = "NCHW"


def is_image(type_: TensorType) -> bool:
    """Whether a value has layouts to choose from: batch, channel, height, width."""
    return type_.names == IMAGE_AXES


def same_memory(type_: TensorType, one: str, other: str) -> bool:
    """Whether two layouts put the elements in the same order: axes of extent 1 may stand anywhere.

    Channels in blocks are two axes, which are one where nothing lies between them.
    """
    extents = dict(zip("NCHW", type_.shape, strict=True)) | {"N": 2}
    first, second = ([a for a in _axes(layout) if extents[a] > 1] for layout in (one, other))
    return one == other or [a for a, _ in groupby(first)] == [a for a, _ in groupby(second)]


def _axes(layout: str) -> str:
    """The axes from the outermost to the innermost one: `NCHWC` of channels in blocks."""
    return f"{layout[:4]}C" if layout in BLOCKED else layout


def offered(graph: Graph, node: Node, named: str = "") -> tuple[str, ...]:
    """The layouts that a forward op can take, the default first; ("",) where it has no image.

    One with channels in blocks is among them if it is `named`: what such layouts gain does not pay for a search of
    twice as many options (docs/decisions/0031).
    """
    op = operator_of(node)
    images = [graph.type(name) for name in (*node.inputs, *node.outputs) if is_image(graph.type(name))]
    if not images:
        return ("",)
    if op.elementwise and len({graph.type(name).names for name in node.inputs}) > 1:
        return (DEFAULT_LAYOUT,)  # broadcasting is by logical order
    blocked = (named,) if named in BLOCKED and takes_blocks(op, images, dict(node.attrs), named) else ()
    return (*(LAYOUTS if op.elementwise else (DEFAULT_LAYOUT, *op.layout_free)), *blocked)
