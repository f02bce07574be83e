"""Layouts with channels in blocks: `NCHW8c` is [batch][channel / 8][height][width][8 channels].

A vector of channels of neighbouring pixels lies together, so that rows of an image are read in one piece however many
channels there are. Channels have to fill blocks. What holds such a value has the shape NCHW and as many elements: parts
of the batch lie in it as ever, rows and columns do not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dlc.ir.graph import Attr
from dlc.ir.tensor import TensorType
from dlc.ops.operator import LAYOUTS, Operator

BLOCKED = ("NCHW4c", "NCHW8c", "NCHW16c")
"""A block is a vector of f32: of 16 bytes (NEON), 32 (AVX2) or 64 (AVX-512)."""

EVERY_LAYOUT = (*LAYOUTS, *BLOCKED)
"""All that can be asked for."""


def block_of(layout: str) -> int:
    """How many channels a block of a layout has: 1 where there are no blocks."""
    return int(layout[4:-1]) if layout in BLOCKED else 1


def without_blocks(layout: str) -> str:
    """The layout that is worked in where nothing works in blocks."""
    return "NCHW" if layout in BLOCKED else layout


def takes_blocks(op: Operator, images: Sequence[TensorType], attrs: Mapping[str, Attr], layout: str) -> bool:
    """Whether an op with these images, operands and results, can have them in this layout with blocks."""
    if not (op.blocked or op.elementwise) or any(image.shape[1] % block_of(layout) for image in images):
        return False
    if op.elementwise and len({image.shape for image in images}) > 1:  # what is repeated, is in logical order
        return False
    return attrs.get("groups", 1) == 1 and attrs.get("axis", 1) in (0, 1)
