"""Direct convolution: y[n,k,i,j] = Σ_c Σ_ky Σ_kx x[n, c, i·s+ky·d-p, j·s+kx·d-p]·w[k,c,ky,kx], tap by tap.

There is no column matrix: the input as one tap (ky, kx) reads it is multiplied by that tap's Cout x Cin weights, and
the products of all taps are added up. Sequences and volumes are computed alike.

Workspaces, in this order: weights by tap [*tap, g, k, c] (not for dw), the padded input (where there are pads; not
for dx), the input at one tap, the product (forward: y of a block; dw: weights of one tap; not for dx), for dw in NCHW
dy with the pixels of all samples innermost.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .conv_matrices import (
    Conv,
    add_bias,
    bias_gradient,
    columns,
    dy_matrix,
    optional_bias,
    shaped,
    window_block,
    window_view,
)
from .layout import Array, by_planes, logical
from .sliding import at, taps


@by_planes(0, results=(2,), behind_bias=True)
def conv_direct_forward(*arrays: Array, **attrs: Any) -> None:
    """x, weight, [bias] -> y."""
    conv = Conv.told(**attrs)
    x, weight, *rest = arrays
    bias, y = optional_bias(rest, conv), rest.pop(0)
    w = _weights_by_tap(weight, conv, rest)
    view = window_view(x, y, conv, rest)
    tap, products = rest
    multiply = np.multiply if weight.shape[1] == 1 else np.matmul  # of one channel: an outer product
    for block in conv.blocks(tap, y, conv.groups * weight.shape[1]):
        read, written = window_block(view, block, conv), conv.part(y, block)
        shifted, matrix = _one_tap(tap, read.shape, conv.layout)
        product = shaped(products, *written.shape)
        for position in np.ndindex(*conv.window):
            first = not any(position)
            np.copyto(shifted, at(read, 3, position))
            multiply(w[position], matrix, out=conv.matrix(written if first else product))
            if not first:
                np.add(written, product, out=written)
        add_bias(written, bias, conv.layout)


@by_planes(0, results=(2,))
def conv_direct_dx(*arrays: Array, **attrs: Any) -> None:
    """dy, weight -> dx."""
    conv = Conv.told(**attrs)
    dy, weight, dx, *rest = arrays
    w = _weights_by_tap(weight, conv, rest).swapaxes(-1, -2)
    (tap,) = rest
    dx.fill(0)
    image, (n, _, *outputs) = conv.image(dx), logical(dy, conv.layout).shape
    for block in conv.blocks(tap, dy, conv.groups * weight.shape[1]):
        samples, rows = (slice(0, n), block) if conv.layout == "CHWN" else (block, slice(0, outputs[0]))
        extents = (rows.stop - rows.start, *outputs[1:])
        shape = (samples.stop - samples.start, *image.shape[1:3], *conv.window, *extents)
        gradient, matrix = _one_tap(tap, shape, conv.layout)
        dy_part, dx_part = conv.matrix(conv.part(dy, block)), image[samples]
        for position, outs, ins in taps(
            image.shape[3:], extents, conv.window, conv.stride, conv.pad_at(rows.start), conv.dilation
        ):
            np.matmul(w[position], dy_part, out=matrix)
            target = at(dx_part, 3, ins)
            np.add(target, at(gradient, 3, outs), out=target)


@by_planes(0, 1)
def conv_direct_dw(*arrays: Array, **attrs: Any) -> None:
    """dy, x -> dweight, [dbias]."""
    conv = Conv.told(**attrs)
    dy, x, dweight, *rest = arrays
    bias_gradient(dy, optional_bias(rest, conv), conv.layout)
    if dy.size == 0:
        dweight.fill(0)
        return
    view = window_view(x, dy, conv, rest)
    tap, products, *copies = rest
    target = dweight.reshape(conv.groups, -1, *dweight.shape[1:])
    product = shaped(products, *target.shape[:3])
    order = "NCHW dw" if conv.layout == "NCHW" else conv.layout
    for block in conv.blocks(tap, dy, conv.groups * dweight.shape[1]):
        read = window_block(view, block, conv)
        shifted, matrix = _one_tap(tap, read.shape, order)
        gradient = dy_matrix(conv.part(dy, block), conv, copies)
        for position in np.ndindex(*conv.window):
            np.copyto(shifted, at(read, 3, position))
            np.matmul(gradient, matrix.transpose(0, 2, 1), out=product)
            total = at(target, 3, position)
            np.add(total, product, out=total) if block.start else np.copyto(total, product)


def _weights_by_tap(weight: Array, conv: Conv, workspaces: list[Array]) -> Array:
    """The weights as [*tap, g, k, c], in a workspace: BLAS wants each tap's matrix in one piece."""
    k, c, *window = weight.shape
    w = shaped(workspaces.pop(0), *window, conv.groups, k // conv.groups, c)
    np.copyto(np.moveaxis(w, (-3, -2, -1), (0, 1, 2)), weight.reshape(conv.groups, -1, c, *window))
    return w


def _one_tap(workspace: Array, shape: tuple[int, ...], order: str) -> tuple[Array, Array]:
    """Views of a workspace for the columns of a single tap of those of a shape, [n, g, c, *pixel] and as a matrix."""
    rank = (len(shape) - 3) // 2
    single = (0,) * rank
    view, matrix = columns(workspace, (*shape[:3], *(1,) * rank, *shape[3 + rank :]), order)
    return at(view, 3, single), matrix
