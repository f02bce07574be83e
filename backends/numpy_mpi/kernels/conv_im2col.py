"""Convolution as a matrix product with a column matrix (im2col), in three layouts.

The column matrix holds for each output the inputs that its window reads, in an order that lets the product write y as
it lies in memory. With W [g, k, q] the weights, q counting the channels and taps of a group, and p pixels:

* NCHW: columns [n, g, q, p], Y[n, g, k, p] = W·columns, one product a sample and group;
* NHWC: columns [p, g, q], Y[p, g, k] = columns·Wᵀ over many samples at once; channels are innermost in q;
* CHWN: columns [g, q, p], Y[g, k, p] = W·columns over many samples at once.

Backward (cost-models.md §2): dW = dY·columnsᵀ, dX = col2im(Wᵀ·dY). Columns are made for as many samples (in CHWN
output rows) at a time as the workspace has room for, and read again while still in the cache. A window of 1 with
stride 1 and no pad reads x itself. Sequences and volumes are computed like images in NCHW.

Workspaces, in this order: weights with channels innermost (NHWC), padded input (where there are pads; not for dx),
columns (unless x serves), for dw the product and, in NCHW, dy with pixels of all samples innermost.
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
from .sliding import at, taps


def conv_im2col_forward(*arrays: Array, **attrs: Any) -> None:
    """x, weight, [bias] -> y."""
    conv = Conv.told(**attrs)
    x, weight, *rest = arrays
    bias, y = optional_bias(rest, conv), rest.pop(0)
    w = _weight_matrix(weight, conv, rest)
    if conv.plain:
        np.matmul(w, conv.matrix(x), out=conv.matrix(y))
        add_bias(y, bias, conv.layout)
        return
    view = window_view(x, y, conv, rest)
    (workspace,) = rest
    for block in conv.blocks(workspace, y, w.shape[0] * w.shape[2]):
        read, written = window_block(view, block, conv), conv.part(y, block)
        filled, matrix = columns(workspace, read.shape, conv.layout)
        np.copyto(filled, read)
        np.matmul(w, matrix, out=conv.matrix(written))
        add_bias(written, bias, conv.layout)


def conv_im2col_dx(*arrays: Array, **attrs: Any) -> None:
    """dy, weight -> dx."""
    conv = Conv.told(**attrs)
    dy, weight, dx, *rest = arrays
    w = _weight_matrix(weight, conv, rest).transpose(0, 2, 1)
    if conv.plain:
        np.matmul(w, conv.matrix(dy), out=conv.matrix(dx))
        return
    (workspace,) = rest
    dx.fill(0)
    image, (n, _, *outputs) = conv.image(dx), logical(dy, conv.layout).shape
    for block in conv.blocks(workspace, dy, w.shape[0] * w.shape[1]):
        samples, rows = (slice(0, n), block) if conv.layout == "CHWN" else (block, slice(0, outputs[0]))
        extents = (rows.stop - rows.start, *outputs[1:])
        shape = (samples.stop - samples.start, *image.shape[1:3], *conv.window, *extents)
        gradients, matrix = columns(workspace, shape, conv.layout)
        np.matmul(w, conv.matrix(conv.part(dy, block)), out=matrix)
        _add_taps(gradients, image[samples], conv, rows.start)


def conv_im2col_dw(*arrays: Array, **attrs: Any) -> None:
    """dy, x -> dweight, [dbias]."""
    conv = Conv.told(**attrs)
    dy, x, dweight, *rest = arrays
    bias_gradient(dy, optional_bias(rest, conv), conv.layout)
    if dy.size == 0:
        dweight.fill(0)
        return
    target = _weight_view(dweight, conv)
    if conv.plain and conv.layout != "NCHW":
        (workspace,) = rest
        product = shaped(workspace, *target.shape)
        np.matmul(conv.matrix(dy), conv.matrix(x).transpose(0, 2, 1), out=product.reshape(*target.shape[:2], -1))
        np.copyto(target, product)
        return
    view = window_view(x, dy, conv, rest)
    order = "NCHW dw" if conv.layout == "NCHW" else conv.layout
    workspace, product = rest[0], shaped(rest[1], *target.shape)
    for block in conv.blocks(workspace, dy, target[:, 0].size):
        read = window_block(view, block, conv)
        filled, matrix = columns(workspace, read.shape, order)
        np.copyto(filled, read)
        gradient = dy_matrix(conv.part(dy, block), conv, rest[2:])
        np.matmul(gradient, matrix.transpose(0, 2, 1), out=product.reshape(*target.shape[:2], -1))
        if block.start == 0:
            np.copyto(target, product)
        else:
            np.add(target, product, out=target)


def _weight_view(weight: Array, conv: Conv) -> Array:
    """A view [g, k, …] of the weights whose last axes are channels and taps in the columns' order."""
    k, *read = weight.shape
    view = weight.reshape(conv.groups, k // conv.groups, *read)
    return np.moveaxis(view, 2, -1) if conv.layout == "NHWC" else view


def _weight_matrix(weight: Array, conv: Conv, workspaces: list[Array]) -> Array:
    """The weights as [g, k, q]; takes a workspace in NHWC, where they must be put in order."""
    view = _weight_view(weight, conv)
    if conv.layout == "NHWC":
        ordered = shaped(workspaces.pop(0), *view.shape)
        np.copyto(ordered, view)
        view = ordered
    return view.reshape(*view.shape[:2], -1)


def _add_taps(gradients: Array, image: Array, conv: Conv, first_row: int) -> None:
    """col2im: add columns [n, g, c, *tap, *pixel], those of output rows from `first_row` on, to what they read."""
    inputs, outputs = image.shape[3:], gradients.shape[3 + len(conv.window) :]
    pad = conv.pad_at(first_row)
    for position, outs, ins in taps(inputs, outputs, conv.window, conv.stride, pad, conv.dilation):
        target = at(image, 3, ins)
        np.add(target, at(gradients, 3, (*position, *outs)), out=target)
