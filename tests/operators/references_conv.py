"""Convolutions and pools in PyTorch, over one, two or three axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tests.operators.case import Reference

Tensors = Mapping[str, Tensor]
Attrs = Mapping[str, Any]

CONV_TRANSPOSE = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}
CONV = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
MAXPOOL = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
AVGPOOL = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}
MAXPOOL_WHOLE = {
    1: functional.adaptive_max_pool1d,
    2: functional.adaptive_max_pool2d,
    3: functional.adaptive_max_pool3d,
}


def padded(x: Tensor, pad: tuple[tuple[int, int], ...], value: float = 0.0) -> Tensor:
    """x between constants; PyTorch lists the pads of the last axis first."""
    return functional.pad(x, [both for pads in reversed(pad) for both in pads], value=value)


def conv(tensors: Tensors, attrs: Attrs) -> Tensor:
    """Pads may differ before and after."""
    x, rank = padded(tensors["x"], attrs["pad"]), len(attrs["window"])
    given = (attrs["stride"], 0, attrs["dilation"], attrs["groups"])
    return CONV[rank](x, tensors["weight"], tensors.get("bias"), *given)


def depthwise_conv(tensors: Tensors, attrs: Attrs) -> Tensor:
    """A convolution with as many groups as channels."""
    return conv(tensors, {**attrs, "groups": tensors["x"].shape[1]})


def conv_transpose(tensors: Tensors, attrs: Attrs) -> Tensor:
    """Without pads, which PyTorch has the same on both sides: they are taken off the result."""
    rank = len(attrs["window"])
    strides = zip(attrs["stride"], attrs["dilation"], strict=True)
    assert all(extra < max(pair) for extra, pair in zip(attrs["output_pad"], strides, strict=True))
    y = CONV_TRANSPOSE[rank](
        tensors["x"],
        tensors["weight"],
        tensors.get("bias"),
        attrs["stride"],
        0,
        attrs["output_pad"],
        attrs["groups"],
        attrs["dilation"],
    )
    return padded(y, tuple((-before, -after) for before, after in attrs["pad"]))


def local_conv(tensors: Tensors, attrs: Attrs) -> Tensor:
    """The elements of each window, times the weights of its position."""
    read, weight, rank = padded(tensors["x"], attrs["pad"]), tensors["weight"], len(attrs["window"])
    for axis, (extent, stride, dilation) in enumerate(
        zip(attrs["window"], attrs["stride"], attrs["dilation"], strict=True), start=2
    ):
        read = read.unfold(axis, (extent - 1) * dilation + 1, stride)[..., ::dilation]
    columns = read.movedim(1, 1 + rank).flatten(1, rank).flatten(2)  # [n, position, channel and tap]
    y = torch.einsum("npq,pkq->nkp", columns, weight.flatten(0, rank - 1).flatten(2))
    y = y.reshape(len(y), weight.shape[rank], *weight.shape[:rank])
    return y + tensors["bias"] if "bias" in tensors else y


def upsample(tensors: Tensors, attrs: Attrs) -> Tensor:
    """Corners are not aligned."""
    linear = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(attrs["factor"])]
    given = {"mode": linear, "align_corners": False} if attrs["mode"] == "linear" else {"mode": "nearest"}
    extents = [extent * times for extent, times in zip(tensors["x"].shape[2:], attrs["factor"], strict=True)]
    return functional.interpolate(tensors["x"], size=extents, **given)


def maxpool(tensors: Tensors, attrs: Attrs) -> Tensor:
    """PyTorch pads evenly only, which `ceil` looks at: uneven pads, of `same`, are put in beforehand."""
    x, pad, rank = tensors["x"], attrs["pad"], len(attrs["window"])
    if any(before != after for before, after in pad):
        x, pad = padded(x, pad, -float("inf")), ((0, 0),) * rank
    return MAXPOOL[rank](x, attrs["window"], attrs["stride"], [before for before, _ in pad], ceil_mode=attrs["ceil"])


def avgpool(tensors: Tensors, attrs: Attrs) -> Tensor:
    """Uneven pads are put in beforehand; where they do not count, the mean is over as many ones as there are."""
    x, pad, given = tensors["x"], attrs["pad"], (attrs["window"], attrs["stride"])
    pool = AVGPOOL[len(pad)]
    if all(before == after for before, after in pad):
        pads = [before for before, _ in pad]
        return pool(x, *given, pads, ceil_mode=attrs["ceil"], count_include_pad=attrs["count_pad"])
    mean = pool(padded(x, pad), *given)
    return mean if attrs["count_pad"] else mean / pool(padded(torch.ones_like(x), pad), *given)


def global_avgpool(tensors: Tensors, attrs: Attrs) -> Tensor:
    """The mean over all axes but batch and channel."""
    return tensors["x"].mean(dim=tuple(range(2, tensors["x"].ndim)), keepdim=True)


def global_maxpool(tensors: Tensors, attrs: Attrs) -> Tensor:
    """The gradient goes to the first of equal elements."""
    whole: Callable[..., Tensor] = MAXPOOL_WHOLE[tensors["x"].ndim - 2]
    return whole(tensors["x"], 1)


REFERENCES: dict[str, Reference] = {
    "conv": conv,
    "depthwise_conv": depthwise_conv,
    "conv_transpose": conv_transpose,
    "local_conv": local_conv,
    "upsample": upsample,
    "maxpool": maxpool,
    "avgpool": avgpool,
    "global_avgpool": global_avgpool,
    "global_maxpool": global_maxpool,
}
