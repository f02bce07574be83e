"""Orders in memory of images, `NCHW`, `NHWC`, `CHWN` and those in blocks of channels, and views of them.

Kernels are written once, on views in the logical order batch, channel, height, width; the strides carry the layout.
`NCHW8c` is [batch][channel/8][height][width][8 channels], in an array of the shape NCHW.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Kernel = Callable[..., None]

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
    """Where a logical axis stands in memory; of blocks that of the samples, or of channels that fill blocks."""
    return TO_LOGICAL[layout[:4]][axis] if ndim == 4 else axis


def block_of(layout: str) -> int:
    """How many channels a block of a layout has: 8 of `NCHW8c`, 0 where there are no blocks."""
    return int(layout[4:-1]) if len(layout) > 4 else 0


def images_of_blocks(x: Array, layout: str) -> Array:
    """A view [sample and block, row, column, channel] of an array that has the shape NCHW and channels in blocks.

    So blocks are images in NHWC, for kernels to which samples and channels are alike.
    """
    n, c, *pixels = x.shape
    block = block_of(layout)
    view = x.view()
    view.shape = (n * c // block, *pixels, block)
    return view


def planes(x: Array, layout: str) -> Array:
    """A view of an image with rows and columns last, for kernels to which samples and channels are alike."""
    return images_of_blocks(x, layout).transpose(0, 3, 1, 2) if block_of(layout) else logical(x, layout)


def in_blocks(x: Array, layout: str, block: int) -> Array:
    """A view [batch, block, channel in it, height, width] of an array in a layout."""
    if block_of(layout):
        n, c, *pixels = x.shape
        return np.moveaxis(images_of_blocks(x, layout), 3, 1).reshape(n, c // block, block, *pixels)
    n, c, *pixels = (x := logical(x, layout)).shape
    return x.reshape(n, c // block, block, *pixels)


def convert(x: Array, y: Array, *, source: str, target: str, **_: object) -> None:
    """Copy x, in layout `source`, to y, in layout `target`; between blocks of two sizes through NCHW."""
    blocks = block_of(source), block_of(target)
    if not any(blocks):
        np.copyto(logical(y, target), logical(x, source))
    elif all(blocks):
        y[...] = x if source == target else repacked(repacked(x, source, "NCHW"), "NCHW", target)
    else:
        np.copyto(in_blocks(y, target, sum(blocks)), in_blocks(x, source, sum(blocks)))


def repacked(x: Array, source: str, target: str) -> Array:
    """A copy of an array of shape NCHW in another order: in blocks, or out of them."""
    y = np.empty_like(x, order="C")
    convert(x, y, source=source, target=target)
    return y


def by_planes(*images: int, results: tuple[int, ...] = (), behind_bias: bool = False) -> Callable[[Kernel], Kernel]:
    """Let a kernel that knows no blocks have copies in NCHW of the images that lie in blocks.

    `images` and `results` are the places of what it reads and writes among its arrays; a result behind a bias, which an
    op may have, is one place further then. The results are put back into blocks.
    """

    def decorated(kernel: Kernel) -> Kernel:
        @wraps(kernel)
        def by_planes(*arrays: Array, **attrs: Any) -> None:
            layout = attrs.get("layout", "NCHW")
            if not block_of(layout):
                kernel(*arrays, **attrs)
                return
            given, written = list(arrays), [at + bool(behind_bias and attrs.get("bias")) for at in results]
            for at in (*images, *written):
                given[at] = repacked(arrays[at], layout, "NCHW")
            kernel(*given, **attrs | {"layout": "NCHW"})
            for at in written:
                convert(given[at], arrays[at], source="NCHW", target=layout)

        return by_planes

    return decorated
