"""Winograd's minimal filtering F(m×m, 3×3), m = 2 or 4: fewer multiplications for 3x3 windows, stride 1, dilation 1.

A. Lavin, S. Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016; cost-models.md §2. With α = m + 2:
U = G g Gᵀ of each filter, V = Bᵀ d B of each α×α input tile, M = U·V for each of the α² positions, Y = Aᵀ M A of each
m×m output tile. A two-sided transform is one product with a Kronecker product: (Bᵀ ⊗ Bᵀ)·d with d as a column of α²
elements; BLAS does it for all tiles at once.

dx is the convolution of dy with filters turned by 180°. dw = Gᵀ (Σ (A dY Aᵀ)·Vᵀ) G, the sum being over the tiles.
Rounding: with m = 4 the error in f32 is about 13 times that of m = 2 (reliability.md).

Workspaces, in this order: `filters` U; `padded` the input with its pads; for dw `padded_gradient`; `tiles` and `data`
for the two ends of a transform and, for dw, `gradient` the transform of dy and `product`. As many samples (in CHWN rows
of tiles) are handled at a time as `data` has room for.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .conv_matrices import Conv, add_bias, bias_gradient, optional_bias, shaped, window_block
from .layout import Array, by_planes, logical
from .tiles import cut, input_tiles, output_tiles, tile_blocks, write_tiles


class Matrices(NamedTuple):
    """Kronecker squares of Aᵀ [m², α²], G [α², 9] and Bᵀ [α², α²]."""

    m: int
    output: Array
    filters: Array
    data: Array

    def cast(self, dtype: Any) -> Matrices:
        """The same in another precision."""
        return Matrices(self.m, *(matrix.astype(dtype, copy=False) for matrix in self[1:]))


def _matrices(output: list[list[float]], filters: list[list[float]], data: list[list[float]]) -> Matrices:
    squares = (np.kron(matrix, matrix).astype(np.float64) for matrix in (output, filters, data))
    return Matrices(len(output), *squares)


# Points 0, 1, -1 (and infinity).
F2 = _matrices(
    [[1, 1, 1, 0], [0, 1, -1, 1]],
    [[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]],
    [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, -1, 0, 1]],
)

# Points 0, 1, -1, 2, -2 (and infinity).
F4 = _matrices(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
)

ORDER = {"NCHW": (1, 2, 0, 3, 4), "NHWC": (0, 3, 4, 1, 2), "CHWN": (1, 2, 3, 4, 0)}
"""Order in memory, behind the position in a tile, of the axes n, g, c, t, u (a tile's row and column)."""


@by_planes(0, results=(2,), behind_bias=True)
def conv_winograd2_forward(*arrays: Array, **attrs: Any) -> None:
    """x, weight, [bias] -> y by F(2×2, 3×3)."""
    _forward(F2, arrays, Conv.told(**attrs))


@by_planes(0, results=(2,))
def conv_winograd2_dx(*arrays: Array, **attrs: Any) -> None:
    """dy, weight -> dx by F(2×2, 3×3)."""
    _dx(F2, arrays, Conv.told(**attrs))


@by_planes(0, 1)
def conv_winograd2_dw(*arrays: Array, **attrs: Any) -> None:
    """dy, x -> dweight, [dbias] by F(2×2, 3×3)."""
    _dw(F2, arrays, Conv.told(**attrs))


@by_planes(0, results=(2,), behind_bias=True)
def conv_winograd4_forward(*arrays: Array, **attrs: Any) -> None:
    """x, weight, [bias] -> y by F(4×4, 3×3)."""
    _forward(F4, arrays, Conv.told(**attrs))


@by_planes(0, results=(2,))
def conv_winograd4_dx(*arrays: Array, **attrs: Any) -> None:
    """dy, weight -> dx by F(4×4, 3×3)."""
    _dx(F4, arrays, Conv.told(**attrs))


@by_planes(0, 1)
def conv_winograd4_dw(*arrays: Array, **attrs: Any) -> None:
    """dy, x -> dweight, [dbias] by F(4×4, 3×3)."""
    _dw(F4, arrays, Conv.told(**attrs))


def _forward(f: Matrices, arrays: tuple[Array, ...], conv: Conv) -> None:
    x, weight, *rest = arrays
    f, bias, y, filters = f.cast(x.dtype), optional_bias(rest, conv), rest.pop(0), rest.pop(0)
    _correlate(f, x, _transform_filters(f.filters, weight, conv, filters), y, conv, rest)
    add_bias(y, bias, conv.layout)


def _dx(f: Matrices, arrays: tuple[Array, ...], conv: Conv) -> None:
    dy, weight, dx, filters, *rest = arrays
    f = f.cast(dy.dtype)
    turned = _transform_filters(f.filters[:, ::-1], weight, conv, filters).swapaxes(-1, -2)
    _correlate(f, dy, turned, dx, conv.turned(), rest)


def _dw(f: Matrices, arrays: tuple[Array, ...], conv: Conv) -> None:
    dy, x, dweight, *rest = arrays
    f = f.cast(x.dtype)
    bias_gradient(dy, optional_bias(rest, conv), conv.layout)
    if dy.size == 0:
        dweight.fill(0)
        return
    filters, padded, padded_gradient, read, data, gradient, product = rest
    tiles = cut(logical(dy, conv.layout).shape[2:], (f.m, f.m), (3, 3))
    view = input_tiles(x, tiles, (conv.pad[0][0], conv.pad[1][0]), conv, padded)
    dy_view = output_tiles(dy, tiles, conv, padded_gradient)
    channels, positions = dweight.shape[1], f.data.shape[0]
    shape = (positions, conv.groups, dweight.shape[0] // conv.groups, channels)
    total, part = shaped(filters, *shape), shaped(product, *shape)
    for block in tile_blocks(view, data.size // (positions * conv.groups * channels), conv):
        v = _transform(f.data, window_block(view, block, conv), conv, read, data)
        m = _transform(f.output.T, window_block(dy_view, block, conv), conv, read, gradient)
        np.matmul(m, v.swapaxes(-1, -2), out=part if block.start else total)
        if block.start:
            np.add(total, part, out=total)
    np.matmul(total.reshape(positions, -1).T, f.filters, out=dweight.reshape(-1, 9))


def _correlate(f: Matrices, x: Array, u: Array, y: Array, conv: Conv, workspaces: list[Array]) -> None:
    """y = x * filters, these as U [α², g, k, c]; of the pads only those before x count, y has extents of its own."""
    padded, read, data = workspaces
    tiles = cut(logical(y, conv.layout).shape[2:], (f.m, f.m), (3, 3))
    view = input_tiles(x, tiles, (conv.pad[0][0], conv.pad[1][0]), conv, padded)
    positions, groups, filters, channels = u.shape
    room = read.size // (positions * groups * max(channels, filters))
    for block in tile_blocks(view, room, conv):
        part = window_block(view, block, conv)
        v = _transform(f.data, part, conv, read, data)
        product = _stack(read, positions, part, filters, conv)
        np.matmul(u, v, out=_matrix(product, conv))
        result = _stack(data, f.m**2, part, filters, conv)
        np.matmul(f.output, product.reshape(positions, -1), out=result.reshape(f.m**2, -1))
        write_tiles(_tiled(result, (f.m, f.m), conv), y, block, conv)


def _transform_filters(matrix: Array, weight: Array, conv: Conv, workspace: Array) -> Array:
    """U [α², g, k, c] of the weights."""
    k, c = weight.shape[:2]
    u = shaped(workspace, matrix.shape[0], conv.groups, k // conv.groups, c)
    np.matmul(matrix, weight.reshape(-1, 9).T, out=u.reshape(matrix.shape[0], -1))
    return u


def _transform(matrix: Array, view: Array, conv: Conv, read: Array, result: Array) -> Array:
    """Tiles [n, g, c, a, b, t, u] through a two-sided transform: [positions, g, c, tiles] in `result`."""
    elements, positions, channels = matrix.shape[1], matrix.shape[0], view.shape[2]
    tiles = _stack(read, elements, view, channels, conv)
    np.copyto(_tiled(tiles, view.shape[3:5], conv), view)
    transformed = _stack(result, positions, view, channels, conv)
    np.matmul(matrix, tiles.reshape(elements, -1), out=transformed.reshape(positions, -1))
    return _matrix(transformed, conv)


def _stack(workspace: Array, positions: int, view: Array, channels: int, conv: Conv) -> Array:
    """Room for `channels` channels of the tiles of a view, position by position, in the layout's order behind that."""
    n, g, _, _, _, t, u = view.shape
    extents = (n, g, channels, t, u)
    return shaped(workspace, positions, *(extents[axis] for axis in ORDER[conv.layout]))


def _matrix(stack: Array, conv: Conv) -> Array:
    """A stack as a view [positions, g, c, tiles]."""
    if conv.layout == "NHWC":
        return stack.reshape(stack.shape[0], -1, *stack.shape[4:]).transpose(0, 2, 3, 1)
    return stack.reshape(*stack.shape[:3], -1)


def _tiled(stack: Array, extents: tuple[int, ...], conv: Conv) -> Array:
    """A stack as a view [n, g, c, a, b, t, u]."""
    n, g, c, t, u = (2 + ORDER[conv.layout].index(axis) for axis in range(5))
    return stack.reshape(*extents, *stack.shape[1:]).transpose(n, g, c, 0, 1, t, u)
