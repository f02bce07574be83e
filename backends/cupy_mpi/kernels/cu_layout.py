"""Conversions of layouts: transposed matrices, one for each sample or for each pixel."""

from __future__ import annotations

from .launch import Array, Launch, Steps

MOST = 65535
"""Blocks along y and z."""


def convert(x: Array, y: Array, *, source: str, target: str, **_: object) -> Steps | None:
    """Images of real numbers in two layouts."""
    if x.ndim != 4 or source == target or x.dtype not in ("float32", "float64"):
        return None
    if not x.size:
        return ()
    n, c, height, width = (x.shape[source.index(axis)] for axis in "NCHW")
    p = height * width
    matrices, rows, columns, *strides = {
        ("NCHW", "NHWC"): (n, c, p, c * p, p, c * p, c),
        ("NHWC", "NCHW"): (n, p, c, c * p, c, c * p, p),
        ("NCHW", "CHWN"): (1, n, c * p, 0, c * p, 0, n),
        ("CHWN", "NCHW"): (1, c * p, n, 0, n, 0, c * p),
        ("NHWC", "CHWN"): (p, n, c, c, c * p, n, p * n),
        ("CHWN", "NHWC"): (p, c, n, n, p * n, c, c * p),
    }[source, target]
    blocks = (-(-columns // 32), -(-rows // 32), matrices)
    if max(blocks[1:]) > MOST:
        return None
    return (Launch((x, y, rows, columns, *strides), blocks, (32, 8)),)
