"""Convolution by Fourier transforms of tiles, for stride 1: y = F⁻¹(Σ_c F(x)·conj F(w)) (cost-models.md §2).

`fft` transforms each image whole, `fft_tiled` cuts it into overlapping tiles of bounded extent (overlap-save): windows
are then padded to a tile only. A tile of m outputs is computed from m + reach - 1 inputs, and a transform of at least
that length does not wrap around. Real inputs need half a spectrum. dx is the correlation of dy with turned weights;
dw = F⁻¹(Σ conj F(dy)·F(x)) over the tiles. A single infinite input makes its whole tile not finite.

Transforms write into workspaces; inside, NumPy's transforms use buffers of one line.

Workspaces, in this order: `kernel` the weights at their dilated places; `filters` their spectra; `padded` the input;
`spectra` and `products`, the spectra of the input's tiles and of the output's; `tiles` those transformed back. For dw
after `padded`: `padded_gradient`, `spectra` of x and of dy, and `products` of one block of tiles. Spectra are complex
numbers in real workspaces of twice the length. As many samples (in CHWN rows of tiles) are handled at a time as
`spectra` has room for.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .conv_matrices import Conv, add_bias, bias_gradient, optional_bias, shaped, window_block
from .layout import Array, logical
from .sliding import Extents
from .tiles import Tiles, cut, input_tiles, output_tiles, tile_blocks, write_tiles

TILE = 16
"""Length of the transforms of `fft_tiled`, doubled while less than half of a tile would be output."""


def conv_fft_forward(*arrays: Array, **attrs: Any) -> None:
    """x, weight, [bias] -> y, each image in one transform."""
    _forward(*as_images(arrays, attrs), tiled=False)


def conv_fft_dx(*arrays: Array, **attrs: Any) -> None:
    """dy, weight -> dx, each image in one transform."""
    _dx(*as_images(arrays, attrs), tiled=False)


def conv_fft_dw(*arrays: Array, **attrs: Any) -> None:
    """dy, x -> dweight, [dbias], each image in one transform."""
    _dw(*as_images(arrays, attrs), tiled=False)


def conv_fft_tiled_forward(*arrays: Array, **attrs: Any) -> None:
    """x, weight, [bias] -> y, tile by tile."""
    _forward(*as_images(arrays, attrs), tiled=True)


def conv_fft_tiled_dx(*arrays: Array, **attrs: Any) -> None:
    """dy, weight -> dx, tile by tile."""
    _dx(*as_images(arrays, attrs), tiled=True)


def conv_fft_tiled_dw(*arrays: Array, **attrs: Any) -> None:
    """dy, x -> dweight, [dbias], tile by tile."""
    _dw(*as_images(arrays, attrs), tiled=True)


def transform_length(extent: int, reach: int, *, tiled: bool) -> int:
    """The transform's length along an axis of so many outputs: a product of 2, 3 and 5, at least the tile's inputs."""
    needed = extent + reach - 1
    if tiled:
        tile = TILE
        while tile < 2 * (reach - 1):
            tile *= 2
        needed = min(needed, tile)
    return next(length for length in range(needed, 2 * needed + 1) if _is_smooth(length))


def _is_smooth(length: int) -> bool:
    for prime in (2, 3, 5):
        while length % prime == 0:
            length //= prime
    return length == 1


def as_images(arrays: tuple[Array, ...], attrs: dict[str, Any]) -> tuple[tuple[Array, ...], Conv]:
    """Sequences and their weights as images of height 1."""
    conv = Conv.told(**attrs)
    if arrays[0].ndim == 4:
        return arrays, conv
    images = (*[array[:, :, None] if array.ndim == 3 else array for array in arrays],)
    window, stride, dilation = (1, *conv.window), (1, *conv.stride), (1, *conv.dilation)
    return images, conv._replace(window=window, stride=stride, pad=((0, 0), *conv.pad), dilation=dilation)


def _forward(arrays: tuple[Array, ...], conv: Conv, *, tiled: bool) -> None:
    x, weight, *rest = arrays
    bias, y = optional_bias(rest, conv), rest.pop(0)
    _correlate(x, weight, y, conv, rest, tiled=tiled, turned=False)
    add_bias(y, bias, conv.layout)


def _dx(arrays: tuple[Array, ...], conv: Conv, *, tiled: bool) -> None:
    dy, weight, dx, *rest = arrays
    _correlate(dy, weight, dx, conv.turned(), rest, tiled=tiled, turned=True)


def _correlate(
    x: Array, weight: Array, y: Array, conv: Conv, workspaces: list[Array], *, tiled: bool, turned: bool
) -> None:
    """y = x * weight; of the pads only those before x count, y has extents of its own."""
    kernel, filters, padded, spectra, products, results = workspaces
    tiles, lengths = _tiles(y, conv, tiled=tiled)
    u = _filter_spectra(weight, conv, lengths, kernel, filters, turned=turned)
    view = input_tiles(x, tiles, (conv.pad[0][0], conv.pad[1][0]), conv, padded)
    room = spectra.size // (2 * lengths[0] * (lengths[1] // 2 + 1) * view.shape[1] * view.shape[2])
    for block in tile_blocks(view, room, conv):
        part = window_block(view, block, conv)
        v = _matrix(_spectra(part, lengths, spectra))
        outputs = (part.shape[0], *u.shape[2:4], *part.shape[5:])
        product = _stack(products, lengths, outputs, x.dtype)
        np.matmul(u, v, out=_matrix(product))
        np.fft.ifft(product, axis=0, out=product)
        result = shaped(results, tiles.output[0], lengths[1], *product.shape[2:])
        np.fft.irfft(product[: tiles.output[0]], n=lengths[1], axis=1, out=result)
        write_tiles(_tiled(result[:, : tiles.output[1]]), y, block, conv)


def _dw(arrays: tuple[Array, ...], conv: Conv, *, tiled: bool) -> None:
    dy, x, dweight, *rest = arrays
    bias_gradient(dy, optional_bias(rest, conv), conv.layout)
    if dy.size == 0:
        dweight.fill(0)
        return
    kernel, filters, padded, padded_gradient, x_spectra, dy_spectra, products = rest
    tiles, lengths = _tiles(dy, conv, tiled=tiled)
    view = input_tiles(x, tiles, (conv.pad[0][0], conv.pad[1][0]), conv, padded)
    dy_view = output_tiles(dy, tiles, conv, padded_gradient)
    k, c = dy_view.shape[2], view.shape[2]
    total = _filter_stack(filters, lengths, (conv.groups, k, c), x.dtype)
    part = _filter_stack(products, lengths, (conv.groups, k, c), x.dtype)
    room = x_spectra.size // (2 * lengths[0] * (lengths[1] // 2 + 1) * conv.groups * c)
    for block in tile_blocks(view, room, conv):
        v = _matrix(_spectra(window_block(view, block, conv), lengths, x_spectra))
        m = _matrix(_spectra(window_block(dy_view, block, conv), lengths, dy_spectra))
        np.conjugate(m, out=m)
        np.matmul(m, v.swapaxes(-1, -2), out=part if block.start else total)
        if block.start:
            np.add(total, part, out=total)
    reach = conv.reach
    np.fft.ifft(total, axis=0, out=total)
    result = shaped(kernel, reach[0], lengths[1], *total.shape[2:])
    np.fft.irfft(total[: reach[0]], n=lengths[1], axis=1, out=result)
    taps = result[:: conv.dilation[0], : reach[1] : conv.dilation[1]]
    np.copyto(dweight.reshape(conv.groups, k, c, *conv.window), taps.transpose(2, 3, 4, 0, 1))


def _tiles(y: Array, conv: Conv, *, tiled: bool) -> tuple[Tiles, Extents]:
    """How the output is cut, and the transforms' lengths."""
    extents, reach = logical(y, conv.layout).shape[2:], conv.reach
    height, width = (transform_length(extents[a], reach[a], tiled=tiled) for a in (0, 1))
    output = (min(extents[0], height - reach[0] + 1), min(extents[1], width - reach[1] + 1))
    return cut((extents[0], extents[1]), output, reach), (height, width)


