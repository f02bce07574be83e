"""Direct convolution: y[n,k,i,j] = Σ_c Σ_ky Σ_kx x[n, c, i·s+ky·d-p, j·s+kx·d-p]·w[k,c,ky,kx], tap by tap.

There is no column matrix: the input as one tap (ky, kx) reads it is multiplied by that tap's Cout x Cin weights, and
the products of all taps are added up.

Workspaces, in this order: weights by tap [ky, kx, g, k, c] (not for dw), the padded input (where there are pads; not
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
from .layout import Array, logical
from .sliding import taps


def conv_direct_forward(*arrays: Array, **attrs: Any) -> None:
    """x, weight, [bias] -> y."""
    conv = Conv(**attrs)
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
        for ky, kx in np.ndindex(*conv.window):
            first = ky == kx == 0
            np.copyto(shifted, read[:, :, :, ky, kx])
            multiply(w[ky, kx], matrix, out=conv.matrix(written if first else product))
            if not first:
                np.add(written, product, out=written)
        add_bias(written, bias, conv.layout)


def conv_direct_dx(*arrays: Array, **attrs: Any) -> None:
    """dy, weight -> dx."""
    conv = Conv(**attrs)
    dy, weight, dx, *rest = arrays
    w = _weights_by_tap(weight, conv, rest).swapaxes(-1, -2)
    (tap,) = rest
    dx.fill(0)
    image, (n, _, height, width) = conv.image(dx), logical(dy, conv.layout).shape
    for block in conv.blocks(tap, dy, conv.groups * weight.shape[1]):
        samples, rows = (slice(0, n), block) if conv.layout == "CHWN" else (block, slice(0, height))
        outputs = (rows.stop - rows.start, width)
        shape = (samples.stop - samples.start, *image.shape[1:3], 1, 1, *outputs)
        gradient, matrix = _one_tap(tap, shape, conv.layout)
        dy_part, dx_part = conv.matrix(conv.part(dy, block)), image[samples]
        for ky, kx, outs, ins in taps(
            image.shape[3:], outputs, conv.window, conv.stride, conv.pad_at(rows.start), conv.dilation
        ):
            np.matmul(w[ky, kx], dy_part, out=matrix)
            target = dx_part[..., ins[0], ins[1]]
            np.add(target, gradient[..., outs[0], outs[1]], out=target)


def conv_direct_dw(*arrays: Array, **attrs: Any) -> None:
    """dy, x -> dweight, [dbias]."""
    conv = Conv(**attrs)
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
        for ky, kx in np.ndindex(*conv.window):
            np.copyto(shifted, read[:, :, :, ky, kx])
            np.matmul(gradient, matrix.transpose(0, 2, 1), out=product)
            total = target[..., ky, kx]
            np.add(total, product, out=total) if block.start else np.copyto(total, product)


def _weights_by_tap(weight: Array, conv: Conv, workspaces: list[Array]) -> Array:
    """The weights as [ky, kx, g, k, c], in a workspace: BLAS wants each tap's matrix in one piece."""
    k, c, *window = weight.shape
    w = shaped(workspaces.pop(0), *window, conv.groups, k // conv.groups, c)
    np.copyto(w, weight.reshape(conv.groups, -1, c, *window).transpose(3, 4, 0, 1, 2))
    return w


def _one_tap(workspace: Array, shape: tuple[int, ...], order: str) -> tuple[Array, Array]:
    """Views of a workspace for the columns of a single tap, [n, g, c, i, j] and as a matrix."""
    view, matrix = columns(workspace, (*shape[:3], 1, 1, *shape[5:]), order)
    return view[:, :, :, 0, 0], matrix
