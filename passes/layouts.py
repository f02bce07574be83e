"""Layouts of images: which values have them, which of them lie alike in memory, and which an op can take."""

from __future__ import annotations

from dlc.ir.graph import Graph, Node
from dlc.ir.tensor import BATCH, TensorType
from dlc.ops.operator import LAYOUTS
from passes.differentiate import operator_of

IMAGE_AXES = (BATCH, "channel", "height", "width")
DEFAULT_LAYOUT = "NCHW"


def is_image(type_: TensorType) -> bool:
    """Whether a value has layouts to choose from: batch, channel, height, width."""
    return type_.names == IMAGE_AXES


def same_memory(type_: TensorType, one: str, other: str) -> bool:
    """Whether two layouts put the elements in the same order: axes of extent 1 may stand anywhere."""
    extents = dict(zip("NCHW", type_.shape, strict=True)) | {"N": 2}
    return [a for a in one if extents[a] > 1] == [a for a in other if extents[a] > 1]


def offered(graph: Graph, node: Node) -> tuple[str, ...]:
    """The layouts that a forward op can take, the default first; ("",) where it has no image."""
    op = operator_of(node)
    images = [graph.type(name) for name in (*node.inputs, *node.outputs) if is_image(graph.type(name))]
    if not images:
        return ("",)
    if op.elementwise:
        operands = {graph.type(name).names for name in node.inputs}
        return LAYOUTS if len(operands) == 1 else (DEFAULT_LAYOUT,)  # broadcasting is by logical order
    return (DEFAULT_LAYOUT, *op.layout_free)
