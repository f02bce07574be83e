"""Orders in memory of images, `NCHW`, `NHWC` and `CHWN`, and views of them in logical order.

Kernels are written once, on views in the logical order batch, channel, height, width; the strides carry the layout.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

Origin = tuple[tuple[tuple[int, int], ...], ...]
"""Where parts of larger arrays begin: for each array that a kernel takes, and each of its logical axes, (index of its
first element, extent of the whole). Samples are counted by themselves: their axis has (0, samples)."""

TO_LOGICAL = {"NCHW": (0, 1, 2, 3), "NHWC": (0, 3, 1, 2), "CHWN": (3, 0, 1, 2)}
"""Layout -> where the axes batch, channel, height, width stand in memory."""


def logical(x: Array, layout: str) -> Array:
    """A view [batch, channel, height, width] of an array in a layout; values without height and width pass by."""
    return x.transpose(TO_LOGICAL[layout]) if x.ndim == 4 else x


def physical(x: Array, layout: str) -> Array:
    """The reverse of `logical`: a view in the layout's order of axes."""
    return x.transpose(np.argsort(TO_LOGICAL[layout])) if x.ndim == 4 else x


def physical_axis(axis: int, layout: str, ndim: int = 4) -> int:
    """Where a logical axis stands in memory."""
    return TO_LOGICAL[layout][axis] if ndim == 4 else axis


def convert(x: Array, y: Array, *, source: str, target: str, **_: object) -> None:
    """Copy x, in layout `source`, to y, in layout `target`."""
    np.copyto(logical(y, target), logical(x, source))
