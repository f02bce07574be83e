"""Integer stand-ins of pools and upsampling for `dlc verify --exact` (see `exact`).

Convolutions, depthwise, transposed and local ones too, maxpools and nearest upsampling are exact as they are.
"""

from __future__ import annotations

from math import prod

import numpy as np

from .exact import fold, folded
from .layout import Array, logical
from .pool import pool_taps
from .sliding import Extents, Pads, at
from .upsample import upsample_dx as upsample_dx_exactly
from .upsample import upsample_forward as upsample_exactly


def avgpool_forward(
    x: Array, y: Array, *, window: Extents, stride: Extents, pad: Pads, layout: str = "NCHW", **_: object
) -> None:
    """The sum of each window, folded."""
    x, y = logical(x, layout), logical(y, layout)
    y.fill(0)
    for _tap, outs, ins in pool_taps(x, y, window, stride, pad):
        target = at(y, 2, outs)
        np.add(target, at(x, 2, ins), out=target)
    fold(y, y)


def avgpool_dx(
    dy: Array, dx: Array, *, window: Extents, stride: Extents, pad: Pads, layout: str = "NCHW", **_: object
) -> None:
    """dy at every element of its window."""
    dy, dx = logical(dy, layout), logical(dx, layout)
    dx.fill(0)
    for _tap, outs, ins in pool_taps(dx, dy, window, stride, pad):
        target = at(dx, 2, ins)
        np.add(target, at(dy, 2, outs), out=target)


def global_avgpool_forward(x: Array, y: Array, *, layout: str = "NCHW", **_: object) -> None:
    """The sum of each channel's folded image: not folded again, as ranks with different rows add theirs up."""
    np.add.reduce(folded(logical(x, layout)), axis=tuple(range(2, x.ndim)), keepdims=True, out=logical(y, layout))


def global_avgpool_dx(dy: Array, dx: Array, *, layout: str = "NCHW", **_: object) -> None:
    """dy everywhere."""
    np.copyto(logical(dx, layout), logical(dy, layout))


def upsample_forward(x: Array, y: Array, *, factor: Extents, mode: str, layout: str = "NCHW", **attrs: object) -> None:
    """Linear: as many times the real result as makes it an integer, folded."""
    upsample_exactly(x, y, factor=factor, mode=mode, layout=layout, **attrs)
    if mode == "linear":
        _fold_fractions(y, factor)


def upsample_dx(dy: Array, dx: Array, *, factor: Extents, mode: str, layout: str = "NCHW", **attrs: object) -> None:
    """Linear: as many times the real gradient as makes it an integer, folded."""
    upsample_dx_exactly(dy, dx, factor=factor, mode=mode, layout=layout, **attrs)
    if mode == "linear":
        _fold_fractions(dx, factor)


def _fold_fractions(x: Array, factor: Extents) -> None:
    """Sums of shares of 1/(2f) along each axis are whole numbers but for rounding when multiplied by all of the 2f."""
    np.multiply(x, prod(2 * times for times in factor), out=x)
    np.rint(x, out=x)
    fold(x, x)
