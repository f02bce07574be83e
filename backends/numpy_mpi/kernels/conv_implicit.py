"""Convolution as a product of matrices, the columns of a tap at a time: what devices compute without storing columns.

It needs no workspaces: for each tap the filters by channels of its weights are multiplied by the channels by pixels
that it reads. Here these are copied, and results added up in an array beside; on a GPU they are tiles on the chip.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from .conv_matrices import Conv, add_bias, bias_gradient, optional_bias
from .layout import Array
from .sliding import Extents, Region, at, taps


def conv_implicit_gemm_forward(*arrays: Array, **attrs: Any) -> None:
    """x, weight, [bias] -> y; allocates a tap's inputs and products."""
    conv = Conv.told(**attrs)
    x, weight, *rest = arrays
    bias, y = optional_bias(rest, conv), rest[0]
    y.fill(0)
    image, result, w = conv.image(x), conv.image(y), _weights(weight, conv)
    for tap, outs, ins in _taps(image, result, conv):
        target = at(result, 3, outs)
        read = at(image, 3, ins)
        np.add(target, (at(w, 3, tap) @ _matrix(read)).reshape(target.shape), out=target)
    add_bias(y, bias, conv.layout)


def conv_implicit_gemm_dx(*arrays: Array, **attrs: Any) -> None:
    """dy, weight -> dx; allocates a tap's gradients and products."""
    conv = Conv.told(**attrs)
    dy, weight, dx = arrays
    dx.fill(0)
    image, result, w = conv.image(dx), conv.image(dy), _weights(weight, conv)
    for tap, outs, ins in _taps(image, result, conv):
        target = at(image, 3, ins)
        products = at(w, 3, tap).swapaxes(-1, -2) @ _matrix(at(result, 3, outs))
        np.add(target, products.reshape(target.shape), out=target)


def conv_implicit_gemm_dw(*arrays: Array, **attrs: Any) -> None:
    """dy, x -> dweight, [dbias]; allocates a tap's inputs and gradients."""
    conv = Conv.told(**attrs)
    dy, x, dweight, *rest = arrays
    bias_gradient(dy, optional_bias(rest, conv), conv.layout)
    dweight.fill(0)
    image, result, w = conv.image(x), conv.image(dy), _weights(dweight, conv)
    for tap, outs, ins in _taps(image, result, conv):
        gradient, read = _matrix(at(result, 3, outs)), _matrix(at(image, 3, ins))
        np.add.reduce(gradient @ read.swapaxes(-1, -2), axis=0, out=at(w, 3, tap))


def _weights(weight: Array, conv: Conv) -> Array:
    """A view [group, filter, channel, *tap]."""
    return weight.reshape(conv.groups, -1, *weight.shape[1:])


def _taps(image: Array, result: Array, conv: Conv) -> Iterator[tuple[Extents, Region, Region]]:
    return taps(image.shape[3:], result.shape[3:], conv.window, conv.stride, conv.pad, conv.dilation)


def _matrix(part: Array) -> Array:
    """A part [n, group, channel, *pixel] of an image as matrices of channels by pixels, copied."""
    return part.reshape(*part.shape[:3], prod(part.shape[3:]))
