"""Launches of locally connected layers: a thread a result. Each weight is read by its own position alone."""

from __future__ import annotations

from typing import Any

from .cu_conv_parts import Conv, conv_told, forward_axes, walk
from .launch import Array, Steps, each


def local_conv_forward(*arrays: Array, **attrs: Any) -> Steps | None:
    """x, weight, [bias] -> y."""
    x, weight, *bias, y = arrays
    conv = _told(x, weight, y, **attrs)
    operands = (x, weight, bias[0] if bias else None, y)
    return None if conv is None else _sized(y.size, operands, conv, "local_conv_forward")


def local_conv_dx(dy: Array, weight: Array, dx: Array, **attrs: Any) -> Steps | None:
    """dy, weight -> dx."""
    conv = _told(dx, weight, dy, **attrs)
    return None if conv is None else _sized(dx.size, (dy, weight, dx), conv, "local_conv_dx")


def local_conv_dw(dy: Array, x: Array, dweight: Array, *dbias: Array, **attrs: Any) -> Steps | None:
    """dy, x -> dweight, [dbias]."""
    conv = _told(x, dweight, dy, **attrs)
    if conv is None:
        return None
    summed = (_sized(each_one.size, (dy, each_one), conv, "local_conv_dw_bias") for each_one in dbias)
    return (*_sized(dweight.size, (dy, x, dweight), conv, "local_conv_dw"), *(step for some in summed for step in some))


def _sized(size: int, arrays: tuple[Array | None, ...], conv: Conv, kernel: str) -> Steps:
    return each(size, *arrays, numbers=(walk(conv, forward_axes(conv)),), kernel=kernel)


def _told(x: Array, weight: Array, y: Array, *, window: tuple[int, ...], **attrs: Any) -> Conv | None:
    """As a convolution whose filters are those of all positions."""
    return conv_told(x, weight.reshape(-1, weight.shape[-1 - len(window)], *window), y, window=window, **attrs)
