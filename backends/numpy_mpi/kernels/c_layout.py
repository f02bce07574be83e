"""What the C function that converts layouts is told for a call of `layout.convert`."""

from __future__ import annotations

from .layout import Array
from .native import Numbers


def convert(x: Array, y: Array, *, source: str, target: str, **_: object) -> Numbers | None:
    """Images of real numbers in two layouts."""
    if x.ndim != 4 or source == target or x.dtype.name not in ("float32", "float64"):
        return None
    n, c, rows, columns = (x.shape[source.index(axis)] for axis in "NCHW")
    p = rows * columns
    turns = {
        ("NCHW", "NHWC"): (n, c, p, c * p, p, c * p, c),
        ("NHWC", "NCHW"): (n, p, c, c * p, c, c * p, p),
        ("NCHW", "CHWN"): (1, n, c * p, 0, c * p, 0, n),
        ("CHWN", "NCHW"): (1, c * p, n, 0, n, 0, c * p),
        ("NHWC", "CHWN"): (p, n, c, c, c * p, n, p * n),
        ("CHWN", "NHWC"): (p, c, n, n, p * n, c, c * p),
    }
    return Numbers(turns[source, target])