def _filter_spectra(
    weight: Array, conv: Conv, lengths: Extents, kernel: Array, filters: Array, *, turned: bool
) -> Array:
    """Conjugate spectra [la, lb, g, k, c] of the weights; turned by 180°, they are [la, lb, g, c, k]."""
    k, c = weight.shape[0] // conv.groups, weight.shape[1]
    spread = shaped(kernel, *conv.reach, conv.groups, k, c)
    spread.fill(0)
    taps = weight[:, :, ::-1, ::-1] if turned else weight
    placed = spread[:: conv.dilation[0], :: conv.dilation[1]]
    np.copyto(placed, taps.reshape(conv.groups, k, c, *conv.window).transpose(3, 4, 0, 1, 2))
    u = _filter_stack(filters, lengths, (conv.groups, k, c), weight.dtype)
    _transform(spread, lengths, u)
    np.conjugate(u, out=u)
    return u.swapaxes(-1, -2) if turned else u


def _spectra(view: Array, lengths: Extents, workspace: Array) -> Array:
    """Spectra [la, lb, g, c, n, t, u] of tiles [n, g, c, a, b, t, u]."""
    n, g, c, _, _, t, u = view.shape
    stack = _stack(workspace, lengths, (n, g, c, t, u), view.dtype)
    _transform(view.transpose(3, 4, 1, 2, 0, 5, 6), lengths, stack)
    return stack


def _transform(x: Array, lengths: Extents, out: Array) -> None:
    """Two-dimensional transform of the first two axes, zeros being appended up to the lengths."""
    rows = x.shape[0]
    np.fft.rfft(x, n=lengths[1], axis=1, out=out[:rows])
    out[rows:] = 0
    np.fft.fft(out, axis=0, out=out)


def _stack(workspace: Array, lengths: Extents, extents: tuple[int, ...], dtype: Any) -> Array:
    """Room for spectra [la, lb, g, c, n, t, u] of tiles with extents n, g, c, t, u."""
    n, g, c, t, u = extents
    return shaped(_complex(workspace, dtype), lengths[0], lengths[1] // 2 + 1, g, c, n, t, u)


def _filter_stack(workspace: Array, lengths: Extents, extents: tuple[int, int, int], dtype: Any) -> Array:
    return shaped(_complex(workspace, dtype), lengths[0], lengths[1] // 2 + 1, *extents)


def _complex(workspace: Array, dtype: Any) -> Array:
    """A real workspace as complex numbers of that precision."""
    return workspace.reshape(-1).view(np.result_type(dtype, np.complex64))


def _matrix(stack: Array) -> Array:
    """A stack as [la, lb, g, c, tiles]."""
    return stack.reshape(*stack.shape[:4], -1)


def _tiled(stack: Array) -> Array:
    """Tiles [a, b, g, k, n, t, u] as a view [n, g, k, a, b, t, u]."""
    return stack.transpose(4, 2, 3, 0, 1, 5, 6)
