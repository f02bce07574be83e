"""Convolutions and pools in PyTorch, over one, two or three axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.nn import functional

from tests.operators.case import Reference

Tensors = Mapping[str, Tensor]
Attrs = Mapping[str, Any]

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


def maxpool(tensors: Tensors, attrs: Attrs) -> Tensor:
    """PyTorch pads evenly only, which `ceil` looks at: uneven pads, of `same`, are put in beforehand."""
    x, pad, rank = tensors["x"], attrs["pad"], len(attrs["window"])
    if any(before != after for before, after in pad):
        x, pad = padded(x, pad, -float("inf")), ((0, 0),) * rank
    return MAXPOOL[rank](x, attrs["window"], attrs["stride"], [before for before, _ in pad], ceil_mode=attrs["ceil"])


def avgpool(tensors: Tensors, attrs: Attrs) -> Tensor:
    """Even pads only."""
    given = {"ceil_mode": attrs["ceil"], "count_include_pad": attrs["count_pad"]}
    pads = [before for before, _ in attrs["pad"]]
    return AVGPOOL[len(pads)](tensors["x"], attrs["window"], attrs["stride"], pads, **given)


def global_avgpool(tensors: Tensors, attrs: Attrs) -> Tensor:
    """The mean over all axes but batch and channel."""
    return tensors["x"].mean(dim=tuple(range(2, tensors["x"].ndim)), keepdim=True)


def global_maxpool(tensors: Tensors, attrs: Attrs) -> Tensor:
    """The gradient goes to the first of equal elements."""
    whole: Callable[..., Tensor] = MAXPOOL_WHOLE[tensors["x"].ndim - 2]
    return whole(tensors["x"], 1)


REFERENCES: dict[str, Reference] = {
    "conv": conv,
    "maxpool": maxpool,
    "avgpool": avgpool,
    "global_avgpool": global_avgpool,
    "global_maxpool": global_maxpool,
}
