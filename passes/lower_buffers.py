"""Layouts of images: which values have them, and which of them lie alike in memory."""

from __future__ import annotations

from dlc.ir.tensor import BATCH, TensorType

IMAGE_AXES = (BATCH, "channel", "height", "width")
DEFAULT_LAYOUT = "NCHW"
ALIGNMENT = 64  # bytes: a cache line


def is_image(type_: TensorType) -> bool:
    """Whether a value has layouts to choose from: batch, channel, height, width."""
    return type_.names == IMAGE_AXES


def same_memory(type_: TensorType, one: str, other: str) -> bool:
    """Whether two layouts put the elements in the same order: axes of extent 1 may stand anywhere."""
    extents = dict(zip("NCHW", type_.shape, strict=True)) | {"N": 2}
    return [a for a in one if extents[a] > 1] == [a for a in other if extents[a] > 1]
