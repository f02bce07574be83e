"""Images cut into tiles: output tiles lie side by side, the input tiles that they are computed from overlap.

A tiled view is [n, g, c, a, b, t, u]: element (a, b) of tile (t, u) of the g-th group's c-th channel. Tiles that hang
over the end of an image are filled up with zeros when they are read, and cut off when they are written.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from .conv_matrices import Conv, blocks, shaped
from .layout import Array, logical
from .sliding import Extents, pad_into, windows


class Tiles(NamedTuple):
    """Extents of an output tile and of its input tile, and how many there are along each axis."""

    output: Extents
    input: Extents
    counts: Extents

    @property
    def span(self) -> Extents:
        """Extents of the input that all tiles together cover."""
        (m, n), (a, b), (t, u) = self
        return ((t - 1) * m + a, (u - 1) * n + b)


def cut(extents: Extents, output: Extents, reach: Extents) -> Tiles:
    """Tiles of an image of these extents whose every element reads `reach` elements of the input along each axis."""
    counts = (-(-extents[0] // output[0]), -(-extents[1] // output[1]))
    return Tiles(output, (output[0] + reach[0] - 1, output[1] + reach[1] - 1), counts)


def input_tiles(x: Array, tiles: Tiles, before: Extents, conv: Conv, workspace: Array) -> Array:
    """A tiled view of x behind `before` zeros, which may be negative; x is copied to the workspace."""
    image = logical(x, conv.layout)
    n, c = image.shape[:2]
    padded = shaped(workspace, *conv.shape(n, c, *tiles.span))
    pad_into(logical(padded, conv.layout), image, ((before[0], 0), (before[1], 0)))
    return windows(conv.image(padded), tiles.input, tiles.output, (1, 1), tiles.counts)


def output_tiles(y: Array, tiles: Tiles, conv: Conv, workspace: Array) -> Array:
    """A tiled view of y with zeros behind it."""
    return input_tiles(y, Tiles(tiles.output, tiles.output, tiles.counts), (0, 0), conv, workspace)


def tile_blocks(view: Array, room: int, conv: Conv) -> Iterator[slice]:
    """Blocks of a tiled view, of samples or in CHWN of rows of tiles, each of at most `room` tiles if that is not 0."""
    n, t, u = view.shape[0], view.shape[5], view.shape[6]
    if conv.layout == "CHWN":
        return blocks(t, room // (n * u)) if n else iter(())
    return blocks(n, room // (t * u))


def write_tiles(tiles: Array, y: Array, block: slice, conv: Conv) -> None:
    """Put a block of output tiles [n, g, k, a, b, t, u] in its place in y."""
    image, (a, b) = conv.image(y), tiles.shape[3:5]
    image = image[..., block.start * a : block.stop * a, :] if conv.layout == "CHWN" else image[block]
    for height, t, rows in _stretches(image.shape[3], a):
        for width, u, columns in _stretches(image.shape[4], b):
            source = tiles[:, :, :, :height, :width, t, u]
            target = windows(image[..., rows, columns], (height, width), (a, b), (1, 1), source.shape[5:])
            np.copyto(target, source)


def _stretches(extent: int, tile: int) -> Iterator[tuple[int, slice, slice]]:
    """(extent inside the tile, tiles, positions) of the whole tiles along an axis, and of the last, cut one."""
    whole, rest = divmod(extent, tile)
    if whole:
        yield tile, slice(0, whole), slice(0, whole * tile)
    if rest:
        yield rest, slice(whole, whole + 1), slice(whole * tile, extent)
